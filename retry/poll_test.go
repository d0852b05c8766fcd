package retry_test

import (
	"context"
	"errors"
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
