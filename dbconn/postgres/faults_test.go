package postgres_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/internal/proxy"
	"github.com/keyturn/keyturn/internal/testcert"
	"github.com/keyturn/keyturn/retry"
)

// hang is how long something may take on a busy machine that ought to take a moment.
const hang = 30 * time.Second

func newProxy(t *testing.T, srv *pgserver.Server) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(fmt.Sprintf("%s:%d", srv.Host(), srv.Port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// newServer starts a server of a test's own.
func newServer(t *testing.T, opts *pgserver.Options) *pgserver.Server {
	t.Helper()
	srv, err := pgserver.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// An opener opens a connection in one way, and closes it if there is one. It holds
// on to its pool, and so to what was learned, until the end of the test.
type opener struct {
	name string
	new  func(*testing.T, *cache.Cache, *postgres.Options) func(context.Context) error
}

// openers are all the ways there are.
var openers = []opener{
	{"OpenDB", func(t *testing.T, c *cache.Cache, opts *postgres.Options) func(context.Context) error {
		t.Helper()
		db := open(t, c, opts)
		db.SetMaxIdleConns(-1)
		return db.PingContext
	}},
	{"NewPool", func(t *testing.T, c *cache.Cache, opts *postgres.Options) func(context.Context) error {
		t.Helper()
		pool := newPool(t, c, opts)
		return func(ctx context.Context) error { return acquire(ctx, pool) }
	}},
	{"ConfigurePool", func(t *testing.T, c *cache.Cache, opts *postgres.Options) func(context.Context) error {
		t.Helper()
		cfg, err := pgxpool.ParseConfig(opts.DSN)
		if err != nil {
			t.Fatal(err)
		}
		without := *opts
		without.DSN = ""
		if err := postgres.ConfigurePool(cfg, c, "prod/db", &without); err != nil {
			t.Fatal(err)
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return func(ctx context.Context) error { return acquire(ctx, pool) }
	}},
	{"Connect", func(_ *testing.T, c *cache.Cache, opts *postgres.Options) func(context.Context) error {
		return func(ctx context.Context) error {
			conn, err := postgres.Connect(ctx, c, "prod/db", opts)
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		}
	}},
}

// kinds are the two of them that the others are made of.
var kinds = openers[:2]

// acquire opens a connection of the pool's, and leaves none behind.
func acquire(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	return conn.Hijack().Close(ctx)
}

// partsOf returns err and all that it wraps.
func partsOf(err error) []error {
	if err == nil {
		return nil
	}
	all := []error{err}
	switch w := err.(type) { //nolint:errorlint // The tree itself is wanted.
	case interface{ Unwrap() error }:
		all = append(all, partsOf(w.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, part := range w.Unwrap() {
			all = append(all, partsOf(part)...)
		}
	}
	return all
}

// foreign reports whether an error is neither the network's nor the server's.
func foreign(err error) bool {
	for _, part := range partsOf(err) {
		switch part.(type) { //nolint:errorlint // Each part by itself.
		case *net.OpError, *pgconn.PgError, tls.RecordHeaderError:
			return false
		}
	}
	return !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) && !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE)
}

// The connection breaks after each byte that matters, whichever way it goes. The
// error is the network's, what MaxConcurrentLogins gives is given back, the password
// is not in doubt, and the next login succeeds.
func TestResetInMidHandshake(t *testing.T) {
	t.Parallel()
	cert, key := testcert.New(t)
	encrypted := newServer(t, &pgserver.Options{
		Files: map[string][]byte{"server.crt": cert, "server.key": key}, Settings: map[string]string{"ssl": "on"},
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	for _, srv := range []*pgserver.Server{pg, encrypted} {
		for _, opener := range openers {
			t.Run(fmt.Sprintf("%s, TLS %t", opener.name, srv == encrypted), func(t *testing.T) {
				t.Parallel()
				name, password := newUserOf(t, srv)
				_, c := newCache(t, documentOf(t, srv, name, password))
				p := newProxy(t, srv)
				stats := new(retry.Stats)
				opts := &postgres.Options{Host: "127.0.0.1", Port: p.Port(), MaxConcurrentLogins: 1, Stats: stats, DSN: "connect_timeout=20"}
				if srv == encrypted {
					opts.TLS = &tls.Config{RootCAs: roots, ServerName: testcert.Name, MinVersion: tls.VersionTLS12}
				}
				connect := opener.new(t, c, opts)
				try := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), hang)
					defer cancel()
					return connect(ctx)
				}
				if err := try(); err != nil {
					t.Fatal(err)
				}
				sent, received := len(p.Sent()), p.Received()
				var faults []proxy.Fault
				for _, reset := range []int{0, 1, 4, 5, 8, 9, 13, 20, 40, 60, sent / 2, sent - 8, 300, 600, 900} {
					if reset < sent {
						faults = append(faults, proxy.Fault{ToServer: &proxy.Cut{After: reset, Reset: true}})
					}
				}
				for _, reset := range []int{0, 1, 5, 9, 13, 24, 25, 60, received / 2, received - 30, received - 7, received - 1, 800, 1200} {
					if reset < received {
						faults = append(faults, proxy.Fault{FromServer: &proxy.Cut{After: reset, Reset: true}})
					}
				}
				for _, fault := range append(faults, proxy.Fault{Refuse: true}) {
					p.Set(fault)
					err := try()
					p.Set(proxy.Fault{})
					// The end is that of a session already, which the cut is no part of.
					late := fault.ToServer != nil && fault.ToServer.After > sent-150 || fault.FromServer != nil && fault.FromServer.After > received-150
					switch {
					case late && (err == nil || errors.Is(err, driver.ErrBadConn)):
					case err == nil:
						t.Errorf("%s: a login through a connection that was cut", describe(fault))
					case dbconn.IsRefused(err) || foreign(err) || errors.Is(err, context.DeadlineExceeded):
						t.Errorf("%s: %v", describe(fault), err)
					}
					if err := try(); err != nil {
						t.Errorf("after %s: %v", describe(fault), err)
					}
				}
				if n := stats.Refused.Load(); n != 0 {
					t.Errorf("%d refusals", n)
				}
				if logins, ended := stats.Logins.Load(), stats.Accepted.Load()+stats.NoVerdict.Load(); logins != ended {
					t.Errorf("%d logins, of which %d have ended", logins, ended)
				}
			})
		}
	}
}

func describe(f proxy.Fault) string {
	for to, cut := range map[string]*proxy.Cut{"to the server": f.ToServer, "from the server": f.FromServer} {
		if cut != nil {
			return fmt.Sprintf("cut %s after %d (reset: %t)", to, cut.After, cut.Reset)
		}
	}
	return fmt.Sprintf("%+v", f)
}

// The connection goes silent at any point. connect_timeout ends the wait, whatever
// the point, and so does the caller's context; nothing is left behind.
func TestSilenceInMidHandshake(t *testing.T) {
	t.Parallel()
	for _, fault := range []proxy.Fault{
		{Deaf: true},
		{ToServer: &proxy.Cut{After: 20}},
		{FromServer: &proxy.Cut{After: 0}},
		{FromServer: &proxy.Cut{After: 30}},
		{FromServer: &proxy.Cut{After: 200}},
	} {
		for _, opener := range kinds {
			t.Run(opener.name+", "+describe(fault), func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t)
				_, c := newCache(t, document(t, name, password))
				p := newProxy(t, pg)
				stats := new(retry.Stats)
				connect := opener.new(t, c, &postgres.Options{
					Host: "127.0.0.1", Port: p.Port(), MaxConcurrentLogins: 1, DSN: "connect_timeout=1", Stats: stats,
				})
				p.Set(fault)
				ctx, cancel := context.WithTimeout(t.Context(), hang)
				defer cancel()
				err := connect(ctx)
				netErr, ok := errors.AsType[net.Error](err)
				if err == nil || dbconn.IsRefused(err) || ctx.Err() != nil || foreign(err) || !ok || !netErr.Timeout() {
					t.Errorf("connect_timeout: %v", err)
				}
				// The caller's own context, while the login goes on behind it in a pool.
				short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
				err = connect(short)
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the caller's deadline: %v", err)
				}
				p.Set(proxy.Fault{})
				if err := connect(ctx); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				if p.Accepted() < 3 {
					t.Errorf("%d connections", p.Accepted())
				}
			})
		}
	}
}

// A slow network is no reason to fail, and no reason to take it for a refusal,
// also when the password changes.
func TestLatency(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	srv, c := newCache(t, document(t, name, password))
	p := newProxy(t, pg)
	p.Set(proxy.Fault{Delay: 50 * time.Millisecond})
	stats := new(retry.Stats)
	var connects []func(context.Context) error
	for _, opener := range openers {
		connects = append(connects, opener.new(t, c, &postgres.Options{Host: "127.0.0.1", Port: p.Port(), Stats: stats}))
	}
	all := func() {
		var wg sync.WaitGroup
		for i, connect := range connects {
			for range 3 {
				wg.Go(func() {
					if err := connect(t.Context()); err != nil {
						t.Errorf("%s: %v", openers[i].name, err)
					}
				})
			}
		}
		wg.Wait()
	}
	all()
	pending := pend(t, srv, document(t, name, "changed"))
	if err := pg.SetPassword(t.Context(), name, "changed"); err != nil {
		t.Fatal(err)
	}
	all()
	promote(t, srv, pending)
	all()
	if stats.Refused.Load() == 0 {
		t.Error("no login was refused")
	}
}

// The server restarts between the change of the password and that of the labels.
// While it is away, and only then, callers get what pgx alone gives them.
func TestRestartInMidRotation(t *testing.T) {
	t.Parallel()
	own := newServer(t, nil)
	name, password := newUserOf(t, own)
	srv, c := newCache(t, documentOf(t, own, name, password))
	var down atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	stats := new(retry.Stats)
	var queries, cut atomic.Int64
	for _, kind := range []string{"pgxpool", "database/sql"} {
		query, done := shortLived(t, kind, c, postgres.Options{Stats: stats, MaxConcurrentLogins: 2})
		defer done()
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					before := down.Load()
					err := query(t.Context())
					_, ok := errors.AsType[*pgconn.PgError](err)
					// An administrator ends sessions (57P01), and logins (57P03) when it
					// starts and stops; of a pool's connect it may be the second login that
					// meets that, after one that was refused.
					ordinary := !ok && !foreign(err)
					for part := range walkErrors(err) {
						e, ok := part.(*pgconn.PgError) //nolint:errorlint // Each part by itself.
						ordinary = ordinary || ok && strings.HasPrefix(e.Code, "57P")
					}
					switch {
					case err == nil:
						queries.Add(1)
					case !before && !down.Load() || !ordinary || dbconn.IsRefused(err):
						t.Errorf("down before %t, now %t: %v", before, down.Load(), err)
					default:
						cut.Add(1)
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	}
	time.Sleep(200 * time.Millisecond)
	for i := range 3 {
		next := fmt.Sprint("password ", i)
		pending := pend(t, srv, documentOf(t, own, name, next))
		if err := own.SetPassword(ctx, name, next); err != nil {
			t.Fatal(err)
		}
		down.Store(true)
		own.Interrupt()
		if err := own.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		// What the restart has cut may be on its way to the caller yet.
		time.Sleep(500 * time.Millisecond)
		down.Store(false)
		time.Sleep(200 * time.Millisecond)
		promote(t, srv, pending)
		time.Sleep(200 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	if cut.Load() == 0 || stats.Refused.Load() == 0 || queries.Load() < 100 {
		t.Errorf("%d queries, %d cut, %d logins refused: the test has proved nothing", queries.Load(), cut.Load(), stats.Refused.Load())
	}
	if n, err := own.FailedLogins(name); err != nil || n != int(stats.Refused.Load()) {
		t.Errorf("%d failed logins on the server, %v; the pools know of %d", n, err, stats.Refused.Load())
	}
}

// Whatever fails before or during a login, MaxConcurrentLogins gets back what the
// login had of it: the next one begins at once.
func TestSlotsAreGivenBack(t *testing.T) {
	t.Parallel()
	closed := func() int {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port
	}()
	cert, key := testcert.New(t)
	encrypted := newServer(t, &pgserver.Options{
		Files: map[string][]byte{"server.crt": cert, "server.key": key}, Settings: map[string]string{"ssl": "on"},
	})
	errHook := errors.New("the hook's own")
	for _, test := range []struct {
		name string
		dsn  string
		// breaks makes cfg fail while on says so.
		breaks func(cfg *pgx.ConnConfig, on *atomic.Bool)
		want   string
	}{
		{"lookup", "", func(cfg *pgx.ConnConfig, on *atomic.Bool) {
			lookup := cfg.LookupFunc
			cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
				if on.Load() {
					return nil, errHook
				}
				return lookup(ctx, host)
			}
		}, errHook.Error()},
		{"lookup finds nothing", "", func(cfg *pgx.ConnConfig, on *atomic.Bool) {
			lookup := cfg.LookupFunc
			cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
				if on.Load() {
					return nil, nil
				}
				return lookup(ctx, host)
			}
		}, "host"}, // ours or pgx's
		{"dial", "", func(cfg *pgx.ConnConfig, on *atomic.Bool) {
			dial := cfg.DialFunc
			cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				if on.Load() {
					address = fmt.Sprint("127.0.0.1:", closed)
				}
				return dial(ctx, network, address)
			}
		}, "connection refused"},
		{"AfterNetConnect", "", func(cfg *pgx.ConnConfig, on *atomic.Bool) {
			cfg.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
				if on.Load() {
					return conn, errHook
				}
				return conn, nil
			}
		}, errHook.Error()},
		{"TLS", fmt.Sprint("sslmode=require host=127.0.0.1 port=", encrypted.Port()), func(cfg *pgx.ConnConfig, on *atomic.Bool) {
			cfg.TLSConfig.VerifyConnection = func(tls.ConnectionState) error {
				if on.Load() {
					return errHook
				}
				return nil
			}
		}, errHook.Error()},
		{"ValidateConnect", "", func(cfg *pgx.ConnConfig, on *atomic.Bool) {
			cfg.ValidateConnect = func(context.Context, *pgconn.PgConn) error {
				if on.Load() {
					return errHook
				}
				return nil
			}
		}, errHook.Error()},
	} {
		for _, opener := range openers {
			t.Run(test.name+", "+opener.name, func(t *testing.T) {
				t.Parallel()
				srv := pg
				if test.dsn != "" {
					srv = encrypted
				}
				name, password := newUserOf(t, srv)
				_, c := newCache(t, documentOf(t, srv, name, password))
				var on atomic.Bool
				stats := new(retry.Stats)
				connect := opener.new(t, c, &postgres.Options{
					DSN: test.dsn, MaxConcurrentLogins: 1, Stats: stats,
					Configure: func(cfg *pgx.ConnConfig) error { test.breaks(cfg, &on); return nil },
				})
				ctx, cancel := context.WithTimeout(t.Context(), hang)
				defer cancel()
				for range 2 {
					on.Store(true)
					for range 3 {
						err := connect(ctx)
						if err == nil || !strings.Contains(err.Error(), test.want) || dbconn.IsRefused(err) {
							t.Errorf("%v, want %q", err, test.want)
						}
						leaktest.Check(t, password, err)
						checkNoPassword(t, err)
					}
					on.Store(false)
					start := time.Now()
					if err := connect(ctx); err != nil {
						t.Errorf("afterwards: %v", err)
					}
					if took := time.Since(start); took > 10*time.Second {
						t.Errorf("the next login took %v", took)
					}
				}
			})
		}
	}
}

// checkNoPassword looks for the password where a program finds it with errors.As.
func checkNoPassword(t *testing.T, err error) {
	t.Helper()
	for _, part := range partsOf(err) {
		if e, ok := part.(*pgconn.ConnectError); ok && e.Config != nil && e.Config.Password != "" { //nolint:errorlint // Each part by itself.
			t.Errorf("the configuration in the error has the password: %v", err)
		}
	}
}

// An Acquire that is given up keeps nothing: the login goes on behind it, and ends.
func TestAcquireGivenUp(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	p := newProxy(t, pg)
	stats := new(retry.Stats)
	pool := newPool(t, c, &postgres.Options{Host: "127.0.0.1", Port: p.Port(), MaxConcurrentLogins: 1, DSN: "connect_timeout=2 pool_max_conns=4", Stats: stats})
	p.Set(proxy.Fault{Deaf: true})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rand.N(50))*time.Millisecond)
			defer cancel()
			if err := acquire(ctx, pool); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	p.Set(proxy.Fault{})
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	for range 3 {
		if err := acquire(ctx, pool); err != nil {
			t.Error(err)
		}
	}
	pool.Close()
	if logins, ended := stats.Logins.Load(), stats.Accepted.Load()+stats.NoVerdict.Load(); logins != ended {
		t.Errorf("%d logins, of which %d have ended", logins, ended)
	}
}

// A pool is closed while its connects wait: for a slot, for another's verdict, for the
// end of a rotation. It does not wait for what they wait for.
func TestPoolClosedInMidWait(t *testing.T) {
	t.Parallel()
	for _, wait := range []string{"slot", "gate", "rotation"} {
		t.Run(wait, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			srv, c := newCache(t, document(t, name, password))
			p := newProxy(t, pg)
			stats := new(retry.Stats)
			opts := &postgres.Options{Host: "127.0.0.1", Port: p.Port(), Stats: stats, DSN: "connect_timeout=100 pool_max_conns=4", Patience: 10 * time.Minute}
			var waits func() bool
			switch wait {
			case "slot":
				opts.MaxConcurrentLogins = 1
				p.Set(proxy.Fault{Deaf: true})
				waits = func() bool { return p.Accepted() > 0 }
			case "gate":
				p.Set(proxy.Fault{Deaf: true})
				waits = func() bool { return stats.Waits.Load() > 1 }
			default:
				pend(t, srv, document(t, name, "not set yet"))
				if err := pg.SetPassword(t.Context(), name, "another"); err != nil {
					t.Fatal(err)
				}
				waits = func() bool { return stats.Polls.Load() > 0 }
			}
			pool := newPool(t, c, opts)
			ended := make(chan error, 4)
			for range 4 {
				go func() { ended <- acquire(t.Context(), pool) }()
			}
			eventually(t, wait, waits)
			closed := make(chan struct{})
			go func() { pool.Close(); close(closed) }()
			limit := time.NewTimer(hang)
			defer limit.Stop()
			for range 4 {
				select {
				case err := <-ended:
					if err == nil {
						t.Error("a login succeeded")
					}
				case <-limit.C:
					t.Fatal("an Acquire goes on after Close")
				}
			}
			select {
			case <-closed:
			case <-limit.C:
				t.Fatal("Close waits on")
			}
			// Nobody has kept anything.
			eventually(t, "the end of all logins", func() bool {
				return stats.Logins.Load() == stats.Accepted.Load()+stats.NoVerdict.Load()+stats.Refused.Load()
			})
		})
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no sign of %s", what)
		}
	}
}

// Nothing is said about TLS, and the server offers none: it gets to see the request
// for TLS and nothing more, whichever the host and however often it is asked.
func TestNothingInClear(t *testing.T) {
	t.Parallel()
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			for _, host := range []string{testcert.Name, "db", "10.1.2.3", "fd00::1", "127.0.0.1.example.com", "localhost.example.com"} {
				p := newProxy(t, pg)
				_, c := newCache(t, strings.Replace(document(t, name, password), `"127.0.0.1"`, fmt.Sprintf("%q", host), 1))
				connect := opener.new(t, c, &postgres.Options{Patience: -1, Configure: to(p)})
				for range 3 {
					if err := connect(t.Context()); err == nil || !strings.Contains(err.Error(), "server refused TLS connection") || dbconn.IsRefused(err) {
						t.Errorf("%s: %v", host, err)
					}
				}
				if sent, want := p.Sent(), bytes.Repeat([]byte{0, 0, 0, 8, 4, 210, 22, 47}, p.Accepted()); !bytes.Equal(sent, want) || p.Accepted() == 0 {
					t.Errorf("%s: %d connections sent %q", host, p.Accepted(), sent)
				}
			}
		})
	}
}

// to is an Options.Configure that leads every host to the proxy.
func to(p *proxy.Proxy) func(*pgx.ConnConfig) error {
	return func(cfg *pgx.ConnConfig) error {
		cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{p.Addr()}, nil }
		return nil
	}
}

// With sslmode=prefer, a password that was refused over TLS, and those tried after
// it, are not sent in clear.
func TestPreferAfterARefusal(t *testing.T) {
	t.Parallel()
	cert, key := testcert.New(t)
	own := newServer(t, &pgserver.Options{
		Files: map[string][]byte{"server.crt": cert, "server.key": key}, Settings: map[string]string{"ssl": "on"},
	})
	for _, opener := range openers {
		if opener.name == "ConfigurePool" {
			continue // there, what is pgx's default is unsaid
		}
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUserOf(t, own)
			srv, c := newCache(t, documentOf(t, own, name, password))
			p := newProxy(t, own)
			connect := opener.new(t, c, &postgres.Options{
				DSN: "sslmode=prefer host=" + testcert.Name, Patience: -1, Configure: to(p),
			})
			// A rotation in its window; a password that is wrong; and one made good.
			pending := pend(t, srv, documentOf(t, own, name, "changed"))
			if err := own.SetPassword(t.Context(), name, "changed"); err != nil {
				t.Fatal(err)
			}
			if err := connect(t.Context()); err != nil {
				t.Error(err)
			}
			promote(t, srv, pending)
			if err := own.SetPassword(t.Context(), name, "unknown to all"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := connect(t.Context()); !dbconn.IsRefused(err) {
					t.Error(err)
				}
			}
			if bytes.Contains(p.Sent(), []byte(name)) || p.Accepted() < 4 {
				t.Errorf("%d connections, and a startup message in clear: %t", p.Accepted(), bytes.Contains(p.Sent(), []byte(name)))
			}
			log, err := own.Log()
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(log) {
				if strings.Contains(line, "connection authorized: user="+name+" ") && !strings.Contains(line, "SSL enabled") {
					t.Errorf("a login in clear: %s", line)
				}
			}
		})
	}
}

// A host with two addresses, of which one is dead, or refuses connections, or goes
// silent: the other one is found, and names are looked up once for each connect.
func TestTwoAddresses(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]*proxy.Fault{"nobody listens": nil, "deaf": {Deaf: true}, "silent": {FromServer: &proxy.Cut{After: 30}}} {
		for _, opener := range kinds {
			t.Run(opener.name+", "+what, func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t)
				srv, c := newCache(t, document(t, name, password))
				dead, alive := newProxy(t, pg), newProxy(t, pg)
				if fault == nil {
					dead.Close()
				} else {
					dead.Set(*fault)
				}
				var lookups atomic.Int64
				connect := opener.new(t, c, &postgres.Options{
					DSN: "connect_timeout=1 sslmode=disable host=" + testcert.Name, MaxConcurrentLogins: 1,
					Configure: func(cfg *pgx.ConnConfig) error {
						cfg.LookupFunc = func(context.Context, string) ([]string, error) {
							lookups.Add(1)
							return []string{dead.Addr(), alive.Addr()}, nil
						}
						return nil
					},
				})
				for i := range 2 {
					if err := connect(t.Context()); err != nil {
						t.Errorf("connect %d: %v", i, err)
					}
				}
				// The rotation is seen through the address that lives.
				pending := pend(t, srv, document(t, name, "changed"))
				if err := pg.SetPassword(t.Context(), name, "changed"); err != nil {
					t.Fatal(err)
				}
				before := lookups.Load()
				if before != 2 {
					t.Errorf("%d lookups for 2 connects", before)
				}
				if err := connect(t.Context()); err != nil {
					t.Error(err)
				}
				// A login of the connector's is a connect of pgx's.
				if n := lookups.Load() - before; n != 1 && opener.name == "NewPool" || n > 3 {
					t.Errorf("%d lookups for the connect that was refused", n)
				}
				promote(t, srv, pending)
				if n, err := pg.FailedLogins(name); err != nil || n != 1 {
					t.Errorf("%d failed logins, %v", n, err)
				}
			})
		}
	}
}

// The first of two addresses breaks off in the middle of a login. pgx then closes that
// connection behind the connect that goes on, and dials for it, to cancel what runs
// there: that dial is none of the connect's, and must not take the place or the
// password of the attempt at the second address.
func TestBrokenAddressAndALiveOne(t *testing.T) {
	t.Parallel()
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			_, c := newCache(t, document(t, name, password))
			broken, alive := newProxy(t, pg), newProxy(t, pg)
			broken.Set(proxy.Fault{ToServer: &proxy.Cut{Reset: true}})
			stats := new(retry.Stats)
			connect := opener.new(t, c, &postgres.Options{
				DSN: "sslmode=disable host=" + testcert.Name, Stats: stats,
				Configure: func(cfg *pgx.ConnConfig) error {
					cfg.LookupFunc = func(context.Context, string) ([]string, error) {
						return []string{broken.Addr(), alive.Addr()}, nil
					}
					return nil
				},
			})
			for i := range 10 {
				if err := connect(t.Context()); err != nil {
					t.Errorf("connect %d: %v", i, err)
				}
			}
			if n, err := pg.FailedLogins(name); err != nil || n != 0 {
				t.Errorf("%d failed logins, %v, with the right password", n, err)
			}
			if n := stats.Refused.Load(); n != 0 {
				t.Errorf("%d refusals", n)
			}
		})
	}
}

// As above, and the dial of pgx's for the broken connection hangs. The connect does
// not wait for it.
func TestBrokenAddressThatGoesSilent(t *testing.T) {
	t.Parallel()
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			_, c := newCache(t, document(t, name, password))
			broken, alive := newProxy(t, pg), newProxy(t, pg)
			broken.Set(proxy.Fault{ToServer: &proxy.Cut{Reset: true}})
			var dials atomic.Int64
			connect := opener.new(t, c, &postgres.Options{
				DSN: "connect_timeout=12 sslmode=disable host=" + testcert.Name,
				Configure: func(cfg *pgx.ConnConfig) error {
					cfg.LookupFunc = func(context.Context, string) ([]string, error) {
						return []string{broken.Addr(), alive.Addr()}, nil
					}
					dial := cfg.DialFunc
					cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
						switch {
						case address == alive.Addr():
							time.Sleep(100 * time.Millisecond) // the other dial is there first
						case dials.Add(1) > 1:
							<-ctx.Done()
							return nil, ctx.Err()
						}
						return dial(ctx, network, address)
					}
					return nil
				},
			})
			start := time.Now()
			err := connect(t.Context())
			if took := time.Since(start); err != nil || took > 10*time.Second {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}

// A list of hosts in a DSN, of which the first is not there, cannot be looked up, or
// knows of no such name: pgx takes the next, and so does a rotation.
func TestListOfHosts(t *testing.T) {
	t.Parallel()
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			srv, c := newCache(t, document(t, name, password))
			dead := newProxy(t, pg)
			dead.Close()
			connect := opener.new(t, c, &postgres.Options{DSN: fmt.Sprintf(
				"sslmode=disable host=nowhere.invalid,127.0.0.1,127.0.0.1 port=1,%d,%d", dead.Port(), pg.Port())})
			if err := connect(t.Context()); err != nil {
				t.Error(err)
			}
			if err := pg.SetPassword(t.Context(), name, "changed"); err != nil {
				t.Fatal(err)
			}
			pend(t, srv, document(t, name, "changed"))
			if err := connect(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Over a socket there is nothing to look up and nothing to encrypt.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	dir := "/tmp" // a folder that the server's user may write to, with a short name
	own := newServer(t, &pgserver.Options{Settings: map[string]string{"unix_socket_directories": dir}})
	t.Cleanup(func() {
		left, _ := filepath.Glob(fmt.Sprintf("%s/.s.PGSQL.%d*", dir, own.Port()))
		if len(left) > 2 {
			t.Errorf("left behind: %v", left)
		}
	})
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			name, password := newUserOf(t, own)
			srv, c := newCache(t, strings.Replace(documentOf(t, own, name, password), `"127.0.0.1"`, fmt.Sprintf("%q", dir), 1))
			connect := opener.new(t, c, &postgres.Options{})
			if err := connect(t.Context()); err != nil {
				t.Error(err)
			}
			if err := own.SetPassword(t.Context(), name, "changed"); err != nil {
				t.Fatal(err)
			}
			pend(t, srv, strings.Replace(documentOf(t, own, name, "changed"), `"127.0.0.1"`, fmt.Sprintf("%q", dir), 1))
			if err := connect(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	// A query on a socket can be canceled too, which dials once more.
	name, password := newUserOf(t, own)
	_, c := newCache(t, strings.Replace(documentOf(t, own, name, password), `"127.0.0.1"`, fmt.Sprintf("%q", dir), 1))
	pool := newPool(t, c, &postgres.Options{Configure: func(cfg *pgx.ConnConfig) error {
		cfg.BuildContextWatcherHandler = canceling
		return nil
	}})
	for _, query := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := pool.Exec(ctx, "select pg_sleep(60)"); return err },
		func(ctx context.Context) error {
			db := stdlib.OpenDBFromPool(pool)
			defer db.Close()
			_, err := db.ExecContext(ctx, "select pg_sleep(60)")
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := query(ctx)
		cancel()
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
			t.Errorf("the query ended with %v", err)
		}
	}
}

// canceling has a context that ends cancel its query on the server.
func canceling(conn *pgconn.PgConn) ctxwatch.Handler {
	return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: hang}
}

// What the server has against a login that is not the password is the caller's to
// know, as pgx alone would tell it, with one login and at once.
func TestErrorsAreTheDriversOwn(t *testing.T) {
	t.Parallel()
	own := newServer(t, nil)
	name, password := newUserOf(t, own)
	admin, err := pgx.ConnectConfig(t.Context(), own.ConnConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	for _, statement := range []string{
		"create database forbidden", "revoke connect on database forbidden from public",
		"create database closed allow_connections false",
		"create role nologin password 'p'", "create role crowd login connection limit 0 password 'p'", "create database nologin", "create database crowd",
	} {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ user, password, database, code string }{
		{name, password, "missing", "3D000"},
		{name, password, "forbidden", "42501"},
		{name, password, "closed", "55000"},
		{"crowd", "p", "crowd", "53300"},
		{"nologin", "p", "nologin", "28000"},
		{"nologin", "wrong", "nologin", "28P01"},
	} {
		alone, _ := errors.AsType[*pgconn.PgError](bare(t.Context(), own.Host(), own.Port(), test.user, test.password, test.database))
		for _, opener := range openers {
			_, c := newCache(t, documentOf(t, own, test.user, test.password))
			stats := new(retry.Stats)
			connect := opener.new(t, c, &postgres.Options{Database: test.database, Stats: stats, MaxConcurrentLogins: 1})
			err := connect(t.Context())
			e, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || alone == nil || e.Code != test.code || e.Code != alone.Code || e.Message != alone.Message {
				t.Errorf("%s: %v, want %s; pgx alone: %v", opener.name, err, test.code, alone)
			}
			if got, want := dbconn.IsRefused(err), strings.HasPrefix(test.code, "28"); got != want {
				t.Errorf("%s: %s: refused: %t", opener.name, test.code, got)
			}
			if n := stats.Logins.Load(); n != 1 {
				t.Errorf("%s: %s: %d logins", opener.name, test.code, n)
			}
		}
	}
}

// The user that AWSCURRENT names is not let in any more, or not yet (28000, as RDS
// Proxy says it of one it has not heard of): the one under AWSPENDING or AWSPREVIOUS is.
func TestUserThatIsNotWanted(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{cache.Pending, cache.Previous} {
		for _, opener := range openers {
			t.Run(opener.name+", "+stage, func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t)
				unwanted, _ := newUser(t)
				if err := readWrite(t.Context(), pg, "alter role "+unwanted+" nologin password 'p'"); err != nil {
					t.Fatal(err)
				}
				// The secret keeps the name of the database.
				good := document(t, name, password)
				bad := strings.Replace(good, fmt.Sprintf("\"username\":%q", name), fmt.Sprintf("\"username\":%q", unwanted), 1)
				bad = strings.Replace(bad, password, "p", 1)
				first, second := bad, good
				if stage == cache.Previous {
					first, second = good, bad
				}
				srv, c := newCache(t, first)
				if stage == cache.Previous {
					srv.Put("prod/db", second)
				} else {
					pend(t, srv, second)
				}
				connect := opener.new(t, c, &postgres.Options{MaxConcurrentLogins: 1})
				for range 3 {
					if err := connect(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}
