package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/retry"
)

// sentinel is a value that no output may hold.
const sentinel = "s3nt!nel-Pa55w0rd"

// newPool opens a pool on the secret prod/db.
func newPool(t *testing.T, c *cache.Cache, opts *postgres.Options) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), c, "prod/db", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func poolUser(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var user string
	if err := pool.QueryRow(t.Context(), "select current_user").Scan(&user); err != nil {
		t.Fatal(err)
	}
	return user
}

func TestPoolFromTheSecret(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	pool := newPool(t, c, &postgres.Options{DSN: "pool_max_conns=3 application_name=x"})
	if got := poolUser(t, pool); got != name {
		t.Errorf("logged in as %q, want %q", got, name)
	}
	if got := pool.Config().MaxConns; got != 3 {
		t.Errorf("MaxConns = %d", got)
	}
	var app string
	if err := pool.QueryRow(t.Context(), "show application_name").Scan(&app); err != nil || app != "x" {
		t.Errorf("application_name = %q, %v", app, err)
	}
}

// The password has changed: the connect that finds out succeeds all the same, with
// one refused login.
func TestPoolRetriesInsideOneConnect(t *testing.T) {
	name, password := newUser(t)
	srv, c := newCache(t, document(t, name, password))
	stats := new(retry.Stats)
	pool := newPool(t, c, &postgres.Options{Stats: stats})
	poolUser(t, pool)
	if err := pg.SetPassword(t.Context(), name, "changed"); err != nil {
		t.Fatal(err)
	}
	srv.Put("prod/db", document(t, name, "changed"))
	time.Sleep(time.Second) // MinRefresh
	pool.Reset()
	if got := poolUser(t, pool); got != name {
		t.Errorf("logged in as %q", got)
	}
	if n, err := pg.FailedLogins(name); err != nil || n != 1 || stats.Refused.Load() != 1 {
		t.Errorf("%d failed logins, %v, %d refusals counted; want 1", n, err, stats.Refused.Load())
	}
}

// When nothing is left the error is the server's own, and says so of itself too.
func TestPoolRefused(t *testing.T) {
	name, _ := newUser(t)
	_, c := newCache(t, document(t, name, sentinel))
	pool := newPool(t, c, nil)
	_, err := pool.Exec(t.Context(), "select 1")
	failed, ok := errors.AsType[*retry.Error](err)
	if !ok || len(failed.Tried) != 1 || !dbconn.IsRefused(err) {
		t.Fatalf("Exec: %v", err)
	}
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || refusal.Code != "28P01" {
		t.Errorf("the server's error is %+v", refusal)
	}
	for part := range walkErrors(err) {
		if e, ok := part.(*pgconn.PgError); ok && e.Code != "28P01" { //nolint:errorlint // Each part by itself.
			t.Errorf("a part of it is %+v", e)
		}
		if e, ok := part.(*pgconn.ConnectError); ok && e.Config.Password != "" { //nolint:errorlint // As above.
			t.Error("the error holds the password")
		}
	}
	if strings.Contains(err.Error(), sentinel) {
		t.Errorf("the error shows the password: %v", err)
	}
	if n, err := pg.FailedLogins(name); err != nil || n != 1 {
		t.Errorf("%d failed logins, %v; want 1", n, err)
	}
}

// walkErrors yields err and all that it wraps.
func walkErrors(err error) func(func(error) bool) {
	return func(yield func(error) bool) {
		if err == nil || !yield(err) {
			return
		}
		switch w := err.(type) { //nolint:errorlint // The tree itself is wanted.
		case interface{ Unwrap() error }:
			walkErrors(w.Unwrap())(yield)
		case interface{ Unwrap() []error }:
			for _, part := range w.Unwrap() {
				walkErrors(part)(yield)
			}
		}
	}
}

// The user's own hooks are called, each for what it is for.
func TestPoolKeepsTheUsersHooks(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	cfg, err := pgxpool.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	called := make(map[string]int)
	call := func(hook string) {
		mu.Lock()
		defer mu.Unlock()
		called[hook]++
	}
	dial, lookup := cfg.ConnConfig.DialFunc, cfg.ConnConfig.LookupFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		call("DialFunc")
		return dial(ctx, network, addr)
	}
	cfg.ConnConfig.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		call("LookupFunc")
		return lookup(ctx, host)
	}
	cfg.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		call("AfterNetConnect")
		return conn, nil
	}
	cfg.ConnConfig.ValidateConnect = func(context.Context, *pgconn.PgConn) error { call("ValidateConnect"); return nil }
	cfg.ConnConfig.AfterConnect = func(context.Context, *pgconn.PgConn) error { call("ConnConfig.AfterConnect"); return nil }
	onPgError := cfg.ConnConfig.OnPgError
	cfg.ConnConfig.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool { call("OnPgError"); return onPgError(conn, e) }
	cfg.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		call("BeforeConnect")
		cc.RuntimeParams["application_name"] = "mine"
		return nil
	}
	cfg.AfterConnect = func(context.Context, *pgx.Conn) error { call("AfterConnect"); return nil }
	cfg.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { call("PrepareConn"); return true, nil }
	if err := postgres.ConfigurePool(cfg, c, "prod/db", nil); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var user, app string
	if err := pool.QueryRow(t.Context(), "select current_user, current_setting('application_name')").Scan(&user, &app); err != nil || user != name || app != "mine" {
		t.Errorf("logged in as %q, application %q, %v", user, app, err)
	}
	_, _ = pool.Exec(t.Context(), "select nothing")
	_ = poolUser(t, pool)
	want := []string{"AfterConnect 1", "AfterNetConnect 1", "BeforeConnect 1", "ConnConfig.AfterConnect 1", "DialFunc 1", "LookupFunc 1", "OnPgError 1", "PrepareConn 3", "ValidateConnect 1"}
	var got []string
	for hook, n := range called {
		got = append(got, fmt.Sprint(hook, " ", n))
	}
	slices.Sort(got)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("called %v, want %v", got, want)
	}
}

// database/sql on top of the pool has what the pool has.
func TestOpenDBFromPool(t *testing.T) {
	name, password := newUser(t)
	srv, c := newCache(t, document(t, name, password))
	pool := newPool(t, c, nil)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	if user, _, err := whoami(t.Context(), db); err != nil || user != name {
		t.Errorf("logged in as %q, %v", user, err)
	}
	if err := pg.SetPassword(t.Context(), name, "changed"); err != nil {
		t.Fatal(err)
	}
	srv.Put("prod/db", document(t, name, "changed"))
	time.Sleep(time.Second)
	pool.Reset()
	if user, _, err := whoami(t.Context(), db); err != nil || user != name {
		t.Errorf("logged in as %q, %v", user, err)
	}
}

func TestConnect(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	conn, err := postgres.Connect(t.Context(), c, "prod/db", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "listen changes"); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), "notify changes"); err != nil {
		t.Error(err)
	}
	if _, err := conn.WaitForNotification(t.Context()); err != nil {
		t.Error(err)
	}
}

// A query can be canceled: that dials again, with the connection's own settings.
func TestPoolCancelsQueries(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	cfg, err := pgxpool.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.ConfigurePool(cfg, c, "prod/db", nil); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	ended := make(chan error, 1)
	go func() { _, err := conn.Exec(t.Context(), "select pg_sleep(60)"); ended <- err }()
	for canceled := false; !canceled; {
		if err := conn.Conn().PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			canceled = true
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
				t.Errorf("the query ended with %v", err)
			}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Thirty-two workers whose connections live for a moment, through rotations with
// and without a window.
func TestPoolUnderLoad(t *testing.T) {
	name, password := newUser(t)
	srv, c := newCache(t, document(t, name, password))
	stats := new(retry.Stats)
	pool := newPool(t, c, &postgres.Options{DSN: "pool_max_conns=16 pool_max_conn_lifetime=100ms pool_health_check_period=20ms", Stats: stats})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var queries, failed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := pool.Exec(ctx, "select pg_sleep(0.01)"); err != nil && ctx.Err() == nil {
					failed.Add(1)
					t.Errorf("a query failed: %v", err)
				}
				queries.Add(1)
			}
		})
	}
	for i := range 10 {
		next := fmt.Sprint("password ", i)
		pending := pend(t, srv, document(t, name, next))
		if err := pg.SetPassword(ctx, name, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i%3) * 150 * time.Millisecond)
		promote(t, srv, pending)
		time.Sleep(300 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	if stats.Refused.Load() == 0 {
		t.Error("no login was ever refused: the test has proved nothing")
	}
	t.Logf("%d queries, %d failed; %d logins, %d refused, %d connections", queries.Load(), failed.Load(), stats.Logins.Load(), stats.Refused.Load(), pool.Stat().NewConnsCount())
}
