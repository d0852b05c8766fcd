package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/internal/testcert"
	"github.com/keyturn/keyturn/retry"
)

// everywhere runs workers on queries of several pools until stop is called. Every
// error is one too many.
func everywhere(t *testing.T, queries map[string]func(context.Context) error) (count *atomic.Int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	count = new(atomic.Int64)
	for what, query := range queries {
		for range 3 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := query(t.Context()); err != nil {
						t.Errorf("%s: a query failed: %v", what, err)
					}
					count.Add(1)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return count, stop
}

// A writer and a replica over one cache. The replica hears of a password some time
// after the labels have moved, or has not heard yet when the next one comes.
func TestLaggingReplica(t *testing.T) {
	t.Parallel()
	replica := newServer(t, nil)
	name, password := newUser(t)
	if err := replica.CreateUser(t.Context(), name, password); err != nil {
		t.Fatal(err)
	}
	srv, c := newCache(t, document(t, name, password))
	queries := make(map[string]func(context.Context) error)
	stats := map[*pgserver.Server]*retry.Stats{pg: new(retry.Stats), replica: new(retry.Stats)}
	for what, server := range map[string]*pgserver.Server{"writer": pg, "replica": replica} {
		for _, kind := range []string{"pgxpool", "database/sql"} {
			query, done := shortLived(t, kind, c, postgres.Options{Host: server.Host(), Port: server.Port(), Stats: stats[server]})
			t.Cleanup(done)
			queries[what+", "+kind] = query
		}
	}
	count, stop := everywhere(t, queries)
	const rotations = 4
	for i := range rotations {
		time.Sleep(300 * time.Millisecond)
		next := fmt.Sprint("password ", i)
		pending := pend(t, srv, document(t, name, next))
		if err := pg.SetPassword(t.Context(), name, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		promote(t, srv, pending)
		time.Sleep(time.Duration(i) * 400 * time.Millisecond) // the lag
		if err := replica.SetPassword(t.Context(), name, next); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	for server, stats := range stats {
		n, err := server.FailedLogins(name)
		// Each change is one on the way there, and on the replica one on the way
		// back; those in flight come on top.
		if most := rotations * 2 * 2 * (1 + 3); err != nil || n > most || n != int(stats.Refused.Load()) || n == 0 {
			t.Errorf("%d failed logins, %v, want 1 to %d; known of here: %d", n, err, most, stats.Refused.Load())
		}
		t.Logf("%d logins, %d failed", stats.Logins.Load(), n)
	}
	if count.Load() < 200 {
		t.Errorf("%d queries", count.Load())
	}
}

// A pool without churn on a replica that lags: its connections do not retire for a
// version that it does not want yet, and nobody notices when it catches up.
func TestReplicaCatchesUp(t *testing.T) {
	t.Parallel()
	replica := newServer(t, nil)
	name, password := newUserOf(t, replica)
	s := newSteady(t, "pgxpool", documentOf(t, replica, name, password), false)
	stop := s.run(t)
	s.srv.Put("prod/db", documentOf(t, replica, name, "ahead"))
	eventually(t, "the proof that fails", func() bool { return s.stats.Refused.Load() > 0 })
	if n := s.stats.Retired.Load(); n != 0 {
		t.Errorf("%d connections have retired", n)
	}
	if err := replica.SetPassword(t.Context(), name, "ahead"); err != nil {
		t.Fatal(err)
	}
	stop()
	if s.errors.Load() != 0 {
		t.Errorf("%d errors in %d queries", s.errors.Load(), s.queries.Load())
	}
}

// Two logins with AWSPREVIOUS are under way at a replica when it catches up. One is let
// in yet, and then the other is refused: what the first was told is newer than the
// second's beginning, so the refusal does not count. Nothing is lost by that: there are
// two versions to try, of which the replica wants one.
func TestReplicaCatchesUpBetweenTwoLogins(t *testing.T) {
	t.Parallel()
	srv, c := newCache(t, "old")
	srv.Put("prod/db", "new")
	errRefused := errors.New("refused")
	r := retry.New(c, "prod/db", func(err error) bool { return errors.Is(err, errRefused) }, &retry.Options{Patience: -1})
	ctx := t.Context()
	next := func(w *retry.Walk, want string) {
		t.Helper()
		s, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("Next: %v, want the version %q", err, want)
		}
		if s.Text() != want {
			t.Fatalf("Next: %q, want %q", s.Text(), want)
		}
	}
	lagging := r.Walk() // the replica wants the old one
	next(lagging, "new")
	lagging.Refused(ctx, errRefused)
	next(lagging, "old")
	lagging.Accepted()

	first, second := r.Walk(), r.Walk()
	next(first, "old")
	next(second, "old")
	first.Accepted()
	second.Refused(ctx, errRefused) // it has caught up
	s, err := second.Next(ctx)
	if err != nil {
		t.Fatalf("the replica wants the new version, and it is not tried: %v", err)
	}
	if s.Text() == "old" { // once more, as the refusal does not count; this one does
		second.Refused(ctx, errRefused)
		next(second, "new")
	}
	second.Accepted()
}

// One endpoint for two nodes, of which one lags. Each login lands on either.
func TestReaderEndpoint(t *testing.T) {
	for _, kind := range []string{"pgxpool", "database/sql"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			readerEndpoint(t, kind)
		})
	}
}

func readerEndpoint(t *testing.T, kind string) {
	t.Helper()
	lagging := newServer(t, nil)
	name, password := newUser(t)
	if err := lagging.CreateUser(t.Context(), name, password); err != nil {
		t.Fatal(err)
	}
	on := func(password string) string {
		return strings.Replace(document(t, name, password), `"127.0.0.1"`, fmt.Sprintf("%q", testcert.Name), 1)
	}
	srv, c := newCache(t, on(password))
	stats := new(retry.Stats)
	query, done := shortLived(t, kind, c, postgres.Options{DSN: "sslmode=disable", Stats: stats, Configure: func(cfg *pgx.ConnConfig) error {
		cfg.LookupFunc = func(context.Context, string) ([]string, error) {
			nodes := []string{fmt.Sprintf("127.0.0.1:%d", pg.Port()), fmt.Sprintf("127.0.0.1:%d", lagging.Port())}
			rand.Shuffle(2, func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			return nodes, nil
		}
		return nil
	}})
	t.Cleanup(done)
	count, stop := everywhere(t, map[string]func(context.Context) error{kind: query})
	const rotations = 4
	for i := range rotations {
		time.Sleep(300 * time.Millisecond)
		next := fmt.Sprint("password ", i)
		pending := pend(t, srv, on(next))
		if err := pg.SetPassword(t.Context(), name, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		promote(t, srv, pending)
		time.Sleep(time.Second)
		if err := lagging.SetPassword(t.Context(), name, next); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	failed := 0
	for _, server := range []*pgserver.Server{pg, lagging} {
		n, err := server.FailedLogins(name)
		if err != nil {
			t.Fatal(err)
		}
		failed += n
	}
	if failed == 0 || failed != int(stats.Refused.Load()) {
		t.Errorf("%d failed logins on the servers, %d known of here", failed, stats.Refused.Load())
	}
	t.Logf("%d queries, %d logins, %d failed", count.Load(), stats.Logins.Load(), failed)
}
