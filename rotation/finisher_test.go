package rotation_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/rotation"
)

// dual is memory that holds two passwords of its user, until it is told that the
// old one is not needed any more.
type dual struct {
	*memory

	old     string
	broken  error
	finishs []string // the version that was AWSCURRENT before
}

func (d *dual) Test(ctx context.Context, v *rotation.Value) error {
	err := d.memory.Test(ctx, v)
	var l login
	if errors.Is(err, rotation.ErrRefused) && v.Decode(&l) == nil && d.retained(l.Password) {
		return nil
	}
	return err
}

func (d *dual) retained(password string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.old != "" && d.old == password
}

// Set retains the password that is there, once for each new one.
func (d *dual) Set(ctx context.Context, c rotation.Change) error {
	if err := d.Test(ctx, c.As); err != nil {
		return err
	}
	var next login
	if err := c.Pending.Decode(&next); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passwords["app"] != next.Password {
		d.old, d.passwords["app"] = d.passwords["app"], next.Password
	}
	return d.life.Tick()
}

func (d *dual) Finish(_ context.Context, c rotation.Change) error {
	if err := d.life.Tick(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := ""
	if c.Current != nil {
		old = c.Current.VersionID()
	}
	d.finishs = append(d.finishs, old)
	if d.broken != nil {
		return d.broken
	}
	if c.As.VersionID() != c.Pending.VersionID() {
		return errors.New("AWSCURRENT is not the one who acts")
	}
	d.old = ""
	return d.life.Tick()
}

// Where the server holds two passwords AWSCURRENT logs in at every moment, and in
// the end there is one.
func TestFinisherKilled(t *testing.T) {
	srv, d := newService(t), &dual{memory: newMemory()}
	d.life = &killtest.Life{}
	h := rotation.NewHandler(killtest.Client{API: srv.client, Life: d.life}, d, nil)
	for n := 1; ; n++ {
		token := srv.begin(t)
		d.life.Begin(n)
		err := run(t.Context(), h, token, steps...)
		over := d.life.Over()
		d.life.Begin(0)
		if !over {
			if err != nil || n < 40 {
				t.Fatalf("not killed at %d: %v", n, err)
			}
			return
		}
		if now := srv.password("AWSCURRENT"); d.passwords["app"] != now && !d.retained(now) {
			t.Fatalf("killed at %d: AWSCURRENT does not log in", n)
		}
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Fatalf("killed at %d: %v", n, err)
		}
		srv.checkRotated(d.memory, token)
		if d.old != "" {
			t.Fatalf("killed at %d: the old password is still there", n)
		}
	}
}

// What is left of the old credential is an error of finishSecret, which undoes
// nothing, and whose repetition removes it; not if that may be the next one's.
func TestNotFinished(t *testing.T) {
	srv, d := newService(t), &dual{memory: newMemory()}
	h := rotation.NewHandler(srv.client, d, nil)
	d.broken = errors.New("no permission")
	token := srv.begin(t)
	err := run(t.Context(), h, token, steps...)
	e, ok := errors.AsType[*rotation.Error](err)
	if !ok || e.Reason != rotation.ReasonNotFinished || e.Step != steps[3] || !errors.Is(err, d.broken) {
		t.Fatalf("run = %v, want %q of finishSecret", err, rotation.ReasonNotFinished)
	}
	srv.checkRotated(d.memory, token)

	d.broken = nil
	if err := run(t.Context(), h, token, steps[3]); err != nil || d.old != "" {
		t.Errorf("finishSecret again = %v; the old password is there: %t", err, d.old != "")
	}
	if slices.Contains(d.finishs, "") {
		t.Errorf("the version before is not known: %q", d.finishs)
	}

	next := srv.begin(t)
	if err := run(t.Context(), h, next, steps[:2]...); err != nil {
		t.Fatal(err)
	}
	calls := len(d.finishs)
	if err := run(t.Context(), h, token, steps[3]); err != nil {
		t.Errorf("a late finishSecret = %v", err)
	}
	if len(d.finishs) != calls || !d.retained(srv.password("AWSCURRENT")) {
		t.Error("a late finishSecret has removed the password of AWSCURRENT, that of another rotation")
	}
}
