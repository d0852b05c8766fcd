package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/retry"
)

func open(t *testing.T, c *cache.Cache, opts *postgres.Options) *sql.DB {
	t.Helper()
	db, err := postgres.OpenDB(c, "prod/db", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func whoami(ctx context.Context, db *sql.DB) (user, database string, err error) {
	err = db.QueryRowContext(ctx, "select current_user, current_database()").Scan(&user, &database)
	return user, database, err
}

func TestEverythingFromTheSecret(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	db := open(t, c, nil)
	user, database, err := whoami(t.Context(), db)
	if err != nil || user != name || database != name {
		t.Errorf("logged in as %s to %s, %v, want %s", user, database, err, name)
	}
}

// Whatever the password holds, it goes into a field and not into a string.
func TestAnyPassword(t *testing.T) {
	for _, password := range []string{
		` '"\%@:/?#[]&= `, "a b", `\`, "'", "sslmode=disable host=evil", "\x01\t\n", "pässwörd", "密码😀", strings.Repeat("x", 128), "%41%zz",
	} {
		name, _ := newUser(t)
		if err := pg.SetPassword(t.Context(), name, password); err != nil {
			t.Fatal(err)
		}
		_, c := newCache(t, document(t, name, password))
		if err := open(t, c, nil).PingContext(t.Context()); err != nil {
			t.Errorf("password %q: %v", password, err)
		}
	}
}

func TestConnectionsAreTheDriversOwn(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	conn, err := open(t, c, nil).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Raw(func(raw any) error {
		if _, ok := raw.(*stdlib.Conn); !ok {
			t.Errorf("Raw yields a %T, want *stdlib.Conn", raw)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRefusedLogin(t *testing.T) {
	name, _ := newUser(t)
	srv, c := newCache(t, document(t, name, sentinel))
	connector, err := postgres.NewConnector(c, "prod/db", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = connector.Connect(t.Context())
	refusal, ok := errors.AsType[*retry.Error](err)
	server := net.JoinHostPort(pg.Host(), strconv.Itoa(pg.Port()))
	if !ok || !dbconn.IsRefused(err) || len(refusal.Tried) != 1 || refusal.SecretID != "prod/db" || refusal.Target != server+" ("+server+")" {
		t.Fatalf("Connect: %#v", err)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "28P01" {
		t.Errorf("no PgError with 28P01 in %v", err)
	}
	for _, want := range []string{refusal.Target + ` refuses secret "prod/db": version ` + refusal.Tried[0].VersionID + " (AWSCURRENT)", "28P01"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	c.Close()
	leaktest.Check(t, sentinel, err)
	leaktest.Check(t, sentinel, connector)
	if n, err := pg.FailedLogins(name); err != nil || n != 1 {
		t.Errorf("%d failed logins on the server, %v, want 1", n, err)
	}
	if n := srv.Count("GetSecretValue"); n > 5 {
		t.Errorf("%d calls for one refused login", n)
	}
}

// What is no refusal goes to the caller at once, with the secret's name on it.
func TestOtherErrorsPass(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	db := open(t, c, &postgres.Options{Database: "no_such_database"})
	err := db.PingContext(t.Context())
	server := net.JoinHostPort(pg.Host(), strconv.Itoa(pg.Port()))
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "3D000" || dbconn.IsRefused(err) ||
		!strings.HasPrefix(err.Error(), "postgres: logging in to "+server+` with secret "prod/db": `) {
		t.Errorf("unknown database: %v", err)
	}
	if n, err := pg.FailedLogins(name); err != nil || n != 0 {
		t.Errorf("%d failed logins on the server, %v, want 0", n, err)
	}
	leaktest.Check(t, password, err)
	// pgx keeps the configuration of the attempt in its error.
	failed, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok || failed.Config.Password != "" {
		t.Errorf("the driver's error holds a password")
	}
	leaktest.Check(t, password, failed)
	if strings.Contains(err.Error(), "not tried") {
		t.Errorf("%v tells of what was not done", err)
	}

	// Nobody listens.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	err = open(t, c, &postgres.Options{Host: "127.0.0.1", Port: port}).PingContext(t.Context())
	if err == nil || dbconn.IsRefused(err) || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), `secret "prod/db"`) {
		t.Errorf("nobody listens: %v", err)
	}
	leaktest.Check(t, password, err)
}

func TestHostThatDoesNotAnswer(t *testing.T) {
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = listener.Close() }()
	wg.Go(func() { // it takes the connection and says nothing
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() })
		}
	})
	address := listener.Addr().(*net.TCPAddr)
	for name, test := range map[string]struct {
		dsn     string
		timeout time.Duration
	}{
		"the caller's deadline":    {"", 200 * time.Millisecond},
		"connect_timeout of a DSN": {"connect_timeout=1", time.Minute},
	} {
		db := open(t, c, &postgres.Options{DSN: test.dsn, Host: "127.0.0.1", Port: address.Port})
		ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
		err := db.PingContext(ctx)
		cancel()
		if err == nil || dbconn.IsRefused(err) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `with secret "prod/db"`) {
			t.Errorf("%s: %v", name, err)
		}
		leaktest.Check(t, password, err)
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	for secret, want := range map[string]string{
		"hunter2-not-json": "not valid JSON",
		`{"username":"u"}`: `field "password" is missing`,
		`{"username":"u","password":"hunter2","port":"x"}`:   `field "port" is not a number`,
		`{"username":"u","password":"hunter2"}`:              `has no field "host"`,
		`{"username":["hunter2"],"password":"p","host":"h"}`: `field "username" is not a string`,
	} {
		_, c := newCache(t, secret)
		err := open(t, c, nil).PingContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `secret "prod/db"`) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("secret %s: %v, want %q", secret, err, want)
		}
	}
}

func TestDriver(t *testing.T) {
	_, c := newCache(t, "{}")
	connector, err := postgres.NewConnector(c, "prod/db", nil)
	if err != nil {
		t.Fatal(err)
	}
	if connector.Driver() != stdlib.GetDefaultDriver() {
		t.Errorf("Driver() = %T", connector.Driver())
	}
}

// Configure is called once for each server, also if it panics.
func TestConfigureThatPanics(t *testing.T) {
	_, c := newCache(t, document(t, "u", "p"))
	connector, err := postgres.NewConnector(c, "prod/db", &postgres.Options{Configure: func(*pgx.ConnConfig) error { panic("configure") }})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		func() {
			defer func() {
				if got := recover(); got != "configure" {
					t.Errorf("recovered %v, want Configure's own panic", got)
				}
			}()
			_, _ = connector.Connect(t.Context())
		}()
	}
}

func TestLoginsAreBoundedInTime(t *testing.T) {
	for dsn, want := range map[string]time.Duration{"": 10 * time.Second, "connect_timeout=3": 3 * time.Second} {
		cfg, err := merged(t, document(t, "u", "p"), postgres.Options{DSN: dsn})
		if err != nil || cfg.ConnectTimeout != want {
			t.Errorf("DSN %q: connect timeout %v, %v, want %v", dsn, cfg.ConnectTimeout, err, want)
		}
	}
}
