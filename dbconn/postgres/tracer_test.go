package postgres_test

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A tracer counts logins as pgx makes them, and those of them that a change of
// the password was bound to refuse.
type tracer struct {
	mu       sync.Mutex
	flying   int // logins without an outcome
	peak     int // the most of these at once
	started  int
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

// begin is called when a login begins.
func (t *tracer) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying++
	t.peak = max(t.peak, t.flying)
	t.started++
	if t.watching || time.Since(t.known) < heard {
		t.changes[len(t.changes)-1].bound++
	}
}

// end is called when a login has ended with what the server says, or with nil.
func (t *tracer) end(e *pgconn.PgError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying--
	if e != nil && e.Code == "28P01" {
		t.changes[len(t.changes)-1].refused++
		if t.watching {
			t.watching, t.known = false, time.Now()
		}
	}
}

// configure is an Options.Configure that has t see every login. A tracer of pgx
// sees a whole connect, of which they are part.
func (t *tracer) configure(cfg *pgx.ConnConfig) error {
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		t.begin()
		conn, err := dial(ctx, network, address)
		if err != nil {
			t.end(nil)
		}
		return conn, err
	}
	onPgError := cfg.OnPgError
	cfg.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		switch e.Code[:2] {
		case "28", "3D", "53": // what ends a login, and no query of these tests
			t.end(e)
		}
		return onPgError(conn, e)
	}
	cfg.ValidateConnect = func(context.Context, *pgconn.PgConn) error {
		t.end(nil)
		return nil
	}
	return nil
}
