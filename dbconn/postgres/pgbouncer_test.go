package postgres_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/internal/testcert"
	"github.com/keyturn/keyturn/retry"
)

func newBouncer(t *testing.T, opts *pgserver.BouncerOptions) *pgserver.Bouncer {
	t.Helper()
	b, err := pgserver.StartBouncer(t.Context(), pg, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(b.LogFile())
			t.Logf("PgBouncer's log:\n%s", log[max(0, len(log)-5000):])
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// bare is what pgx alone says of a login.
func bare(ctx context.Context, host string, port int, user, password, database string) error {
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return err
	}
	cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = host, uint16(port), user, password, database
	cfg.Fallbacks, cfg.ConnectTimeout = nil, 10*time.Second
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// PgBouncer has one code for much: what it means is told by the text, and what
// comes of it is what pgx alone would have said.
func TestPgBouncerCodes(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	upstream, _ := newUser(t) // whose password PgBouncer has wrong
	files := newBouncer(t, &pgserver.BouncerOptions{
		Databases: []string{name, upstream, "elsewhere"}, NoLookup: true,
		Users: map[string]string{name: password, upstream: "outdated"},
	})
	lookups := newBouncer(t, nil)
	for _, test := range []struct {
		name                     string
		b                        *pgserver.Bouncer
		user, password, database string
		message                  string // the server's own
		refused                  bool
	}{
		{"wrong password, users in a file", files, name, "wrong", name, "SASL authentication failed", true},
		{"wrong password, users looked up", lookups, name, "wrong", name, "SASL authentication failed", true},
		{"no such user in the file", files, "nobody_there", "wrong", name, "SASL authentication failed", true},
		{"no such user to look up", lookups, "nobody_there", "wrong", name, "no such user", true},
		{"a database that it does not know", files, name, password, "unheard_of", "no such database: unheard_of", false},
		{"a database that the server does not know", files, name, password, "elsewhere", `database "elsewhere" does not exist`, false},
		{"the server refuses it", files, upstream, "outdated", upstream, "password authentication failed for user", true},
		{"right, users in a file", files, name, password, name, "", false},
		{"right, users looked up", lookups, name, password, name, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			alone := bare(t.Context(), test.b.Host(), test.b.Port(), test.user, test.password, test.database)
			alonePg, _ := errors.AsType[*pgconn.PgError](alone)
			for _, opener := range kinds {
				_, c := newCache(t, document(t, test.user, test.password))
				stats := new(retry.Stats)
				err := opener.new(t, c, &postgres.Options{Host: test.b.Host(), Port: test.b.Port(), Database: test.database, Stats: stats})(t.Context())
				e, _ := errors.AsType[*pgconn.PgError](err)
				switch {
				case test.message == "":
					if err != nil || alone != nil {
						t.Errorf("%s: %v; pgx alone: %v", opener.name, err, alone)
					}
				case e == nil || alonePg == nil || e.Code != "08P01" || alonePg.Code != "08P01":
					t.Errorf("%s: %v; pgx alone: %v", opener.name, err, alone)
				case strings.Contains(e.Message, "server_login_retry"):
					// It has just been refused by the server, and says only so much for a
					// while.
				case e.Message != alonePg.Message || !strings.Contains(e.Message, test.message) || dbconn.IsRefused(err) != test.refused:
					t.Errorf("%s: refused: %t, %v; pgx alone: %v", opener.name, dbconn.IsRefused(err), err, alone)
				}
				if n := stats.Logins.Load(); n != 1 {
					t.Errorf("%s: %d logins for one", opener.name, n)
				}
			}
		})
	}
}

// AWSCURRENT names a user that PgBouncer does not find: PostgreSQL itself would refuse
// such a login (28P01), and the user under another label is tried.
func TestPgBouncerWithoutTheUser(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	b := newBouncer(t, nil)
	for _, opener := range openers {
		srv, c := newCache(t, document(t, "nobody_there", "p"))
		pend(t, srv, document(t, name, password))
		connect := opener.new(t, c, &postgres.Options{Host: b.Host(), Port: b.Port(), Database: name})
		if err := connect(t.Context()); err != nil {
			t.Errorf("%s: %v", opener.name, err)
		}
	}
}

// sslmode=prefer was asked for by name: TLS, and then without, if the server has none.
// It is no reason to send in clear what was refused over TLS.
func TestPgBouncerPreferAfterARefusal(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	cert, key := testcert.New(t)
	b := newBouncer(t, &pgserver.BouncerOptions{
		NoLookup: true, Users: map[string]string{name: password},
		Files:    map[string][]byte{"server.crt": cert, "server.key": key},
		Settings: map[string]string{"client_tls_sslmode": "allow", "client_tls_cert_file": "server.crt", "client_tls_key_file": "server.key"},
	})
	for _, opener := range openers {
		if opener.name == "ConfigurePool" {
			continue // there, what is pgx's default is unsaid
		}
		_, c := newCache(t, document(t, name, "wrong"))
		var clear, dials atomic.Int64
		connect := opener.new(t, c, &postgres.Options{
			Host: b.Host(), Port: b.Port(), DSN: "sslmode=prefer", Patience: -1,
			Configure: func(cfg *pgx.ConnConfig) error {
				dial := cfg.DialFunc
				cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
					dials.Add(1)
					return dial(ctx, network, address)
				}
				cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
					if _, ok := conn.(*tls.Conn); !ok {
						clear.Add(1)
					}
					return conn, nil
				}
				return nil
			},
		})
		err := connect(t.Context())
		if !dbconn.IsRefused(err) {
			t.Errorf("%s: %v", opener.name, err)
		}
		if clear.Load() != 0 || dials.Load() != 1 {
			t.Errorf("%s: %d attempts, %d of them in clear", opener.name, dials.Load(), clear.Load())
		}
	}
}

// Rotations behind a PgBouncer, which looks the passwords up on the server or has
// them in a file of its own: no query fails.
func TestRotationThroughPgBouncer(t *testing.T) {
	t.Parallel()
	for _, lookup := range []bool{true, false} {
		for _, login := range []string{"pgxpool", "database/sql"} {
			t.Run(fmt.Sprintf("%s, lookup %t", login, lookup), func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t)
				opts := &pgserver.BouncerOptions{NoLookup: !lookup}
				if !lookup {
					opts.Users = map[string]string{name: password}
				}
				b := newBouncer(t, opts)
				srv, c := newCache(t, document(t, name, password))
				stats := new(retry.Stats)
				query, done := shortLived(t, login, c, postgres.Options{
					Host: b.Host(), Port: b.Port(), Stats: stats,
					// PgBouncer has no prepared statements over transactions.
					DSN: "default_query_exec_mode=exec",
				})
				defer done()
				ctx, cancel := context.WithCancel(t.Context())
				var queries atomic.Int64
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						for ctx.Err() == nil {
							if err := query(t.Context()); err != nil {
								t.Errorf("a query failed: %v", err)
							}
							queries.Add(1)
							time.Sleep(10 * time.Millisecond)
						}
					})
				}
				for i := range 3 {
					// PgBouncer makes callers wait that it let in with a password which
					// changes before it is in itself: there is no saying how many
					// queries a rotation leaves time for.
					until := queries.Load() + 10
					eventually(t, "queries", func() bool { return queries.Load() > until })
					next := fmt.Sprint("password ", i)
					pending := pend(t, srv, document(t, name, next))
					if err := pg.SetPassword(t.Context(), name, next); err != nil {
						t.Error(err)
					}
					if !lookup {
						if err := b.SetUsers(map[string]string{name: next}); err != nil {
							t.Error(err)
						}
					}
					time.Sleep(300 * time.Millisecond)
					promote(t, srv, pending)
					time.Sleep(300 * time.Millisecond)
				}
				cancel()
				wg.Wait()
				if stats.Refused.Load() == 0 {
					t.Error("no login was refused: the test has proved nothing")
				}
			})
		}
	}
}

// shortLived opens a pool of either kind whose connections live for a moment.
func shortLived(t *testing.T, kind string, c *cache.Cache, opts postgres.Options) (query func(context.Context) error, done func()) {
	t.Helper()
	if kind == "pgxpool" {
		opts.DSN += " pool_max_conns=8 pool_max_conn_lifetime=100ms pool_health_check_period=20ms"
		pool, err := postgres.NewPool(t.Context(), c, "prod/db", &opts)
		if err != nil {
			t.Fatal(err)
		}
		return func(ctx context.Context) error { _, err := pool.Exec(ctx, "select 1"); return err }, pool.Close
	}
	db, err := postgres.OpenDB(c, "prod/db", &opts)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	db.SetConnMaxLifetime(100 * time.Millisecond)
	return func(ctx context.Context) error { _, err := db.ExecContext(ctx, "select 1"); return err }, func() { _ = db.Close() }
}
