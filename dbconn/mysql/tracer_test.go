package mysql_test

import (
	"sync"
	"time"

	"github.com/keyturn/keyturn/dbconn/mysql"
)

// A tracer counts logins as the driver makes them, and those of them that a change
// of the password was bound to refuse.
type tracer struct {
	mu       sync.Mutex
	flying   int // logins without an outcome
	peak     int // the most of these at once
	started  int
	locked   int       // that were told that the account is locked
	watching bool      // the password is being changed, and no refusal has told of it yet
	known    time.Time // when one had
	changes  []change  // the last one is under way
}

// A change is what a change of the password cost.
type change struct {
	refused int // failed logins, up to the next change
	bound   int // logins in flight when it took effect: begun before the first refusal came back
}

// heard is how long a refusal may take from the network to whoever decides on the
// next login, and a login that is decided on to the network: all of these are
// goroutines of a busy program.
const heard = 10 * time.Millisecond

// change says that the password changes from now on.
func (t *tracer) change() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watching = true
	t.changes = append(t.changes, change{bound: t.flying})
}

// begin takes note of a login, and returns what takes its outcome.
func (t *tracer) begin() func(error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying++
	t.peak = max(t.peak, t.flying)
	t.started++
	if len(t.changes) > 0 && (t.watching || time.Since(t.known) < heard) {
		t.changes[len(t.changes)-1].bound++
	}
	return t.end
}

func (t *tracer) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying--
	switch {
	case mysql.LockedOut(err):
		t.locked++
	case mysql.Refused(err) && len(t.changes) > 0:
		t.changes[len(t.changes)-1].refused++
		if t.watching {
			t.watching, t.known = false, time.Now()
		}
	}
}
