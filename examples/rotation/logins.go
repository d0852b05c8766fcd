package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// logins is a pgx tracer that remembers every login of a pool.
type logins struct {
	mu  sync.Mutex // protects following
	all []login
}

type login struct {
	began, ended time.Time
	refused      bool
}

type loginBegan struct{}

// TraceConnectStart takes the time.
func (l *logins) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, loginBegan{}, time.Now())
}

// TraceConnectEnd takes note of the login.
func (l *logins) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	began, _ := ctx.Value(loginBegan{}).(time.Time)
	pgErr, ok := errors.AsType[*pgconn.PgError](data.Err)
	refused := ok && pgErr.Code == "28P01"
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, login{began: began, ended: time.Now(), refused: refused})
}

// TraceQueryStart does nothing. A tracer of pgx has to have it.
func (l *logins) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd does nothing either.
func (l *logins) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

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
