package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// A steady pool runs queries, of which each says what user its connection was
// opened with, and opens connections only because old ones retire.
type steady struct {
	srv    *smtest.Server
	c      *cache.Cache
	stats  *retry.Stats
	query  func(context.Context) error
	opened func() int // physical connections, proofs included
	done   func()

	errors  atomic.Int64
	queries atomic.Int64
}

const steadySize = 8

// retirement makes versions known soon: the connections hear of a rotation from
// the cache, which refreshes behind them.
var retirement = &cache.Options{TTL: 2 * time.Second}

func newSteady(t *testing.T, kind, secret string, keep bool) *steady {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put("prod/db", secret)
	c, err := cache.New(srv.Client(), retirement)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := &steady{srv: srv, c: c, stats: new(retry.Stats)}
	s.opened = func() int { return int(s.stats.Accepted.Load()) }
	opts := &postgres.Options{Stats: s.stats, KeepOld: keep}
	switch kind {
	case "pgxpool":
		opts.DSN = "pool_max_conns=" + strconv.Itoa(steadySize)
		pool, err := postgres.NewPool(t.Context(), c, "prod/db", opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		s.query = func(ctx context.Context) error { _, err := pool.Exec(ctx, "select pg_sleep(0.005)"); return err }
		s.done = func() { fill(t, pool) }
	default:
		db, err := postgres.OpenDB(c, "prod/db", opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		db.SetMaxOpenConns(steadySize)
		db.SetMaxIdleConns(steadySize)
		s.query = func(ctx context.Context) error { _, err := db.ExecContext(ctx, "select pg_sleep(0.005)"); return err }
		s.done = func() {
			for range steadySize {
				conn, err := db.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
		}
	}
	s.done() // every connection is open
	return s
}

// fill opens every connection of the pool.
func fill(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for range steadySize {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
}

// run keeps all connections of the pool busy until stop is called.
func (s *steady) run(t *testing.T) (stop func()) {
	t.Helper()
	// The queries' own context does not end: a query that is cut off takes its
	// connection with it.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range steadySize {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := s.query(t.Context()); err != nil {
					s.errors.Add(1)
					t.Errorf("a query failed: %v", err)
				}
				s.queries.Add(1)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// retired waits until so many connections have retired.
func (s *steady) retired(t *testing.T, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.stats.Retired.Load() < uint64(want) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d connections have retired, want %d", s.stats.Retired.Load(), want)
		}
	}
}

// The connections of a pool without churn: after each rotation one login proves the
// new version, and then they make room one after the other. Nothing fails.
func TestRetirement(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"pgxpool", "database/sql"} {
		for _, users := range []string{"single user", "alternating users"} {
			t.Run(kind+", "+users, func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t)
				other, otherPassword := newUser(t)
				s := newSteady(t, kind, document(t, name, password), false)
				stop := s.run(t)
				const rotations = 2
				for i := range rotations {
					next := fmt.Sprint("password ", i)
					if users == "single user" {
						if err := pg.SetPassword(t.Context(), name, next); err != nil {
							t.Fatal(err)
						}
						s.srv.Put("prod/db", document(t, name, next))
					} else {
						s.srv.Put("prod/db", document(t, other, otherPassword))
						name, password, other, otherPassword = other, otherPassword, name, password
					}
					s.retired(t, steadySize*(i+1))
					// The last one's place is taken before the next rotation:
					// else that would be with the next version already.
					s.done()
				}
				stop()
				if s.errors.Load() != 0 || s.queries.Load() < 1000 {
					t.Errorf("%d errors in %d queries", s.errors.Load(), s.queries.Load())
				}
				// One proof for each rotation.
				if got, want := s.opened(), steadySize*(rotations+1)+rotations; got != want {
					t.Errorf("%d connections opened, want %d", got, want)
				}
				if s.stats.Retired.Load() != steadySize*rotations {
					t.Errorf("%d retired, want %d", s.stats.Retired.Load(), steadySize*rotations)
				}
				if n := s.stats.Refused.Load(); n != 0 {
					t.Errorf("%d logins refused", n)
				}
			})
		}
	}
}

// No more than a tenth of the pool goes in a second, and what is wanted kept stays.
func TestRetirementIsSlowAndOptional(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	keeping := newSteady(t, "pgxpool", document(t, name, password), true)
	s := newSteady(t, "pgxpool", document(t, name, password), false)
	for _, s := range []*steady{keeping, s} {
		defer s.run(t)()
		s.srv.Put("prod/db", document(t, name, password))
	}
	s.retired(t, 1)
	start := time.Now()
	s.retired(t, steadySize)
	// Eight in ten seconds, evenly; the first and the last moment are chance.
	if took := time.Since(start); took < 5*time.Second {
		t.Errorf("all connections retired within %v", took)
	}
	if n := keeping.stats.Retired.Load(); n != 0 {
		t.Errorf("%d connections retired that were to be kept", n)
	}
}

// A version that the server does not accept retires nobody.
func TestNobodyRetiresForAVersionThatIsNotProven(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	s := newSteady(t, "database/sql", document(t, name, password), false)
	stop := s.run(t)
	s.srv.Put("prod/db", document(t, name, "wrong"))
	refused := time.NewTimer(20 * time.Second)
	defer refused.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.stats.Refused.Load() == 0 { // the proof
		select {
		case <-tick.C:
		case <-refused.C:
			t.Fatal("nobody tried the new version out")
		}
	}
	time.Sleep(time.Second)
	stop()
	if s.stats.Retired.Load() != 0 || s.errors.Load() != 0 {
		t.Errorf("%d retired, %d errors", s.stats.Retired.Load(), s.errors.Load())
	}
	if n := s.stats.Refused.Load(); n != 1 {
		t.Errorf("%d refused logins, want the proof's", n)
	}
}

// A transaction is never cut: a connection retires between two users, not during
// one.
func TestTransactionsAreNotCut(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	other, otherPassword := newUser(t)
	s := newSteady(t, "pgxpool", document(t, name, password), false)
	pool, err := postgres.NewPool(t.Context(), s.c, "prod/db", &postgres.Options{DSN: "pool_max_conns=2"})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop := s.run(t)
	s.srv.Put("prod/db", document(t, other, otherPassword))
	s.retired(t, steadySize)
	stop()
	var user string
	if err := errors.Join(tx.QueryRow(t.Context(), "select current_user").Scan(&user), tx.Commit(t.Context())); err != nil || user != name {
		t.Errorf("the transaction of %s went on as %q, %v", name, user, err)
	}
}
