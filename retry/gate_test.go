package retry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

// next begins a login of the walk and wants it to be with this password. It has
// no outcome until the test tells one.
func (w *world) next(walk *retry.Walk, want string) {
	w.t.Helper()
	s, err := walk.Next(w.t.Context())
	if err != nil {
		w.t.Fatalf("Next: %v, want %s", err, want)
	}
	if s.Text() != want {
		w.t.Fatalf("Next = %s, want %s", s.Text(), want)
	}
}

// begin is next for a new walk.
func (w *world) begin(want string) *retry.Walk {
	w.t.Helper()
	walk := w.r.Walk()
	w.next(walk, want)
	return walk
}

// refused wants a login to be refused.
func (w *world) refused() {
	w.t.Helper()
	if err := w.r.Do(w.t.Context(), w.db.login); !isRefused(err) {
		w.t.Errorf("Do: %v, want a refusal", err)
	}
}

// reread has the cache read AWSCURRENT.
func (w *world) reread() *cache.Secret {
	w.t.Helper()
	s, err := w.c.RefreshAfter(w.t.Context(), "prod/db", cache.Current, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// A second is what a lead may take: then somebody else leads, also if those who
// were let go ahead beside it hang too.
func TestLeadEndsAfterASecond(t *testing.T) {
	looks, tooMany := 0, func() {}
	usable := func(*cache.Secret) bool {
		if looks++; looks > 100 {
			tooMany() // a walk that turns in circles lets no time pass
		}
		return true
	}
	bubble(t, &retry.Options{Usable: usable}, func(t *testing.T, w *world) {
		tooMany = func() { t.Fatal("a walk went on looking at the versions without waiting") }
		start := time.Now()
		for i := range 5 {
			w.begin("v1")
			if got, most := time.Since(start).Round(100*time.Millisecond), time.Duration(i)*time.Second; got > most {
				t.Errorf("login %d began after %v, want %v at most", i+1, got, most)
			}
		}
	})
}

// The end of a lead that was given up on is nothing to those who wait behind the
// next one.
func TestEndOfAnOldLead(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		first := w.begin("v1")
		time.Sleep(1100 * time.Millisecond)
		second := w.begin("v1")
		first.NoVerdict(w.t.Context())
		var wg sync.WaitGroup
		wg.Go(w.do)
		synctest.Wait()
		w.wantTried()
		second.Accepted()
		wg.Wait()
		w.wantTried("v1")
	})
}

// A pass is for one login: the same walk stands in line for its next one.
func TestPassIsForOneLogin(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.begin("v1")           // leads, and hangs
		beside := w.begin("v1") // waited a second, and was given a pass
		w.begin("v1")           // leads now
		beside.NoVerdict(t.Context())
		start := time.Now()
		w.next(beside, "v1")
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v behind the new leader, which hangs, want 1s", waited)
		}
	})
}

// Whoever waits for another's verdict has no slot meanwhile.
func TestFollowersHoldNoSlot(t *testing.T) {
	bubble(t, &retry.Options{MaxConcurrentLogins: 2}, func(t *testing.T, w *world) {
		var wg sync.WaitGroup
		for range 3 {
			leader := w.begin("v1")
			for range 10 {
				wg.Go(w.do)
			}
			synctest.Wait()
			leader.Accepted()
			wg.Wait()
			w.db.peak = 0
			for range 10 {
				wg.Go(w.do)
			}
			wg.Wait()
			if w.db.peak != 2 {
				t.Errorf("%d logins at once after some had waited, want 2", w.db.peak)
			}
			time.Sleep(time.Minute)
		}
	})
}

// What network errors let go ahead grows step by step: the first one since a
// verdict brings one more beside the next leader, and not all who waited.
func TestNetworkErrorLetsOneMoreGo(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		for _, round := range []struct{ offered, accepted string }{{"v1", "v1"}, {"v1", "other"}, {"v2", "v2"}} {
			if w.reread().Text() != round.offered {
				w.sm.Put("prod/db", round.offered)
				w.reread()
			}
			w.db.setPassword(round.accepted)
			leader := w.begin(round.offered)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() { _ = w.r.Do(t.Context(), w.db.login) })
			}
			synctest.Wait()
			time.Sleep(100 * time.Millisecond) // for the reads of those who were refused before
			w.wantTried()
			leader.NoVerdict(t.Context())
			synctest.Wait()
			if got := len(w.db.tried()); got != 2 {
				t.Errorf("%v: %d logins began after a network error, want a leader and one more", round, got)
			}
			wg.Wait()
			w.db.tried()
			time.Sleep(2 * time.Second) // what was accepted is not proven any more
		}
	})
}

// The stragglers of a change say nothing new of a version that is in quarantine:
// logins with the new one go on side by side.
func TestStragglersDoNotCloseTheGate(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		straggler := w.begin("v1")
		v2 := w.pend("v2")
		w.db.setPassword("v2")
		w.do()
		w.promote(v2)
		w.reread()
		straggler.Refused(t.Context(), errRefused)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(w.do)
		}
		synctest.Wait()
		if flying := w.db.setPassword("v2"); flying != 10 {
			t.Errorf("%d of 10 logins began at once after a straggler's refusal", flying)
		}
		wg.Wait()
	})
}

// After a quarantine one caller tries the version; the others are told at once
// what is known, and do not wait for it.
func TestProbeIsOneCallers(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.db.setPassword("other")
		w.refused()
		time.Sleep(31 * time.Second)
		w.db.tried()
		probe := w.begin("v1")
		start := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(w.refused)
		}
		wg.Wait()
		w.wantTried()
		if waited := time.Since(start); waited > 100*time.Millisecond {
			t.Errorf("the others waited %v for the probe", waited)
		}
		// It learned nothing: the version is the next caller's to try, at once.
		probe.NoVerdict(t.Context())
		w.db.setPassword("v1")
		w.do()
		w.wantTried("v1")
	})
}

// A refusal closes the gate for every version, also one that was accepted a
// moment ago; and one that does not count leaves its version to be proven.
func TestRefusalClosesTheGateForAll(t *testing.T) {
	for name, refuse := range map[string]func(w *world){
		"of another version": func(w *world) {
			w.sm.Put("prod/db", "v2")
			w.reread()
			w.begin("v2").Refused(w.t.Context(), errRefused)
		},
		"that does not count": func(w *world) {
			walk := w.begin("v1")
			w.do()
			w.pend("v2")
			walk.Refused(w.t.Context(), errRefused) // it began before that
			w.next(walk, "v2")                      // what is newer goes first
			walk.Accepted()
		},
	} {
		bubble(t, nil, func(t *testing.T, w *world) {
			w.do()
			refuse(w)
			w.db.latency = 300 * time.Millisecond
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(w.do)
			}
			time.Sleep(100 * time.Millisecond)
			if flying := w.db.setPassword("v1"); flying != 1 {
				t.Errorf("%d logins at once after a refusal %s, want 1", flying, name)
			}
			wg.Wait()
		})
	}
}

// Nobody waits longer than its context, neither for a verdict nor for a slot.
func TestContextEndsTheWaitForOthers(t *testing.T) {
	for name, proven := range map[string]bool{"verdict": false, "slot": true} {
		bubble(t, &retry.Options{MaxConcurrentLogins: 2}, func(t *testing.T, w *world) {
			if proven {
				w.do()
				w.begin("v1")
			}
			w.begin("v1") // hangs
			w.db.tried()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			err := w.r.Do(ctx, w.db.login)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
				t.Errorf("waiting for a %s: %v after %v, want the deadline after 100ms", name, err, time.Since(start))
			}
			w.wantTried()
		})
	}
}

// Next without an outcome of the login before gives its slot back.
func TestNextWithoutAnOutcome(t *testing.T) {
	bubble(t, &retry.Options{MaxConcurrentLogins: 1}, func(_ *testing.T, w *world) {
		walk := w.begin("v1")
		w.next(walk, "v1")
		walk.Accepted()
		w.do()
	})
}
