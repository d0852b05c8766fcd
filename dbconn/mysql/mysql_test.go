package mysql_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/retry"
)

func TestEverythingFromTheSecret(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		name, password := newUser(t, srv)
		_, c := newCache(t, document(t, srv, name, password))
		for _, opts := range []*mysql.Options{nil, {DSN: "/?parseTime=true"}, {Config: godriver.NewConfig()}} {
			user, database, err := whoami(t.Context(), open(t, c, opts))
			if err != nil || user != name || database != name {
				t.Errorf("%+v: logged in as %s to %s, %v, want %s", opts, user, database, err, name)
			}
		}
	})
}

func TestSocket(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		name, password := newUser(t, srv)
		_, c := newCache(t, document(t, srv, name, password))
		for _, opts := range []*mysql.Options{{DSN: "unix(" + srv.Socket() + ")/"}, {Host: srv.Socket()}} {
			user, database, err := whoami(t.Context(), open(t, c, opts))
			if err != nil || user != name || database != name {
				t.Errorf("%+v: logged in as %s to %s, %v, want %s", opts, user, database, err, name)
			}
			err = open(t, c, &mysql.Options{DSN: opts.DSN, Host: opts.Host, Database: "nowhere"}).PingContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), "logging in to "+srv.Socket()+` with secret "prod/db"`) {
				t.Errorf("%+v: %v, want the socket's path in it", opts, err)
			}
		}
	})
}

// Whatever the password holds, it goes into a field and not into a string.
func TestAnyPassword(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		for _, password := range []string{
			` '"\%@:/?#[]&= `, "a b", `\`, "'", "@tcp(evil:3306)/x?tls=false", "x?allowCleartextPasswords=true", "\x01\t\n\r\x1f\x7f",
			"pässwörd", "密码😀", strings.Repeat("x", 128), strings.Repeat("😀", 32), "%41%zz", "$(x)`y`${z}", ";--",
		} {
			name, _ := newUser(t, srv)
			if err := srv.SetPassword(t.Context(), name, password); err != nil {
				t.Fatal(err)
			}
			_, c := newCache(t, document(t, srv, name, password))
			if err := open(t, c, nil).PingContext(t.Context()); err != nil {
				t.Errorf("password %q: %v", password, err)
			}
		}
	})
}

func TestConnectionsAreTheDriversOwn(t *testing.T) {
	name, password := newUser(t, mariadb)
	_, c := newCache(t, document(t, mariadb, name, password))
	cfg := godriver.NewConfig()
	cfg.User, cfg.Passwd, cfg.Addr = name, password, net.JoinHostPort(mariadb.Host(), strconv.Itoa(mariadb.Port()))
	plain, err := godriver.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	own, err := plain.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	conn, err := open(t, c, nil).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Raw(func(raw any) error {
		if got, want := typeOf(raw), typeOf(own); got != want || !strings.HasPrefix(want, "*mysql.") {
			t.Errorf("Raw yields a %s, want %s", got, want)
		}
		if _, ok := raw.(driver.SessionResetter); !ok {
			t.Error("Raw yields no SessionResetter")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRefusedLogin(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		name, _ := newUser(t, srv)
		const sentinel = "s3nt!nel-Pa55w0rd"
		sm, c := newCache(t, document(t, srv, name, sentinel))
		connector, err := mysql.NewConnector(c, "prod/db", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = connector.Connect(t.Context())
		refusal, ok := errors.AsType[*retry.Error](err)
		if !ok || !dbconn.IsRefused(err) || len(refusal.Tried) != 1 || refusal.SecretID != "prod/db" || refusal.Target != net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port())) {
			t.Fatalf("Connect: %#v", err)
		}
		own, ok := errors.AsType[*godriver.MySQLError](err)
		if !ok || own.Number != 1045 {
			t.Errorf("no MySQLError 1045 in %v", err)
		}
		if errors.Is(err, driver.ErrBadConn) {
			t.Errorf("%v is a bad connection to database/sql, which would log in three times", err)
		}
		for _, want := range []string{
			refusal.Target + ` refuses secret "prod/db": version ` + refusal.Tried[0].VersionID + " (AWSCURRENT)", "Error 1045 (28000)", "must log in over TLS",
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		c.Close()
		leaktest.Check(t, sentinel, err)
		leaktest.Check(t, sentinel, own)
		leaktest.Check(t, sentinel, connector)
		leaktest.Check(t, sentinel, open(t, c, nil))
		if n := failures(t, srv, name); n != 1 {
			t.Errorf("%d failed logins on the server, want 1", n)
		}
		if n := sm.Count("GetSecretValue"); n > 5 {
			t.Errorf("%d calls for one refused login", n)
		}
	})
}

// What holds the password for the length of a login shows it to nobody.
func TestOptionsHoldNoPassword(t *testing.T) {
	name, password := newUser(t, mysqld)
	_, c := newCache(t, document(t, mysqld, name, password))
	cfg := godriver.NewConfig()
	opts := &mysql.Options{Config: cfg}
	db := open(t, c, opts)
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	leaktest.Check(t, password, opts)
	if cfg.User != "" || cfg.Passwd != "" || cfg.Addr != "" {
		t.Errorf("the user's configuration was changed: %+v", cfg)
	}
}

// What is no refusal goes to the caller at once, with the secret's name on it.
func TestOtherErrorsPass(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		name, password := newUser(t, srv)
		_, c := newCache(t, document(t, srv, name, password))
		err := open(t, c, &mysql.Options{Database: "no_such_database"}).PingContext(t.Context())
		server := net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port()))
		if own, ok := errors.AsType[*godriver.MySQLError](err); !ok || own.Number != 1044 || dbconn.IsRefused(err) ||
			!strings.HasPrefix(err.Error(), "dbconn: logging in to "+server+` with secret "prod/db": `) {
			t.Errorf("unknown database: %v", err)
		}
		if n := failures(t, srv, name); n != 0 {
			t.Errorf("%d failed logins on the server, want 0", n)
		}
		leaktest.Check(t, password, err)
	})

	t.Run("nobody listens", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := listener.Addr().(*net.TCPAddr).Port
		_ = listener.Close()
		_, c := newCache(t, `{"username":"u","password":"s3cret-p4ssword"}`)
		err = open(t, c, &mysql.Options{Host: "127.0.0.1", Port: port}).PingContext(t.Context())
		if err == nil || dbconn.IsRefused(err) || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), `secret "prod/db"`) {
			t.Errorf("nobody listens: %v", err)
		}
		leaktest.Check(t, "s3cret-p4ssword", err)
	})
}

func TestHostThatDoesNotAnswer(t *testing.T) {
	_, c := newCache(t, `{"username":"u","password":"s3cret"}`)
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
	db := open(t, c, &mysql.Options{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = db.PingContext(ctx)
	if err == nil || dbconn.IsRefused(err) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `with secret "prod/db"`) {
		t.Errorf("%v, want the context's error", err)
	}
}

// errSeen ends a connect once there is something to see.
var errSeen = errors.New("seen")

// A login that nobody bounds is bounded here, the login and not the dial alone.
func TestLoginsAreBoundedInTime(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 10 * time.Second, 3 * time.Second: 10 * time.Second, time.Minute: time.Minute} {
		var left time.Duration
		cfg := godriver.NewConfig()
		cfg.Timeout = timeout
		if err := cfg.Apply(godriver.BeforeConnect(func(ctx context.Context, _ *godriver.Config) error {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return errSeen
		})); err != nil {
			t.Fatal(err)
		}
		_, c := newCache(t, `{"username":"u","password":"s3cret","host":"10.1.2.3"}`)
		if err := open(t, c, &mysql.Options{Config: cfg}).PingContext(t.Context()); !errors.Is(err, errSeen) {
			t.Errorf("timeout %v: %v", timeout, err)
		}
		if left > want || left < want-5*time.Second {
			t.Errorf("timeout %v: %v for the login, want %v", timeout, left, want)
		}
	}
}

func TestDriver(t *testing.T) {
	_, c := newCache(t, "{}")
	connector, err := mysql.NewConnector(c, "prod/db", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := connector.Driver().(*godriver.MySQLDriver); !ok {
		t.Errorf("Driver() = %T", connector.Driver())
	}
}
