package retry_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// reads returns how often a label was read.
func (w *world) reads(stage string) int {
	n := 0
	for _, call := range w.sm.Calls() {
		if call.Operation == "GetSecretValue" && call.Stage == stage {
			n++
		}
	}
	return n
}

// A label that has moved since a refusal is a reason to try that version again.
func TestQuarantineEndsWhenAwscurrentMoves(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		w.db.setPassword("other")
		w.refused()
		w.wantTried("v1")
		w.sm.Put("prod/db", "v2")
		time.Sleep(2 * time.Second)
		w.refused()
		w.wantTried("v2", "v1")
	})
}

// What was read before the latest read does not say that the label has moved.
func TestOldReadOfAwscurrent(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		old := w.reread()
		w.sm.Put("prod/db", "v2")
		time.Sleep(time.Second)
		w.reread()
		w.db.setPassword("other")
		w.refused()
		w.wantTried("v2", "v1")
		w.r.SawCurrent(old)
		w.refused()
		w.wantTried()
	})
}

// A read of AWSPENDING from before a refusal does not say where the label was at
// the refusal: what the next read finds is then no move.
func TestOldReadOfAwspending(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		first, second := w.begin("v1"), w.begin("v1")
		w.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, DelayAnswer: 3 * time.Second, Times: 1})
		first.Refused(t.Context(), errRefused)
		var wg sync.WaitGroup
		wg.Go(func() {
			// AWSPENDING was nowhere in its read, but it looks again: the other
			// has been refused meanwhile.
			if s, err := first.Next(t.Context()); err != nil || s.Text() != "v2" {
				t.Errorf("Next: %v, want AWSPENDING", err)
			}
			first.NoVerdict(t.Context())
		})
		time.Sleep(time.Second)
		second.Refused(t.Context(), errRefused)
		time.Sleep(time.Second)
		w.pend("v2")
		w.db.setPassword("v2")
		wg.Wait()
		w.db.tried()
		w.do()
		w.do()
		w.wantTried("v2", "v2")
	})
}

// One version comes with every rotation, for years.
func TestVersionsAreForgotten(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		for i := range 100 {
			password := fmt.Sprint("p", i)
			w.sm.Put("prod/db", password)
			w.db.setPassword(password)
			w.reread()
			w.do()
		}
		if n := w.r.Versions(); n > 16 {
			t.Errorf("%d versions are remembered after 100 rotations, want 16 at most", n)
		}
		// The oldest go, and not what was just learned.
		w.pend("next")
		w.db.setPassword("next")
		w.db.tried()
		w.do()
		w.do()
		w.wantTried("p99", "next", "next")
	})
}

// The stragglers of a change have the labels read once, not each for itself.
func TestStragglersShareTheReads(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		var walks []*retry.Walk
		for range 20 {
			walks = append(walks, w.begin("v1"))
		}
		time.Sleep(time.Second)
		w.sm.ResetCalls()
		var wg sync.WaitGroup
		for _, walk := range walks {
			walk.Refused(t.Context(), errRefused)
			wg.Go(func() {
				if s, err := walk.Next(t.Context()); !isRefused(err) {
					t.Errorf("Next = %v, %v, want the refusal", s, err)
				}
			})
			time.Sleep(20 * time.Millisecond)
		}
		if n := w.sm.Count("GetSecretValue"); n > 6 {
			t.Errorf("%d reads for 20 stragglers in half a second, want one of each label or two", n)
		}
		wg.Wait()
		if n := w.sm.Count("GetSecretValue"); n > 24 {
			t.Errorf("%d reads in the three seconds in which they waited for labels that may lag", n)
		}
	})
}

// Where nothing was refused there is nothing to get round.
func TestPendingIsReadAfterARefusalOnly(t *testing.T) {
	elsewhere := &retry.Options{Usable: func(*cache.Secret) bool { return false }}
	bubble(t, elsewhere, func(t *testing.T, w *world) {
		w.pend("v2")
		for range 3 {
			if err := w.r.Do(t.Context(), w.db.login); err == nil {
				t.Error("Do succeeded without a version for the target")
			}
			time.Sleep(2 * time.Second)
		}
		if n := w.reads(cache.Pending); n != 0 {
			t.Errorf("%d reads of AWSPENDING although nothing was refused, want 0", n)
		}
	})
}

// What AWSPREVIOUS was on at the last rotation is not what it is on now.
func TestReplicaLagsThroughTwoRotations(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		rotate := func(value string) {
			t.Helper()
			if _, err := w.sm.Rotate(t.Context(), "prod/db", value); err != nil {
				t.Fatal(err)
			}
			w.reread()
		}
		w.do()
		rotate("v2")
		w.db.tried()
		w.do()
		w.wantTried("v2", "v1")
		time.Sleep(time.Minute)
		w.db.setPassword("v2")
		w.do()
		rotate("v3")
		w.db.tried()
		w.do()
		w.wantTried("v3", "v2")
	})
}

// The next rotation may have begun, and its password is not set yet: AWSCURRENT
// is looked at again before AWSPENDING is.
func TestAwscurrentGoesBeforeTheNextRotation(t *testing.T) {
	bubble(t, nil, func(_ *testing.T, w *world) {
		v2 := w.changed()
		w.do()
		w.promote(v2)
		w.pend("v3")
		time.Sleep(2 * time.Second)
		w.db.tried()
		w.do()
		w.wantTried("v2")
	})
}

// A version whose refusal does not count is tried once more, not until the walk's
// logins are used up.
func TestDoubtedVersionIsTriedOnceMore(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		w.do()
		walk, other := w.begin("v1"), w.begin("v1")
		other.Accepted()
		walk.Refused(t.Context(), errRefused) // it began before that
		w.next(walk, "v1")
		time.Sleep(1100 * time.Millisecond) // it leads no longer
		w.begin("v1").Accepted()
		walk.Refused(t.Context(), errRefused) // and again
		if s, err := walk.Next(t.Context()); !isRefused(err) {
			t.Errorf("Next = %v, %v, want the refusal", s, err)
		}
	})
}

// Two versions that were both accepted a moment ago are tried in turns, as if the
// endpoint had nodes that differ, but not for long if neither is accepted; and not at
// all if it is known to be one server.
func TestStreakOfRefusalsEnds(t *testing.T) {
	for one, most := range map[bool]int{false: 5*3 + 2, true: 2} {
		bubble(t, &retry.Options{Patience: -1, OneServer: one}, func(_ *testing.T, w *world) {
			w.do()
			w.pend("v2")
			w.db.setPassword("v2")
			w.do()
			before := w.db.count()
			w.db.setPassword("neither")
			w.hammer(1, 20*time.Second)
			if n := w.db.count() - before; n == 0 || n > most {
				w.t.Errorf("one server: %t: %d refused logins with two versions that were good, want %d at most", one, n, most)
			}
		})
	}
}
