package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

// without checks that a rotation by Rotate has left nothing behind.
func (s *service) without(t *testing.T, version string) {
	t.Helper()
	if got := s.stages(version); !slices.Equal(got, []string{"AWSCURRENT"}) {
		t.Errorf("labels of the new version = %q", got)
	}
	out, err := s.client.ListSecretVersionIds(t.Context(), &secretsmanager.ListSecretVersionIdsInput{SecretId: aws.String(secretName)})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out.Versions {
		for _, stage := range v.VersionStages {
			if stage != "AWSCURRENT" && stage != "AWSPREVIOUS" {
				t.Errorf("a version is left with the label %s", stage)
			}
		}
	}
}

func TestRotate(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(srv.client, mem, nil)
	for range 3 {
		before := srv.password("AWSCURRENT")
		version, err := h.Rotate(t.Context(), secretName)
		if err != nil {
			t.Fatal(err)
		}
		srv.checkRotated(mem, version)
		srv.without(t, version)
		if srv.password("AWSPREVIOUS") != before {
			t.Error("AWSPREVIOUS is not what AWSCURRENT was")
		}
	}
	if n := srv.Count("RotateSecret"); n != 0 {
		t.Errorf("RotateSecret was called %d times", n)
	}
}

// Killed at any moment, it is completed by the next call, which makes no second
// password if there is one.
func TestRotateKilled(t *testing.T) {
	for _, alternating := range []bool{false, true} {
		t.Run(fmt.Sprintf("alternating=%t", alternating), func(t *testing.T) {
			srv, s, _ := newServers(t, alternating)
			s.life = &killtest.Life{}
			h := rotation.NewHandler(killtest.Client{API: srv.client, Life: s.life}, s, nil)
			for n := 1; ; n++ {
				pending := ""
				s.life.Begin(n)
				version, err := h.Rotate(t.Context(), secretName)
				over := s.life.Over()
				s.life.Begin(0)
				if err == nil { // the last of them are about labels that do not matter
					if !s.logsIn(srv, "AWSCURRENT") {
						t.Fatalf("killed at %d: AWSCURRENT does not log in", n)
					}
					if over {
						continue
					}
					if n < 50 {
						t.Fatalf("not killed at %d", n)
					}
					srv.without(t, version)
					return
				}
				current := s.logsIn(srv, "AWSCURRENT")
				if !current && (alternating || !s.logsIn(srv, "AWSPENDING")) {
					t.Fatalf("killed at %d: no version logs in", n)
				}
				pending = srv.holder("AWSPENDING")
				version, err = h.Rotate(t.Context(), secretName)
				if err != nil {
					t.Fatalf("killed at %d: %v", n, err)
				}
				if pending != "" && pending != version && !slices.Contains(srv.stages(pending), "AWSPREVIOUS") {
					t.Fatalf("killed at %d: a version that was AWSPENDING was given up", n)
				}
				if !s.logsIn(srv, "AWSCURRENT") {
					t.Fatalf("killed at %d: AWSCURRENT does not log in in the end", n)
				}
				srv.without(t, version)
			}
		})
	}
}

func (s *service) holder(stage string) string {
	s.t.Helper()
	out, err := s.client.DescribeSecret(s.t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String(secretName)})
	if err != nil {
		s.t.Fatal(err)
	}
	for id, stages := range out.VersionIdsToStages {
		if slices.Contains(stages, stage) {
			return id
		}
	}
	return ""
}

// Several programs rotate at once, and the service does too: there is one rotation
// at a time, and no password is lost.
func TestRotateConcurrent(t *testing.T) {
	for _, alternating := range []bool{false, true} {
		t.Run(fmt.Sprintf("alternating=%t", alternating), func(t *testing.T) {
			srv, s, h := newServers(t, alternating)
			srv.AddFunction(functionID, smtest.Lambda(h.Handle))
			for i := range 10 {
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						for range 20 {
							_, err := h.Rotate(t.Context(), secretName)
							if err == nil {
								return
							}
							// What others do in the meantime may get in the way.
							if e, ok := errors.AsType[*rotation.Error](err); !ok || !slices.Contains(inTheWay, e.Reason) {
								t.Error(err)
							}
						}
						t.Error("Rotate does not get through")
					})
				}
				if i%2 == 1 {
					wg.Go(func() {
						// It fails if a rotation is under way, and repeats that.
						_, _ = srv.client.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
							SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID),
						})
						_ = srv.Wait(t.Context(), secretName)
					})
				}
				wg.Wait()
				if _, err := h.Rotate(t.Context(), secretName); err != nil { // what the service has left
					t.Fatal(err)
				}
				if !s.logsIn(srv, "AWSCURRENT") || srv.holder("AWSPENDING") != "" {
					t.Fatalf("round %d: AWSCURRENT does not log in, or AWSPENDING is left", i)
				}
			}
		})
	}
}

var inTheWay = []rotation.Reason{
	rotation.ReasonUnknown, rotation.ReasonNotPending, rotation.ReasonNoVersion, rotation.ReasonEdited, rotation.ReasonNotSet,
}

// What the service has left undone is completed, whether rotation is enabled or not.
func TestRotateResumes(t *testing.T) {
	for _, done := range []int{0, 1, 2, 3, 4} {
		srv, mem := newService(t), newMemory()
		h := rotation.NewHandler(srv.client, mem, nil)
		token := srv.begin(t)
		if err := run(t.Context(), h, token, steps[:done]...); err != nil {
			t.Fatal(err)
		}
		if _, err := srv.client.CancelRotateSecret(t.Context(), &secretsmanager.CancelRotateSecretInput{SecretId: aws.String(secretName)}); err != nil {
			t.Fatal(err)
		}
		version, err := h.Rotate(t.Context(), secretName)
		if err != nil {
			t.Fatal(err)
		}
		if done < 4 && version != token {
			t.Errorf("after %d steps: another version was rotated to", done)
		}
		srv.checkRotated(mem, version)
		srv.without(t, version)
	}
}

// All reads lag behind.
func TestRotateStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, mem := newService(t), newMemory()
		h := rotation.NewHandler(&stale{API: srv.client}, mem, nil)
		for range 3 {
			version, err := h.Rotate(t.Context(), secretName)
			if err != nil {
				t.Fatal(err)
			}
			srv.checkRotated(mem, version)
		}
	})
}

func TestRotateRefusals(t *testing.T) {
	for _, test := range []struct {
		name   string
		secret string
		client func(srv *service) rotation.API
		reason rotation.Reason
		want   string
	}{
		{"managed", secretName, func(srv *service) rotation.API { return managed{srv.client} }, rotation.ReasonManaged, `managed by the service "rds"`},
		{"no value", "prod/empty", nil, rotation.ReasonNoValue, "put a first value"},
		{"no secret", "prod/none", nil, rotation.ReasonUnknown, "can't find the specified secret"},
		{"nothing named", "", nil, rotation.ReasonBadEvent, "no secret is named"},
		{"denied", secretName, func(srv *service) rotation.API {
			srv.Inject(smtest.Fault{Operation: "PutSecretValue", Err: &smtest.Error{Code: "AccessDeniedException", Message: "not authorized", Status: 400}})
			return srv.client
		}, rotation.ReasonPermission, "allow it to the role that the function runs as"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := newService(t)
			if _, err := srv.client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("prod/empty")}); err != nil {
				t.Fatal(err)
			}
			client := rotation.API(srv.client)
			if test.client != nil {
				client = test.client(srv)
			}
			_, err := rotation.NewHandler(client, newMemory(), &rotation.Options{SettleTime: -1}).Rotate(t.Context(), test.secret)
			e, ok := errors.AsType[*rotation.Error](err)
			if !ok || e.Reason != test.reason || e.SecretID != test.secret || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Rotate = %v (%+v), want %q", err, e, test.want)
			}
		})
	}
}

// A cancelled context ends it between two calls, and loses nothing.
func TestRotateCancelled(t *testing.T) {
	srv, mem := newService(t), newMemory()
	ctx, cancel := context.WithCancel(t.Context())
	defer srv.Inject(smtest.Fault{Operation: "UpdateSecretVersionStage", Stage: "AWSCURRENT", Before: func(context.Context, smtest.Call) { cancel() }})()
	h := rotation.NewHandler(srv.client, mem, nil)
	if _, err := h.Rotate(ctx, secretName); !errors.Is(err, context.Canceled) {
		t.Fatalf("Rotate = %v, want context.Canceled", err)
	}
	version, err := h.Rotate(t.Context(), secretName)
	if err != nil {
		t.Fatal(err)
	}
	srv.checkRotated(mem, version)
}
