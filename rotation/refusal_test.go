package rotation_test

import (
	"context"
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
		reason  rotation.Reason
		prepare func(t *testing.T, srv *service, mem *memory, token string) (newToken string)
		want    []string
		refused bool // matches ErrRefused
	}{
		{
			name: "rotation off", reason: rotation.ReasonDisabled, step: steps[0],
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
			name: "unknown token", reason: rotation.ReasonNoVersion, step: steps[0],
			prepare: func(*testing.T, *service, *memory, string) string { return "00000000-0000-0000-0000-000000000000" },
			want:    []string{"no such version", "start the rotation with rotate-secret"},
		},
		{
			name: "token without AWSPENDING", reason: rotation.ReasonNotPending, step: steps[1],
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
		{name: "unknown step", reason: rotation.ReasonBadEvent, step: "dropSecret", want: []string{"unknown step", "createSecret, setSecret, testSecret and finishSecret"}},
		{name: "set before create", reason: rotation.ReasonNoValue, step: steps[1], want: []string{"AWSPENDING has no value", "createSecret"}},
		{name: "finish before create", reason: rotation.ReasonNoValue, step: steps[3], want: []string{"AWSPENDING has no value", "createSecret"}},
		{
			name: "deleted", reason: rotation.ReasonDeleted, step: steps[0],
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
			name: "a value that is no JSON", reason: rotation.ReasonBadValue, step: steps[0],
			prepare: func(t *testing.T, srv *service, _ *memory, token string) string {
				put(t, srv, "hidden")
				return token
			},
			want: []string{"yields no next value", "not valid JSON", "put a version that is right"},
		},
		{
			name: "a binary value", reason: rotation.ReasonBadValue, step: steps[0],
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
			name: "edited before set", reason: rotation.ReasonEdited, step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				put(t, srv, other)
				return token
			},
			want: []string{"AWSPENDING does not fit AWSCURRENT", "another user: app, not other", "edited", "repeat the rotation"},
		},
		{
			name: "edited before finish", reason: rotation.ReasonEdited, step: steps[3],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				put(t, srv, other)
				return token
			},
			want: []string{"AWSPENDING does not fit AWSCURRENT"},
		},
		{
			name: "another key edited before finish", reason: rotation.ReasonEdited, step: steps[3],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				if err := run(t.Context(), rotation.NewHandler(srv.client, mem, nil), token, steps[:3]...); err != nil {
					t.Fatal(err)
				}
				put(t, srv, strings.Replace(srv.text("AWSCURRENT"), `"id":`, `"added":1,"id":`, 1))
				return token
			},
			want: []string{`the key "added" is not the same`, "put a version with the former user, host and other keys", "edit it then"},
		},
		{
			name: "a copy of AWSCURRENT", reason: rotation.ReasonEdited, step: steps[1],
			prepare: func(t *testing.T, srv *service, _ *memory, token string) string {
				if _, err := srv.client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
					SecretId: aws.String(secretName), ClientRequestToken: aws.String(token),
					SecretString: aws.String(firstValue), VersionStages: []string{"AWSPENDING"},
				}); err != nil {
					t.Fatal(err)
				}
				return token
			},
			want: []string{"is a copy of AWSCURRENT", "RotateImmediately=false", "take that label off"},
		},
		{
			name: "target down at finish", reason: rotation.ReasonUnreachable, step: steps[3],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				mem.fail(errors.New("no route to host"))
				return token
			},
			want: []string{"no route to host", "no verdict"},
		},
		{
			name: "finish before set", reason: rotation.ReasonNotSet, step: steps[3],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				return token
			},
			want: []string{"refuses AWSPENDING", "first step"}, refused: true,
		},
		{
			name: "locked out, no AWSPREVIOUS", reason: rotation.ReasonLockedOut, step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				mem.set("changed by hand")
				return token
			},
			want:    []string{"no version of the secret logs in", "by hand", "AWSCURRENT (version", "AWSPREVIOUS: there is none", "AWSPENDING:"},
			refused: true,
		},
		{
			name: "locked out", reason: rotation.ReasonLockedOut, step: steps[1],
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
			name: "AWSPREVIOUS is another user", reason: rotation.ReasonLockedOut, step: steps[1],
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
			name: "target down at set", reason: rotation.ReasonUnreachable, step: steps[1],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				mem.fail(errors.New("no route to host"))
				return token
			},
			want: []string{"no route to host", "no verdict", "when the target answers"},
		},
		{
			name: "target down at test", reason: rotation.ReasonUnreachable, step: steps[2],
			prepare: func(t *testing.T, srv *service, mem *memory, token string) string {
				created(t, srv, mem, token)
				mem.fail(errors.New("no route to host"))
				return token
			},
			want: []string{"no route to host", "no verdict"},
		},
		{
			name: "test before set", reason: rotation.ReasonNotSet, step: steps[2],
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
				t.Fatalf("the error is no *Error with what it is about: %#v", err)
			}
			if e.Reason != test.reason || e.Remedy == "" || !strings.Contains(err.Error(), e.Remedy) {
				t.Errorf("the reason is %q, want %q; the remedy is %q, which the text has to have:\n%v", e.Reason, test.reason, e.Remedy, err)
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
	if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != rotation.ReasonManaged || !strings.Contains(err.Error(), `managed by the service "rds"`) {
		t.Errorf("Handle = %v, want an error that names the service", err)
	}
}

// A secret that is edited in mid-rotation: with the error's remedy carried out the
// rotation ends well, and at no time was there nobody who logs in.
func TestEdited(t *testing.T) {
	for done := 1; done < len(steps); done++ {
		srv, mem := newService(t), newMemory()
		h := rotation.NewHandler(srv.client, mem, nil)
		token := srv.begin(t)
		if err := run(t.Context(), h, token, steps[:done]...); err != nil {
			t.Fatal(err)
		}
		former := srv.text("AWSCURRENT")
		srv.Put(secretName, strings.Replace(former, `"host":"db"`, `"host":"elsewhere"`, 1))
		live := mem.passwords["app"]
		err := run(t.Context(), h, token, steps...)
		if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != rotation.ReasonEdited {
			t.Fatalf("after %d steps: %v, want %q", done, err, rotation.ReasonEdited)
		}
		if now := srv.password("AWSCURRENT"); live != now && live != srv.password("AWSPENDING") || live != mem.passwords["app"] {
			t.Fatalf("after %d steps: no version logs in", done)
		}
		srv.Put(secretName, former)
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Fatalf("after %d steps, edited back: %v", done, err)
		}
		srv.checkRotated(mem, token)
	}
}

// A password that is edited, with the target's, while the rotation is under way.
func TestPasswordEdited(t *testing.T) {
	for done := 1; done < len(steps); done++ {
		srv, mem := newService(t), newMemory()
		h := rotation.NewHandler(srv.client, mem, nil)
		token := srv.begin(t)
		if err := run(t.Context(), h, token, steps[:done]...); err != nil {
			t.Fatal(err)
		}
		srv.Put(secretName, strings.Replace(firstValue, "first", "by hand", 1))
		mem.set("by hand")
		// As the service goes on, and as it repeats.
		err := run(t.Context(), h, token, steps[done:]...)
		if done > 1 && err == nil {
			t.Errorf("after %d steps: AWSPENDING was promoted, which nobody can use", done)
		}
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Fatalf("after %d steps: %v", done, err)
		}
		srv.checkRotated(mem, token)
	}
}

// meanwhile is a server where others are at work before the first change is.
type meanwhile struct {
	*memory

	others func()
}

func (o *meanwhile) Set(ctx context.Context, c rotation.Change) error {
	if others := o.others; others != nil {
		o.others = nil
		others()
	}
	return o.memory.Set(ctx, c)
}

// A call that is slower than others, which complete its rotation and set the
// password of the next one, finds that nothing it knows logs in. That is not the
// lockout for which somebody has to be called.
func TestSetOvertaken(t *testing.T) {
	for _, tt := range []struct {
		name      string
		completed int // rotations
		reason    rotation.Reason
	}{
		{"its own is completed", 1, ""},
		{"its own and another are completed", 2, rotation.ReasonNotPending},
		{"none is", 0, rotation.ReasonLockedOut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, mem := newService(t), newMemory()
			others := rotation.NewHandler(srv.client, mem, nil)
			token := srv.begin(t)
			mustRun := func(token string, steps ...string) {
				if err := run(t.Context(), others, token, steps...); err != nil {
					t.Fatal(err)
				}
			}
			h := rotation.NewHandler(srv.client, &meanwhile{mem, func() {
				for n, next := 0, token; n < tt.completed; n++ {
					mustRun(next, steps...)
					next = srv.begin(t)
					mustRun(next, steps[:2]...)
				}
				if tt.completed == 0 {
					mem.set("by hand")
				}
			}}, nil)
			if err := h.Handle(t.Context(), event(steps[0], token)); err != nil {
				t.Fatal(err)
			}
			err := h.Handle(t.Context(), event(steps[1], token))
			if tt.reason == "" {
				if err != nil {
					t.Errorf("setSecret = %v, want nil: its version is AWSCURRENT", err)
				}
				return
			}
			if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != tt.reason {
				t.Errorf("setSecret = %v, want the reason %q", err, tt.reason)
			}
			if tt.completed == 0 {
				return
			}
			if err := run(t.Context(), others, srv.holder("AWSPENDING"), steps[2:]...); err != nil {
				t.Errorf("the rotation that was under way: %v", err)
			}
		})
	}
}
