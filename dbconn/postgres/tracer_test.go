package postgres_test

import (
	"context"
	"errors"
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

func (t *tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying++
	t.peak = max(t.peak, t.flying)
	t.started++
	if t.watching || time.Since(t.known) < heard {
		t.changes[len(t.changes)-1].bound++
	}
	return ctx
}

func (t *tracer) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flying--
	if pgErr, ok := errors.AsType[*pgconn.PgError](data.Err); ok && pgErr.Code == "28P01" {
		t.changes[len(t.changes)-1].refused++
		if t.watching {
			t.watching, t.known = false, time.Now()
		}
	}
}

func (*tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (*tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// configure is an Options.Configure that has t trace.
func (t *tracer) configure(cfg *pgx.ConnConfig) error {
	cfg.Tracer = t
	return nil
}
