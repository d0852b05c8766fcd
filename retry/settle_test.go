package retry_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// The labels may lag behind: what was accepted is refused, and of the rotation that
// says why nothing is to be seen yet.
func TestLabelsThatLag(t *testing.T) {
	for name, change := range map[string]func(w *world) (remove func()){
		"AWSPENDING not there yet": func(w *world) func() {
			remove := w.sm.Inject(smtest.Fault{Stale: 2 * time.Second})
			w.pend("v2")
			w.db.setPassword("v2")
			return remove
		},
		"all of a rotation not there yet": func(w *world) func() {
			remove := w.sm.Inject(smtest.Fault{Stale: 2 * time.Second})
			v2 := w.pend("v2")
			w.db.setPassword("v2")
			w.promoteFrom(w.version(cache.Current), v2)
			return remove
		},
		"AWSCURRENT not moved yet, AWSPENDING gone": func(w *world) func() {
			remove := w.sm.Inject(smtest.Fault{Stage: cache.Current, Stale: 2 * time.Second})
			v1, v2 := w.version(cache.Current), w.pend("v2")
			w.db.setPassword("v2")
			w.promoteFrom(v1, v2)
			return remove
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, &retry.Options{Patience: 30 * time.Second}, func(t *testing.T, w *world) {
				w.do()
				time.Sleep(time.Minute)
				remove := change(w)
				defer remove()
				start := time.Now()
				var callers sync.WaitGroup
				for range 20 {
					callers.Go(w.do)
				}
				callers.Wait()
				if waited := time.Since(start); waited > 4*time.Second {
					t.Errorf("the last caller waited %v", waited)
				}
				w.do()
			})
		})
	}
}

// A password that was changed by hand is an error a little later, once: the first who
// were refused have waited for the labels.
func TestNothingSettles(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		w.db.setPassword("by hand")
		w.db.tried()
		for i, want := range []time.Duration{3 * time.Second, 0, 0} {
			start := time.Now()
			if err := w.r.Do(t.Context(), w.db.login); !isRefused(err) {
				t.Errorf("Do: %v", err)
			}
			if waited := time.Since(start).Truncate(time.Second); waited != want {
				t.Errorf("call %d: waited %v, want %v", i, waited, want)
			}
		}
		w.wantTried("v1")
		time.Sleep(time.Minute)
		start := time.Now()
		if err := w.r.Do(t.Context(), w.db.login); !isRefused(err) || time.Since(start) > time.Second {
			t.Errorf("Do: %v after %v: it was refused before, and not accepted since", err, time.Since(start))
		}
	})
}

// Who has never got in has a wrong password, and is told so at once, and so is who is
// not to wait.
func TestNothingToSettle(t *testing.T) {
	for name, opts := range map[string]*retry.Options{"never accepted": nil, "no patience": {Patience: -1}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, opts, func(t *testing.T, w *world) {
				if opts != nil {
					w.do()
				}
				w.db.setPassword("by hand")
				start := time.Now()
				if err := w.r.Do(t.Context(), w.db.login); !isRefused(err) || time.Since(start) > time.Second {
					t.Errorf("Do: %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// Three rotations overtake a caller, whose three logins are each of another version: the
// fourth, that AWSCURRENT is on by then, is tried too.
func TestRotationsOvertakeACaller(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		w.db.tried()
		n := 1
		rotate := func() {
			n++
			value := "v" + string(rune('0'+n))
			version := w.pend(value)
			w.db.setPassword(value)
			w.promote(version)
		}
		err := w.r.Do(t.Context(), func(ctx context.Context, s *cache.Secret) error {
			if n < 4 {
				rotate()
			}
			return w.db.login(ctx, s)
		})
		if err != nil {
			t.Errorf("Do: %v", err)
		}
		w.wantTried("v1", "v2", "v3", "v4")
	})
}
