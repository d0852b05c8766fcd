package retry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// deny has the service refuse reads of a label.
func (w *world) deny(stage string) (remove func()) {
	return w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: stage, Err: smtest.AccessDenied})
}

// AWSPENDING may not be read, so in the window there is nothing to try: callers
// wait for its end, and no password is tried meanwhile.
func TestPendingDeniedWaitsForTheLabel(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		time.Sleep(time.Minute)
		w.deny(cache.Pending)
		w.deny(cache.Previous)
		v2 := w.pend("v2")
		w.db.setPassword("v2")
		w.db.tried()
		start := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(w.do)
		}
		time.Sleep(10 * time.Second)
		w.wantTried("v1")
		w.promote(v2)
		wg.Wait()
		if n := w.db.count(); n != 1 {
			t.Errorf("%d refused logins, want 1", n)
		}
		if waited := time.Since(start); waited > 40*time.Second {
			t.Errorf("the last caller waited %v", waited)
		}
	})
}

func TestPatienceEnds(t *testing.T) {
	bubble(t, &retry.Options{Patience: 20 * time.Second}, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		start := time.Now()
		err := w.r.Do(t.Context(), w.db.login)
		if !isRefused(err) || !strings.Contains(err.Error(), "the labels did not move within 20s") {
			t.Errorf("Do: %v", err)
		}
		if waited := time.Since(start).Round(time.Second); waited != 20*time.Second {
			t.Errorf("waited %v, want 20s", waited)
		}
		w.wantTried("v1", "v2")
	})
}

func TestContextEndsTheWait(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		start := time.Now()
		err := w.r.Do(ctx, w.db.login)
		if !errors.Is(err, context.DeadlineExceeded) || !isRefused(err) || time.Since(start) != 7*time.Second {
			t.Errorf("Do: %v after %v, want the deadline and the refusal after 7s", err, time.Since(start))
		}
	})
}

func TestNoRotationNoWait(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.db.setPassword("other")
		start := time.Now()
		if err := w.r.Do(t.Context(), w.db.login); !isRefused(err) {
			t.Errorf("Do: %v", err)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("Do took %v although no rotation is under way", took)
		}
	})
}

// Whoever waits for the labels wakes when somebody gets in.
func TestAcceptedLoginWakesTheWaiting(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		var wg sync.WaitGroup
		woke := make(chan time.Time, 1)
		wg.Go(func() {
			w.do()
			woke <- time.Now()
		})
		time.Sleep(32 * time.Second) // the quarantine of both is over
		w.db.setPassword("v2")
		w.db.tried()
		if err := w.r.Do(t.Context(), w.db.login); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		wg.Wait()
		if late := (<-woke).Sub(at); late > 50*time.Millisecond {
			t.Errorf("the waiting caller got in %v after the first", late)
		}
	})
}

func TestRotationThatIsGivenUp(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		v2 := w.pend("v2")
		w.db.setPassword("neither")
		var wg sync.WaitGroup
		start := time.Now()
		wg.Go(func() {
			if err := w.r.Do(t.Context(), w.db.login); !isRefused(err) {
				t.Errorf("Do: %v", err)
			}
			if waited := time.Since(start); waited < 5*time.Second || waited > 15*time.Second {
				t.Errorf("waited %v, want from 5s to the next look at the labels", waited)
			}
		})
		time.Sleep(5 * time.Second)
		w.unpend(v2)
		wg.Wait()
	})
}

// The logins before a wait count. A walk that has made its three waits like any
// other, and has one more each time the labels have moved.
func TestThreeLoginsAcrossAWait(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		v2 := w.pend("v2")
		w.db.setPassword("neither")
		var wg sync.WaitGroup
		wg.Go(w.do)
		time.Sleep(3 * time.Second)
		w.promote(v2)
		v3 := w.pend("v3")
		time.Sleep(10 * time.Second)
		w.wantTried("v1", "v2", "v2")
		w.db.setPassword("v3")
		w.promote(v3)
		wg.Wait()
		w.wantTried("v3")
	})
}

// Each wait ends with one login, and the walk with its patience.
func TestWaitAfterThreeLogins(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		w.pend("v3")
		w.db.setPassword("neither")
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(w.refused)
		time.Sleep(5 * time.Second)
		w.wantTried("v2", "v3", "v1")
		w.pend("v4")
		wg.Wait()
		w.wantTried("v2")
		if took := time.Since(start).Round(time.Second); took != time.Minute {
			t.Errorf("Do took %v, want its patience of a minute", took)
		}
	})
}

// AWSPENDING may not be read, and the next rotation begins before a caller has
// found its way through the last: it waits for the end of that one too.
func TestTwoRotationsWithPendingDenied(t *testing.T) {
	for name, previous := range map[string]bool{"AWSPREVIOUS readable": true, "AWSPREVIOUS denied": false} {
		bubble(t, &retry.Options{MaxConcurrentLogins: 1}, func(t *testing.T, w *world) {
			w.do()
			w.deny(cache.Pending)
			if !previous {
				w.deny(cache.Previous)
			}
			time.Sleep(time.Minute)
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for range 32 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(50 * time.Millisecond):
							w.do()
						}
					}
				})
			}
			const rotations = 20
			for i := range rotations {
				value := fmt.Sprint("next ", i)
				version := w.pend(value)
				w.db.setPassword(value)
				time.Sleep(3 * time.Second)
				w.promote(version)
				time.Sleep(time.Duration(i) * time.Second)
			}
			time.Sleep(time.Minute)
			close(stop)
			wg.Wait()
			// AWSCURRENT is refused, and what AWSPREVIOUS is on.
			if n := w.db.count(); n > 2*rotations {
				t.Errorf("%s: %d refused logins in %d rotations", name, n, rotations)
			}
		})
	}
}

// A version is refused to one caller while another one, with what came before it,
// finds that the target has just changed: a replica that catches up. What the first
// was refused with is what the target wants now.
func TestTargetChangesBetweenTwoRefusals(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		if _, err := w.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.do() // v2 is refused, v1 accepted
		first, second := w.r.Walk(), w.r.Walk()
		next := func(walk *retry.Walk, want string) {
			t.Helper()
			s, err := walk.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.Text() != want {
				t.Fatalf("Next: %s, want %s", s.Text(), want)
			}
		}
		next(second, "v1")
		time.Sleep(31 * time.Second)
		next(first, "v2") // its quarantine is over, for one caller
		first.Refused(t.Context(), errRefused)
		second.Refused(t.Context(), errRefused) // here the replica has caught up
		next(first, "v2")
		first.Accepted()
		next(second, "v2")
		second.Accepted()
	})
}

// A login that is accepted after a walk has looked at AWSCURRENT for the last
// time, and before it waits, wakes it too.
func TestAcceptedLoginBeforeTheWait(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Previous, Delay: 2 * time.Second, Times: 1})
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			w.do()
			if took := time.Since(start); took < 2*time.Second || took > 2200*time.Millisecond {
				t.Errorf("got in after %v, want 2s, when its last read was answered", took)
			}
		})
		time.Sleep(1500 * time.Millisecond)
		w.sm.Put("prod/db", "v3")
		w.db.setPassword("v3")
		w.do()
		wg.Wait()
		w.wantTried("v1", "v2", "v3", "v3")
	})
}

// A minute of waiting is a few reads; an hour of it leaves nobody out for long
// when the label moves.
func TestPollBacksOff(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		w.sm.ResetCalls()
		w.refused()
		if n := w.sm.Count("GetSecretValue"); n > 40 {
			t.Errorf("%d reads in a minute of waiting, want about 20", n)
		}
	})
	bubble(t, &retry.Options{Patience: time.Hour}, func(t *testing.T, w *world) {
		v2 := w.pend("v2")
		w.db.setPassword("neither")
		var wg sync.WaitGroup
		wg.Go(w.do)
		time.Sleep(30 * time.Minute)
		w.db.setPassword("v2")
		w.promote(v2)
		moved := time.Now()
		wg.Wait()
		if took := time.Since(moved); took > 31*time.Second {
			t.Errorf("got in %v after the label had moved, want 30s at most", took)
		}
	})
}

// The programs of a fleet that began to wait together do not ask together.
func TestPollsOfAFleetSpread(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		v2 := w.pend("v2")
		w.db.setPassword("neither")
		start := time.Now()
		times := make([]time.Duration, 8)
		var wg sync.WaitGroup
		for i := range times {
			c, err := cache.New(w.sm.Client(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r := retry.New(c, "prod/db", isRefused, nil)
			wg.Go(func() {
				if err := r.Do(t.Context(), w.db.login); err != nil {
					t.Errorf("program %d: %v", i+1, err)
				}
				times[i] = time.Since(start)
			})
		}
		time.Sleep(200 * time.Millisecond)
		w.db.setPassword("v2")
		w.promote(v2)
		wg.Wait()
		// Of half a second; by chance it is so little once in a million runs.
		if spread := slices.Max(times) - slices.Min(times); spread < 50*time.Millisecond {
			t.Errorf("8 programs looked at the labels within %v", spread)
		}
	})
}

// Patience is for the whole Do, and not for each wait.
func TestPatienceIsNotGivenTwice(t *testing.T) {
	opts := &retry.Options{Patience: 20 * time.Second, Usable: func(s *cache.Secret) bool { return s.Text() == "v1" }}
	bubble(t, opts, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("other")
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(w.refused)
		time.Sleep(5 * time.Second)
		w.pend("v3") // the label moves: what was refused is tried again
		wg.Wait()
		w.wantTried("v1", "v1")
		if took := time.Since(start).Round(time.Second); took != 20*time.Second {
			t.Errorf("Do took %v with a patience of 20s", took)
		}
	})
}

// A cache that is closed will not say where the labels are.
func TestCloseEndsTheWait(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		var wg sync.WaitGroup
		start := time.Now()
		wg.Go(func() {
			if err := w.r.Do(t.Context(), w.db.login); !errors.Is(err, cache.ErrClosed) || !isRefused(err) {
				t.Errorf("Do: %v, want ErrClosed and the refusal", err)
			}
		})
		time.Sleep(2 * time.Second)
		w.c.Close()
		wg.Wait()
		if took := time.Since(start); took > 8*time.Second {
			t.Errorf("Do took %v although the cache was closed after 2s", took)
		}
	})
}

// However many wait, the labels are read about as often as one would.
func TestWaitingCallersShareTheReads(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := w.r.Do(t.Context(), w.db.login); !isRefused(err) {
					t.Errorf("Do: %v", err)
				}
			})
		}
		wg.Wait()
		if n := w.sm.Count("GetSecretValue"); n > 100 {
			t.Errorf("%d reads of 50 callers in a minute, want a few for each pause", n)
		}
	})
}

// Whoever waited without a login of its own is told of the refusal too, though
// the quarantine (30 s) has ended before its patience (60 s).
func TestPatienceEndsForAllAlike(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.pend("v2")
		w.db.setPassword("neither")
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				err := w.r.Do(t.Context(), w.db.login)
				if _, ok := errors.AsType[*retry.Error](err); !ok || !isRefused(err) {
					t.Errorf("Do: %v, want a *retry.Error with the refusal", err)
				}
			})
		}
		wg.Wait()
	})
}

// A login is accepted while others look for what else there is: what they saw in
// quarantine is good again, and nobody is told that nothing is meant for the target.
func TestAcceptedWhileOthersLook(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		if err := w.r.Do(t.Context(), func(context.Context, *cache.Secret) error { return errRefused }); err == nil {
			t.Fatal("Do succeeded")
		}
		time.Sleep(31 * time.Second)
		probe := w.r.Walk()
		if _, err := probe.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := w.r.Do(t.Context(), func(context.Context, *cache.Secret) error { return nil }); err != nil {
					t.Errorf("Do: %v", err)
				}
			})
		}
		// The labels are read one after the other, in 5 ms each.
		time.Sleep(16 * time.Millisecond)
		probe.Accepted()
		wg.Wait()
	})
}
