package main

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// logins remembers every login of a pool.
type logins struct {
	mu    sync.Mutex // protects following
	all   []login
	began map[string]time.Time // by local address: those under way
}

type login struct {
	began, ended time.Time
	refused      bool
}

// watch has l see the logins of a pool. A tracer of pgx would see whole connects,
// in which Keyturn may log in more than once.
func (l *logins) watch(cfg *pgx.ConnConfig) {
	dial, onPgError := cfg.DialFunc, cfg.OnPgError
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		now := time.Now()
		conn, err := dial(ctx, network, address)
		if err == nil {
			l.begin(conn, now)
		}
		return conn, err
	}
	cfg.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		if e.Code == "28P01" {
			l.end(conn.Conn(), true)
		}
		return onPgError(conn, e)
	}
	cfg.ValidateConnect = func(_ context.Context, conn *pgconn.PgConn) error {
		l.end(conn.Conn(), false)
		return nil
	}
}

func (l *logins) begin(conn net.Conn, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began == nil {
		l.began = make(map[string]time.Time)
	}
	l.began[conn.LocalAddr().String()] = now
}

func (l *logins) end(conn net.Conn, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	address := conn.LocalAddr().String()
	l.all = append(l.all, login{began: l.began[address], ended: time.Now(), refused: refused})
	delete(l.began, address)
}

// heard is how long a refusal may take from the network to whoever decides on the
// next login, and a login that is decided on to the network: all of these are
// goroutines of a busy program, on a machine that may have two cores.
const heard = 10 * time.Millisecond

// A tally is what one change of the password did to the logins of a pool.
type tally struct {
	inFlight int // when the first refusal came back; nobody could know before it
	refused  int
	late     int // the refused ones that began after that: somebody did know
}

// tally looks at the logins from one change of the password to the next, or to
// the end if next is zero.
func (l *logins) tally(change, next time.Time) tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	during := func(t time.Time) bool { return !t.Before(change) && (next.IsZero() || t.Before(next)) }
	var first time.Time
	for _, a := range l.all {
		if a.refused && during(a.ended) && (first.IsZero() || a.ended.Before(first)) {
			first = a.ended
		}
	}
	var t tally
	if first.IsZero() {
		return t
	}
	known := first.Add(heard)
	for _, a := range l.all {
		if !a.ended.Before(change) && !a.began.After(known) {
			t.inFlight++
		}
		if a.refused && during(a.ended) {
			t.refused++
			if a.began.After(known) {
				t.late++
			}
		}
	}
	return t
}
