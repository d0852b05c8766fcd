package loadtest

import (
	"sync"
	"testing"
	"time"
)

// A Tracer counts logins as the driver makes them, and those of them that a change of
// the password was bound to refuse. What a [Trace] knows from the pool, it sees from
// outside: which of the two to go by, Trace says. All methods may be called concurrently.
type Tracer struct {
	mu       sync.Mutex
	flying   int // logins without an outcome
	peak     int // the most of these at once
	started  int
	locked   int       // that were told that the account is locked
	watching bool      // the password is being changed, and no refusal has told of it yet
	known    time.Time // when one had
	changes  []traced  // the last one is under way
}

// traced is what a change of the password has cost.
type traced struct {
	refused int // failed logins, up to the next change
	bound   int // logins in flight when it took effect: begun before the first refusal came back
}

// heard is how long a refusal may take from the network to whoever decides on the
// next login, and a login that is decided on to the network: all of these are
// goroutines of a busy program.
const heard = 10 * time.Millisecond

// Change says that the password changes from now on.
func (t *Tracer) Change() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watching = true
	t.changes = append(t.changes, traced{bound: t.flying})
}

// Begin is called when a login begins.
func (t *Tracer) Begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying++
	t.peak = max(t.peak, t.flying)
	t.started++
	if len(t.changes) > 0 && (t.watching || time.Since(t.known) < heard) {
		t.changes[len(t.changes)-1].bound++
	}
}

// An Outcome is how a login has ended.
type Outcome int

// The outcomes.
const (
	Other Outcome = iota // accepted, or no verdict
	Refused
	LockedOut
)

// End is called when a login has ended.
func (t *Tracer) End(how Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying--
	switch {
	case how == LockedOut:
		t.locked++
	case how == Refused && len(t.changes) > 0:
		t.changes[len(t.changes)-1].refused++
		if t.watching {
			t.watching, t.known = false, time.Now()
		}
	}
}

// Logins returns how many logins have begun, how many there were at once at the most,
// and how many were told that the account is locked.
func (t *Tracer) Logins() (started, peak, locked int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.started, t.peak, t.locked
}

// Check checks that no change has cost more failed logins than those that were in flight
// when it took effect, and one; or with a most that is not negative, than that many. To
// be called when the load has stopped. It returns how many failed, of which there must be
// some, and how many might have.
func (t *Tracer) Check(tt *testing.T, most int) (refused, bound int) {
	tt.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, change := range t.changes {
		allowed := most
		if most < 0 {
			allowed = change.bound + 1
		}
		if change.refused > allowed {
			tt.Errorf("change %d: %d failed logins, want at most %d; %d were in flight", i+1, change.refused, allowed, change.bound)
		}
		refused, bound = refused+change.refused, bound+allowed
	}
	if refused == 0 {
		tt.Error("no login was ever refused: the test has proved nothing")
	}
	return refused, bound
}
