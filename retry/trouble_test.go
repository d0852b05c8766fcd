package retry_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// hammer has n callers log in all the time for d.
func (w *world) hammer(n int, d time.Duration) {
	w.t.Helper()
	var wg sync.WaitGroup
	for end := time.Now().Add(d); n > 0; n-- {
		wg.Go(func() {
			for time.Now().Before(end) {
				_ = w.r.Do(w.t.Context(), w.db.login)
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// all has n callers log in once, together, and wants all to succeed.
func (w *world) all(n int, login func(context.Context, *cache.Secret) error) {
	w.t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range n {
		wg.Go(func() {
			if err := w.r.Do(w.t.Context(), login); err != nil && failed.Add(1) == 1 {
				w.t.Errorf("Do: %v", err)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 1 {
		w.t.Errorf("and %d callers more", n-1)
	}
}

// changed is a password that has just been changed, in the window, to v2.
func (w *world) changed() (v2 string) {
	w.t.Helper()
	w.do()
	time.Sleep(time.Minute)
	v2 = w.pend("v2")
	w.db.setPassword("v2")
	return v2
}

// Shortly after a rotation the password becomes one that nobody knows. Two
// versions that were both accepted a moment ago must not be tried in turns.
func TestPasswordThatNobodyKnows(t *testing.T) {
	for _, promoted := range []bool{false, true} {
		bubble(t, &retry.Options{Patience: -1}, func(_ *testing.T, w *world) {
			v2 := w.changed()
			w.do()
			if promoted {
				w.promote(v2)
				time.Sleep(2 * time.Second)
			}
			w.do()
			before := w.db.count()
			w.db.setPassword("neither")
			w.sm.ResetCalls()
			w.hammer(50, time.Minute)
			// Fifty were in flight at the change; then the gate is closed.
			if n := w.db.count() - before; n > 50+6 {
				w.t.Errorf("promoted %v: %d refused logins in a minute, want those in flight and a few", promoted, n)
			}
			if n := w.sm.Count("GetSecretValue"); n > 60*6 {
				w.t.Errorf("promoted %v: %d reads in a minute, want a few a second", promoted, n)
			}
		})
	}
}

// What a pool costs that cannot log in, whatever the service says.
func TestCostOfAWrongPassword(t *testing.T) {
	for name, fault := range map[string]smtest.Fault{
		"readable":         {},
		"AWSPENDING hid":   {Stage: cache.Pending, Err: smtest.AccessDenied},
		"all denied":       {Err: smtest.AccessDenied},
		"all throttled":    {Err: smtest.Throttling},
		"AWSCURRENT slow":  {Stage: cache.Current, Delay: 3 * time.Second},
		"AWSPENDING slow":  {Stage: cache.Pending, Delay: 3 * time.Second},
		"AWSPREVIOUS slow": {Stage: cache.Previous, Delay: 3 * time.Second},
	} {
		bubble(t, &retry.Options{Patience: -1}, func(_ *testing.T, w *world) {
			w.do()
			time.Sleep(time.Minute)
			w.db.setPassword("other")
			w.sm.Inject(fault)
			w.sm.ResetCalls()
			before := w.db.count()
			w.hammer(50, time.Minute)
			if n := w.db.count() - before; n > 4 {
				w.t.Errorf("%s: %d refused logins in a minute", name, n)
			}
			if n := w.sm.Count("GetSecretValue"); n > 60*5 {
				w.t.Errorf("%s: %d reads in a minute", name, n)
			}
		})
	}
}

// The replica catches up between the refusal of AWSCURRENT and the login with
// AWSPREVIOUS.
func TestReplicaCatchesUpBetweenTwoLogins(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Previous, Before: func(context.Context, smtest.Call) {
			w.db.setPassword("v2")
		}})
		w.db.tried()
		w.do()
		w.wantTried("v2", "v1", "v2")
	})
}

// A server that takes longer to refuse than a leader is waited for.
func TestSlowRefusals(t *testing.T) {
	for _, limit := range []int{0, 2} {
		bubble(t, &retry.Options{MaxConcurrentLogins: limit}, func(_ *testing.T, w *world) {
			w.changed()
			w.all(50, func(ctx context.Context, s *cache.Secret) error {
				err := w.db.login(ctx, s)
				if err != nil {
					time.Sleep(1500 * time.Millisecond)
				}
				return err
			})
			if n := w.db.count(); n > 3 {
				w.t.Errorf("limit %d: %d refused logins of 50 callers, want 3 at most", limit, n)
			}
		})
	}
}

// The leader meets a broken network just when the password has changed.
func TestNetworkErrorBeforeARefusal(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		w.changed()
		var broken atomic.Bool
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_ = w.r.Do(w.t.Context(), func(ctx context.Context, s *cache.Secret) error {
					if broken.CompareAndSwap(false, true) {
						time.Sleep(50 * time.Millisecond)
						return errNetwork
					}
					return w.db.login(ctx, s)
				})
			})
		}
		wg.Wait()
		if n := w.db.count(); n > 2 {
			w.t.Errorf("%d refused logins of 50 callers, want 2 at most", n)
		}
	})
}

// What cannot be read may be anywhere: callers wait for the label, and get in.
func TestThrottledInTheWindow(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		w.changed()
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, Err: smtest.Throttling, Times: 3})
		w.all(50, w.db.login)
	})
	bubble(t, nil, func(_ *testing.T, w *world) {
		v2 := w.changed()
		var once sync.Once
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, Before: func(context.Context, smtest.Call) {
			once.Do(func() {
				w.promote(v2)
				w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Current, Err: smtest.Throttling, Times: 3})
			})
		}})
		w.all(50, w.db.login)
	})
}

// AWSPENDING takes its time to answer that it is gone; what somebody read of
// AWSCURRENT meanwhile is from before that.
func TestAwscurrentReadBeforeTheAnswer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		v2 := w.changed()
		var once sync.Once
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, Before: func(context.Context, smtest.Call) {
			once.Do(func() { time.Sleep(500 * time.Millisecond) })
		}})
		var wg sync.WaitGroup
		wg.Go(w.do)
		time.Sleep(100 * time.Millisecond)
		if _, err := w.c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.promote(v2)
		wg.Wait()
	})
}

// The next rotation sets its password while the login with AWSPENDING is on its
// way.
func TestRotationDuringALogin(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		v2 := w.changed()
		logins := 0
		err := w.r.Do(t.Context(), func(ctx context.Context, s *cache.Secret) error {
			if logins++; logins == 2 {
				w.promote(v2)
				w.pend("v3")
				w.db.setPassword("v3")
			}
			return w.db.login(ctx, s)
		})
		if err != nil {
			t.Error(err)
		}
		w.wantTried("v1", "v1", "v2", "v3")
	})
}

// The one who tries a version after its quarantine is refused, because setSecret
// has just run: what was read of AWSPENDING before that will not do.
func TestProbeIsRefusedByARotation(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.db.setPassword("other")
		_ = w.r.Do(t.Context(), w.db.login)
		time.Sleep(29800 * time.Millisecond)
		_ = w.r.Do(t.Context(), w.db.login) // in quarantine: AWSPENDING is nowhere
		w.db.setPassword("v1")
		time.Sleep(300 * time.Millisecond)
		err := w.r.Do(t.Context(), func(ctx context.Context, s *cache.Secret) error {
			if s.Text() == "v1" {
				w.pend("v2")
				w.db.setPassword("v2")
			}
			return w.db.login(ctx, s)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestProbeThatHangs(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.db.setPassword("other")
		_ = w.r.Do(t.Context(), w.db.login)
		w.db.setPassword("v1")
		time.Sleep(31 * time.Second)
		hang := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = w.r.Do(t.Context(), func(context.Context, *cache.Secret) error { <-hang; return errNetwork })
		})
		synctest.Wait()
		start := time.Now()
		for w.r.Do(t.Context(), w.db.login) != nil {
			time.Sleep(100 * time.Millisecond)
		}
		if waited := time.Since(start); waited > 1200*time.Millisecond {
			t.Errorf("the version was left alone for %v behind a login that hangs", waited)
		}
		close(hang)
		wg.Wait()
	})
}

// A panic anywhere gives back the slot and the lead.
func TestPanicInIsAuthError(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		r := retry.New(w.c, "prod/db", func(error) bool { panic("isAuthError") }, &retry.Options{MaxConcurrentLogins: 1})
		func() {
			defer func() { _ = recover() }()
			_ = r.Do(t.Context(), func(context.Context, *cache.Secret) error { return errNetwork })
		}()
		if err := r.Do(t.Context(), func(context.Context, *cache.Secret) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// Patience is for the reads too.
func TestPatienceEndsAHungRead(t *testing.T) {
	bubble(t, &retry.Options{Patience: 5 * time.Second}, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			err := w.r.Do(t.Context(), w.db.login)
			if !isRefused(err) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Do: %v", err)
			}
			if waited := time.Since(start); waited > 5200*time.Millisecond {
				t.Errorf("waited %v with a patience of 5s", waited)
			}
		})
		time.Sleep(500 * time.Millisecond)
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Delay: time.Hour})
		wg.Wait()
	})
}

// A refusal long ago is no reason to go by what was read long ago.
func TestTTLHoldsAfterARefusal(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.db.setPassword("other")
		_ = w.r.Do(t.Context(), w.db.login)
		w.sm.Put("prod/db", "v2")
		w.db.setPassword("v1", "v2") // alternating users: v1 would do
		time.Sleep(time.Hour)
		w.db.tried()
		w.do()
		w.wantTried("v2")
	})
}
