package smtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

const functionARN = "arn:aws:lambda:us-east-1:123456789012:function:rotate"

type event struct {
	Step               string
	SecretID           string `json:"SecretId"`
	ClientRequestToken string
}

// A rotator is a rotation function as the service's templates write it, and notes
// its events. hook, if there is one, comes before each step.
type rotator struct {
	c      *sm.Client
	events []event
	hook   func(ctx context.Context, e event) error
}

func (r *rotator) handle(ctx context.Context, e event) error {
	r.events = append(r.events, e)
	if r.hook != nil {
		if err := r.hook(ctx, e); err != nil {
			return err
		}
	}
	d, err := r.c.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: aws.String(e.SecretID)})
	if err != nil {
		return err
	}
	if !slices.Contains(d.VersionIdsToStages[e.ClientRequestToken], pend) {
		return fmt.Errorf("version %s is not AWSPENDING: %v", e.ClientRequestToken, d.VersionIdsToStages)
	}
	switch e.Step {
	case "createSecret":
		_, err := r.c.GetSecretValue(ctx, &sm.GetSecretValueInput{
			SecretId: aws.String(e.SecretID), VersionId: aws.String(e.ClientRequestToken), VersionStage: aws.String(pend),
		})
		if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
			return err
		}
		_, err = r.c.PutSecretValue(ctx, &sm.PutSecretValueInput{
			SecretId: aws.String(e.SecretID), ClientRequestToken: aws.String(e.ClientRequestToken),
			SecretString: aws.String("made by createSecret"), VersionStages: []string{pend},
		})
		return err
	case "finishSecret":
		in := &sm.UpdateSecretVersionStageInput{
			SecretId: aws.String(e.SecretID), VersionStage: aws.String(cur), MoveToVersionId: aws.String(e.ClientRequestToken),
		}
		for id, stages := range d.VersionIdsToStages {
			if slices.Contains(stages, cur) {
				in.RemoveFromVersionId = aws.String(id)
			}
		}
		_, err := r.c.UpdateSecretVersionStage(ctx, in)
		return err
	}
	return nil
}

// steps are the steps called, with the version they were called for.
func (r *rotator) steps() string {
	var out []string
	for _, e := range r.events {
		out = append(out, strings.TrimSuffix(e.Step, "Secret")+"/"+short(e.ClientRequestToken))
	}
	return strings.Join(out, " ")
}

func newRotator(srv *smtest.Server) *rotator {
	r := &rotator{c: client(srv)}
	srv.AddFunction(functionARN, smtest.Lambda(r.handle))
	return r
}

// rotate is RotateSecret of s with the function.
func rotate(t *testing.T, c *sm.Client, token string, opts ...func(*sm.RotateSecretInput)) error {
	t.Helper()
	in := &sm.RotateSecretInput{
		SecretId: aws.String("s"), ClientRequestToken: aws.String(ver(token)), RotationLambdaARN: aws.String(functionARN),
	}
	for _, opt := range opts {
		opt(in)
	}
	_, err := c.RotateSecret(t.Context(), in)
	return err
}

func later(in *sm.RotateSecretInput) { in.RotateImmediately = aws.Bool(false) }

const allFour = "create/b set/b test/b finish/b"

func TestRotateSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		arn := create(t, c, "s", "a", "one")
		r := newRotator(srv)
		began := make(chan struct{})
		r.hook = func(context.Context, event) error {
			if len(r.events) == 1 {
				<-began
			}
			return nil
		}
		out, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{
			SecretId: aws.String("s"), ClientRequestToken: aws.String(ver("b")), RotationLambdaARN: aws.String(functionARN),
			RotationRules: &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)},
		})
		if err != nil || *out.VersionId != ver("b") || *out.ARN != arn || *out.Name != "s" {
			t.Fatalf("RotateSecret = %+v, %v", out, err)
		}

		// It has answered, and the new version is there without a value.
		if got, want := versions(t, c, "s"), "a:AWSCURRENT b:AWSPENDING"; got != want {
			t.Errorf("while rotating: versions = %q, want %q", got, want)
		}
		_, err = c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s"), VersionStage: aws.String(pend)})
		wantError(t, err, "ResourceNotFoundException: Secrets Manager can't find the specified secret value for staging label: AWSPENDING")
		_, err = c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s"), VersionId: aws.String(ver("b"))})
		wantError(t, err, "ResourceNotFoundException: Secrets Manager can't find the specified secret value for VersionId: "+ver("b"))
		if err := move(t.Context(), c, "s", cur, "a", "b"); err == nil {
			t.Error("AWSCURRENT moved to a version without a value")
		}

		time.Sleep(time.Second)
		finished := time.Now()
		close(began)
		if err := srv.Wait(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
			t.Errorf("versions = %q, want %q", got, want)
		}
		wantValue(t, c, "s", "made by createSecret")
		if r.steps() != allFour || r.events[0].SecretID != arn {
			t.Errorf("events = %v", r.events)
		}
		d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
		if err != nil {
			t.Fatal(err)
		}
		if !*d.RotationEnabled || *d.RotationLambdaARN != functionARN || *d.RotationRules.AutomaticallyAfterDays != 30 ||
			!d.LastRotatedDate.Equal(finished) {
			t.Errorf("DescribeSecret = %+v", d)
		}

		// The function is remembered, and so are the rules.
		if err := rotate(t, c, "c", func(in *sm.RotateSecretInput) { in.RotationLambdaARN = nil }); err != nil {
			t.Fatal(err)
		}
		if err := srv.Wait(t.Context(), arn); err != nil {
			t.Fatal(err)
		}
		if got, want := versions(t, c, "s"), "a: b:AWSPREVIOUS c:AWSCURRENT"; got != want {
			t.Errorf("versions = %q, want %q", got, want)
		}
		d, err = c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
		if err != nil || d.RotationRules == nil {
			t.Errorf("RotationRules = %v, %v, want those of the first call", d.RotationRules, err)
		}
	})
}

// A refused RotateSecret stores nothing.
func TestRotateSecretErrors(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	newRotator(srv)
	for _, tt := range []struct {
		in   sm.RotateSecretInput
		want string
	}{
		{
			sm.RotateSecretInput{},
			"InvalidRequestException: No Lambda rotation function ARN is associated with this secret.",
		},
		{
			sm.RotateSecretInput{RotationLambdaARN: aws.String(functionARN + "2")},
			"AccessDeniedException: Secrets Manager cannot invoke the specified Lambda function. Ensure that the function policy grants access to the principal secretsmanager.amazonaws.com.",
		},
		{
			sm.RotateSecretInput{SecretId: aws.String("none"), RotationLambdaARN: aws.String(functionARN)},
			"ResourceNotFoundException: Secrets Manager can't find the specified secret.",
		},
		{
			sm.RotateSecretInput{RotationLambdaARN: aws.String(functionARN), RotationRules: &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(1001)}},
			"InvalidParameterException: RotationRules.AutomaticallyAfterDays must be within 1-1000.",
		},
		{
			sm.RotateSecretInput{RotationLambdaARN: aws.String(functionARN), ClientRequestToken: aws.String("short")},
			"InvalidParameterException: ClientRequestToken must be 32-64 characters long.",
		},
	} {
		if tt.in.SecretId == nil {
			tt.in.SecretId = aws.String("s")
		}
		_, err := c.RotateSecret(t.Context(), &tt.in)
		wantError(t, err, tt.want)
	}
	_, err := c.CancelRotateSecret(t.Context(), &sm.CancelRotateSecretInput{SecretId: aws.String("s")})
	if err == nil {
		t.Error("CancelRotateSecret without rotation: no error")
	}
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
	if err != nil || d.RotationEnabled != nil || d.RotationLambdaARN != nil || d.RotationRules != nil {
		t.Errorf("DescribeSecret shows a rotation that was refused: %+v, %v", d, err)
	}
	if got, want := versions(t, c, "s"), "a:AWSCURRENT"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Errorf("Wait = %v, want nil: there was no rotation", err)
	}
	if err := srv.Wait(t.Context(), "none"); err == nil {
		t.Error("Wait for a secret that does not exist: no error")
	}
}

// A step that fails leaves the labels alone, and the next RotateSecret runs all
// four steps again for the same version.
func TestRotationFails(t *testing.T) {
	errStep := errors.New("out of order")
	for _, step := range []string{"createSecret", "setSecret", "testSecret", "finishSecret"} {
		for how, fail := range map[string]func() error{
			"error":  func() error { return errStep },
			"panic":  func() error { panic(errStep) },
			"goexit": func() error { runtime.Goexit(); return nil },
		} {
			t.Run(step+" "+how, func(t *testing.T) {
				srv, c := newServer(t)
				arn := create(t, c, "s", "a", "one")
				r := newRotator(srv)
				r.hook = func(_ context.Context, e event) error {
					if e.Step == step {
						return fail()
					}
					return nil
				}
				if err := rotate(t, c, "b"); err != nil {
					t.Fatal(err)
				}
				err := srv.Wait(t.Context(), "s")
				got, ok := errors.AsType[*smtest.RotationError](err)
				if !ok || got.Step != step || got.VersionID != ver("b") || got.SecretID != arn {
					t.Errorf("Wait = %v, want a RotationError of %s", err, step)
				}
				if how == "goexit" {
					if want := step + ": the function ended its goroutine"; err.Error() != want {
						t.Errorf("Wait = %v, want %s", err, want)
					}
				} else if !errors.Is(err, errStep) {
					t.Errorf("Wait = %v, want the function's error in it", err)
				}
				if got, want := versions(t, c, "s"), "a:AWSCURRENT b:AWSPENDING"; got != want {
					t.Errorf("versions = %q, want %q", got, want)
				}
				wantValue(t, c, "s", "one")

				r.hook, r.events = nil, nil
				wantError(t, rotate(t, c, "c"),
					"InvalidRequestException: A previous rotation isn't complete. That rotation will be reattempted.")
				if err := srv.Wait(t.Context(), "s"); err != nil {
					t.Errorf("reattempt: %v", err)
				}
				if r.steps() != allFour {
					t.Errorf("reattempt: steps = %s, want %s", r.steps(), allFour)
				}
				if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
					t.Errorf("versions = %q, want %q", got, want)
				}
			})
		}
	}
}

func TestFinishDoesNotMove(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	srv.AddFunction(functionARN, func(context.Context, []byte) error { return nil })
	if err := rotate(t, c, "b"); err != nil {
		t.Fatal(err)
	}
	err := srv.Wait(t.Context(), "s")
	if got, ok := errors.AsType[*smtest.RotationError](err); !ok || got.Step != "finishSecret" {
		t.Errorf("Wait = %v, want a RotationError of finishSecret", err)
	}
	if got, want := versions(t, c, "s"), "a:AWSCURRENT b:AWSPENDING"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

func TestRotateWhileRotating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		hold := make(chan struct{})
		r.hook = func(context.Context, event) error { <-hold; return nil }
		if err := rotate(t, c, "b"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantError(t, rotate(t, c, "c"),
			"InvalidRequestException: A previous rotation isn't complete. That rotation will be reattempted.")
		if err := rotate(t, c, "b"); err != nil {
			t.Errorf("the same RotateSecret again: %v", err)
		}
		if _, err := srv.Rotate(t.Context(), "s", "two"); err == nil {
			t.Error("Rotate while a rotation is running: no error")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := srv.Wait(ctx, "s"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v, want its context's error", err)
		}
		close(hold)
		if err := srv.Wait(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		if r.steps() != allFour {
			t.Errorf("steps = %s, want one rotation", r.steps())
		}
		// Once more, long after.
		if err := rotate(t, c, "b"); err != nil {
			t.Errorf("the same RotateSecret after its end: %v", err)
		}
		wantError(t, rotate(t, c, "a"), withARN("ResourceExistsException: You can't use ClientRequestToken "+ver("a")+
			" because that value is already in use for a version of secret {arn}.", r.events[0].SecretID))
		synctest.Wait()
		if r.steps() != allFour {
			t.Errorf("steps = %s, want one rotation", r.steps())
		}
	})
}

// A pending version that somebody made by hand counts as a rotation too.
func TestRotateSecretFinishesPendingByHand(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	r := newRotator(srv)
	if err := put(t.Context(), c, "s", "b", "two", pend); err != nil {
		t.Fatal(err)
	}
	wantError(t, rotate(t, c, "c"), "InvalidRequestException: A previous rotation isn't complete. That rotation will be reattempted.")
	if err := srv.Wait(t.Context(), "s"); err != nil || r.steps() != allFour {
		t.Errorf("Wait = %v, steps = %s", err, r.steps())
	}
	wantValue(t, c, "s", "two")
}

func TestRotateSecretWithPendingOnCurrent(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	newRotator(srv)
	if err := move(t.Context(), c, "s", pend, "", "a"); err != nil {
		t.Fatal(err)
	}
	if err := rotate(t, c, "b"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

func TestRotateLater(t *testing.T) {
	for name, fail := range map[string]error{"passes": nil, "fails": errors.New("no")} {
		t.Run(name, func(t *testing.T) {
			srv, c := newServer(t)
			create(t, c, "s", "a", "one")
			r := newRotator(srv)
			r.hook = func(ctx context.Context, e event) error {
				out, err := r.c.GetSecretValue(ctx, &sm.GetSecretValueInput{
					SecretId: aws.String(e.SecretID), VersionId: aws.String(e.ClientRequestToken), VersionStage: aws.String(pend),
				})
				if err != nil || *out.SecretString != "one" {
					t.Errorf("the temporary version holds %v, %v", out, err)
				}
				return fail
			}
			if err := rotate(t, c, "b", later); err != nil {
				t.Fatal(err)
			}
			if err := srv.Wait(t.Context(), "s"); !errors.Is(err, fail) || (err == nil) != (fail == nil) {
				t.Errorf("Wait = %v, want %v", err, fail)
			}
			if r.steps() != "test/b" {
				t.Errorf("steps = %s, want testSecret alone", r.steps())
			}
			if got, want := versions(t, c, "s"), "a:AWSCURRENT"; got != want {
				t.Errorf("versions = %q, want %q", got, want)
			}
			d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
			if err != nil || !*d.RotationEnabled || d.LastRotatedDate != nil {
				t.Errorf("DescribeSecret = %+v, %v", d, err)
			}
		})
	}
}

func TestCancelRotateSecret(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	r := newRotator(srv)
	r.hook = func(context.Context, event) error { return errors.New("no") }
	if err := rotate(t, c, "b"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err == nil {
		t.Fatal("the rotation did not fail")
	}
	if _, err := c.CancelRotateSecret(t.Context(), &sm.CancelRotateSecretInput{SecretId: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
	if err != nil || *d.RotationEnabled || *d.RotationLambdaARN != functionARN {
		t.Errorf("DescribeSecret = %+v, %v", d, err)
	}
	if got, want := versions(t, c, "s"), "a:AWSCURRENT b:AWSPENDING"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

func TestCloseEndsRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := smtest.New(&smtest.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		c := client(srv)
		create(t, c, "s", "a", "secret-value")
		var ended atomic.Bool
		srv.AddFunction(functionARN, func(ctx context.Context, _ []byte) error {
			<-ctx.Done()
			time.Sleep(time.Second) // It takes its time.
			ended.Store(true)
			return ctx.Err()
		})
		if err := rotate(t, c, "b"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // Until the function is running.
		for range 2 {
			go srv.Close()
		}
		srv.Close()
		if !ended.Load() {
			t.Error("Close returned before the rotation function")
		}
		if err := srv.Wait(t.Context(), "s"); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v, want a cancelled rotation", err)
		}
		_, err := read(t.Context(), c, "s")
		wantError(t, err, "ServerClosed: smtest: the server is closed")
		if _, err := srv.Rotate(t.Context(), "s", "two"); err == nil {
			t.Error("Rotate after Close: no error")
		}
		if got := log.String(); !strings.Contains(got, "step=createSecret") || strings.Contains(got, "secret-value") {
			t.Errorf("log = %s", got)
		}
	})
}

// A panic with text says it; one with anything else may hold a secret.
func TestPanicText(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{"text", "createSecret: panic: text"},
		{errors.New("error"), "createSecret: panic: error"},
		{struct{ Password string }{"secret-value"}, "createSecret: panic with a struct { Password string }"},
	} {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		srv.AddFunction(functionARN, func(context.Context, []byte) error { panic(tt.v) })
		if err := rotate(t, c, "b"); err != nil {
			t.Fatal(err)
		}
		if err := srv.Wait(t.Context(), "s"); err == nil || err.Error() != tt.want {
			t.Errorf("Wait = %v, want %s", err, tt.want)
		}
	}
}

// The value may come with the rotation: a secret that never had one.
func TestRotateSecretWithoutValue(t *testing.T) {
	srv, c := newServer(t)
	if _, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	newRotator(srv)
	if err := rotate(t, c, "a", later); err != nil { // Nothing to test with.
		t.Fatal(err)
	}
	if err := rotate(t, c, "b"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if got, want := versions(t, c, "s"), "b:AWSCURRENT"; got != want {
		t.Errorf("versions = %q, want %q", got, want)
	}
}

func TestLambdaDecodes(t *testing.T) {
	f := smtest.Lambda(func(context.Context, event) error { return nil })
	if err := f(t.Context(), []byte(`{"Step":1}`)); err == nil {
		t.Error("an event of the wrong type: no error")
	}
	if err := f(t.Context(), []byte(`{"Step":"x"}`)); err != nil {
		t.Error(err)
	}
}

// The event is what Lambda gets: these members and no other.
func TestEvent(t *testing.T) {
	srv, c := newServer(t)
	arn := create(t, c, "s", "a", "one")
	var got string
	srv.AddFunction(functionARN, func(_ context.Context, event []byte) error {
		got = string(event)
		return nil
	})
	if err := rotate(t, c, "b", later); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if want := `{"Step":"testSecret","SecretId":"` + arn + `","ClientRequestToken":"` + ver("b") + `"}`; got != want {
		t.Errorf("event = %s, want %s", got, want)
	}
}

func TestAddFunctionNilRemoves(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	newRotator(srv)
	srv.AddFunction(functionARN, nil)
	if err := rotate(t, c, "b"); err == nil {
		t.Error("RotateSecret with a function that was removed: no error")
	}
}
