package rotation_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
)

// Each state in which a step cannot do its work, and what it says.
func TestRefusals(t *testing.T) {
	put := func(t *testing.T, srv *service, value string) {
		t.Helper()
		srv.Put(secretName, value)
	}
	other := strings.Replace(firstValue, `"app"`, `"other"`, 1)

	for _, test := range []struct {
		name    string
		step    string
		prepare func(t *testing.T, srv *service, mem *memory, token string) (newToken string)
		want    []string
		refused bool // matches ErrRefused
	}{
		{
			name: "rotation off", step: steps[0],
			prepare: func(t *testing.T, srv *service, _ *memory, token string) string {
				_, err := srv.client.CancelRotateSecret(t.Context(), &secretsmanager.CancelRotateSecretInput{SecretId: aws.String(secretName)})
				if err != nil {
					t.Fatal(err)
				}
				return token
			},
			want: []string{"rotation is not enabled", "enable it"},
		},
		{
			name: "unknown token", step: steps[0],
			prepare: func(*testing.T, *service, *memory, string) string { return "00000000-0000-0000-0000-000000000000" },
			want:    []string{"no such version", "start the rotation with rotate-secret"},
		},
		{
			name: "token without AWSPENDING", step: steps[1],
			prepare: func(t *testing.T, srv *service, _ *memory, token string) string {
				_, err := srv.client.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
					SecretId: aws.String(secretName), VersionStage: aws.String("OTHER"), MoveToVersionId: aws.String(token),
				})
				if err != nil {
					t.Fatal(err)
				}
				_, err = srv.client.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
					SecretId: aws.String(secretName), VersionStage: aws.String("AWSPENDING"), RemoveFromVersionId: aws.String(token),
				})
				if err != nil {
					t.Fatal(err)
				}
				return token
			},
			want: []string{"not AWSPENDING", `["OTHER"]`, "start a new one"},
		},
		{name: "unknown step", step: "dropSecret", want: []string{"unknown step", "createSecret, setSecret, testSecret and finishSecret"}},
		{name: "set before create", step: steps[1], want: []string{"AWSPENDING has no value", "createSecret"}},
		{name: "finish before create", step: steps[3], want: []string{"AWSPENDING has no value", "createSecret"}},
		{
			name: "deleted", step: steps[0],
			prepare: func(t *testing.T, srv *service, _ *memory, token string) string {
				_, err := srv.client.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String(secretName)})
				if err != nil {
					t.Fatal(err)
				}
				return token
			},
			want: []string{"marked for deletion", "restore it"},
		},
		{
			name: "a value that is no JSON", step: steps[0],
			prepare: func(t *testing.T, srv *service, _ *memory, token string) string {
				put(t, srv, "hidden")
				return token
			},
			want: []string{"yields no next value", "not valid JSON", "put a version that is right"},
		},
		{
			name: "a binary value", step: steps[0],
			prepare: func(t *testing.T, srv *service, _ *memory, token string) string {
				_, err := srv.client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
					SecretId: aws.String(secretName), SecretBinary: []byte("hidden"),
				})
				if err != nil {
					t.Fatal(err)
				}
				return token
			},
			want: []string{"is binary", "SecretString"},
		},
		{
			name: "edited before set", step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				put(t, srv, other)
				return token
			},
			want: []string{"AWSPENDING does not fit AWSCURRENT", "another user: app, not other", "edited", "repeat the rotation"},
		},
		{
			name: "edited before finish", step: steps[3],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				put(t, srv, other)
				return token
			},
			want: []string{"AWSPENDING does not fit AWSCURRENT"},
		},
		{
			name: "locked out, no AWSPREVIOUS", step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				mem.set("changed by hand")
				return token
			},
			want:    []string{"no version of the secret logs in", "by hand", "AWSCURRENT (version", "AWSPREVIOUS: there is none", "AWSPENDING:"},
			refused: true,
		},
		{
			name: "locked out", step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				put(t, srv, strings.Replace(firstValue, "first", "second", 1))
				created(t, srv, mem, token)
				mem.set("changed by hand")
				return token
			},
			want:    []string{"no version of the secret logs in", "AWSPREVIOUS (version"},
			refused: true,
		},
		{
			name: "AWSPREVIOUS is another user", step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				put(t, srv, other)
				put(t, srv, firstValue)
				created(t, srv, mem, token)
				mem.set("changed by hand")
				return token
			},
			want:    []string{"AWSPREVIOUS (version", "not tried", "another user: app, not other"},
			refused: true,
		},
		{
			name: "target down at set", step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				mem.fail(errors.New("no route to host"))
				return token
			},
			want: []string{"no route to host", "no verdict", "when the target answers"},
		},
		{
			name: "target down at test", step: steps[2],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				mem.fail(errors.New("no route to host"))
				return token
			},
			want: []string{"no route to host", "no verdict"},
		},
		{
			name: "test before set", step: steps[2],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				return token
			},
			want:    []string{"refuses AWSPENDING", "setSecret has not run", "first step"},
			refused: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv, mem := newService(t), newMemory()
			token := srv.begin(t)
			if test.prepare != nil {
				token = test.prepare(t, srv, mem, token)
			}
			before := srv.password("AWSCURRENT")
			mem.mu.Lock()
			live := mem.passwords["app"]
			mem.mu.Unlock()

			h := rotation.NewHandler(srv.client, mem, &rotation.Options{SettleTime: -1})
			err := h.Handle(t.Context(), event(test.step, token))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(test.want, test.step, secretName, token) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			e, ok := errors.AsType[*rotation.Error](err)
			if !ok || e.Step != test.step || e.SecretID != secretName || e.VersionID != token {
				t.Errorf("the error is no *Error with what it is about: %#v", err)
			}
			if got := errors.Is(err, rotation.ErrRefused); got != test.refused {
				t.Errorf("errors.Is(err, ErrRefused) = %t, want %t", got, test.refused)
			}
			for _, value := range []string{"first", "second", "by hand", "hidden"} {
				if strings.Contains(strings.ReplaceAll(err.Error(), "AWSCURRENT by hand", ""), `"`+value) {
					t.Errorf("the error quotes a value: %v", err)
				}
			}
			if srv.password("AWSCURRENT") != before || mem.passwords["app"] != live {
				t.Error("a step that failed has changed something")
			}
		})
	}
}

// created has the first step done.
func created(t *testing.T, srv *service, mem *memory, token string) {
	t.Helper()
	if err := run(t.Context(), rotation.NewHandler(srv.client, mem, nil), token, steps[0]); err != nil {
		t.Fatal(err)
	}
}

// Network errors of the service go to the caller as they are.
func TestServiceErrors(t *testing.T) {
	srv, mem, l := newService(t), newMemory(), &killtest.Life{}
	h := rotation.NewHandler(killtest.Client{API: srv.client, Life: l}, mem, nil)
	token := srv.begin(t)
	l.Begin(1)
	err := h.Handle(t.Context(), event(steps[0], token))
	if !errors.Is(err, killtest.ErrKilled) {
		t.Errorf("Handle = %v, want the client's error wrapped", err)
	}
}

// A service that manages a secret rotates it itself.
func TestManaged(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(managed{srv.client}, mem, nil)
	err := h.Handle(t.Context(), event(steps[0], srv.begin(t)))
	if err == nil || !strings.Contains(err.Error(), `managed by the service "rds"`) {
		t.Errorf("Handle = %v, want an error that names the service", err)
	}
}
