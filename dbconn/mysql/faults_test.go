package mysql_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/internal/proxy"
	"github.com/keyturn/keyturn/internal/testcert"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// hang is how long something may take on a busy machine that ought to take a moment.
const hang = 30 * time.Second

func newProxy(t *testing.T, srv *mysqlserver.Server) *proxy.Proxy {
	t.Helper()
	p, err := proxy.New(addressOf(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// newServer starts a server of a test's own, and returns how to trust it over TLS.
func newServer(t *testing.T, kind mysqlserver.Kind, settings map[string]string) (*mysqlserver.Server, *tls.Config) {
	t.Helper()
	cert, key := testcert.New(t)
	all := map[string]string{"ssl_cert": "server.crt", "ssl_key": "server.key"}
	maps.Copy(all, settings)
	srv, err := mysqlserver.Start(t.Context(), &mysqlserver.Options{
		Kind: kind, Files: map[string][]byte{"server.crt": cert, "server.key": key}, Settings: all,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return srv, &tls.Config{RootCAs: roots, ServerName: testcert.Name, MinVersion: tls.VersionTLS12}
}

// silently is a driver's configuration that logs nothing.
func silently(change func(*godriver.Config)) *godriver.Config {
	return config(func(c *godriver.Config) {
		c.Logger = &godriver.NopLogger{}
		if change != nil {
			change(c)
		}
	})
}

func newConnector(t *testing.T, c *cache.Cache, opts *mysql.Options) driver.Connector {
	t.Helper()
	connector, err := mysql.NewConnector(c, "prod/db", opts)
	if err != nil {
		t.Fatal(err)
	}
	return connector
}

// once returns a function that opens a connection, and closes it if there is one.
func once(connector driver.Connector) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := connector.Connect(ctx)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
}

// alone is once for the driver without this package.
func alone(t *testing.T, change func(*godriver.Config)) func(context.Context) error {
	t.Helper()
	connector, err := godriver.NewConnector(silently(change))
	if err != nil {
		t.Fatal(err)
	}
	return once(connector)
}

// outcome sums up how a login has ended, so that two of them can be compared: what a
// broken connection is called depends on the moment.
func outcome(err error) string {
	if own, ok := errors.AsType[*godriver.MySQLError](err); ok {
		return own.Error()
	}
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "given up"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT): // of a socket
		return "nobody listens"
	case errors.Is(err, godriver.ErrInvalidConn), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.HasSuffix(err.Error(), "bad connection"):
		return "broken"
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// within returns how a connect ends that has all the time in the world.
func within(t *testing.T, connect func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	return connect(ctx)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(hang); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("no sign of %s", what)
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

// settled checks that every login has ended, and none was taken for a refusal.
func settled(t *testing.T, stats *retry.Stats) {
	t.Helper()
	if logins, ended := stats.Logins.Load(), stats.Accepted.Load()+stats.NoVerdict.Load(); logins != ended || stats.Refused.Load() != 0 {
		t.Errorf("%d logins, of which %d have ended and %d were refused", logins, ended, stats.Refused.Load())
	}
}

// The connection breaks after every few bytes of a login, whichever way they go. It
// ends as the driver's own does; the password is not in doubt, nor in the error; what
// MaxConcurrentLogins gives is given back; and the next login succeeds.
func TestResetInMidHandshake(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		resets(t, srv, nil, false, 5)
		if srv.Kind() == mysqlserver.MySQL {
			t.Run("full authentication", func(t *testing.T) { resets(t, srv, nil, true, 11) })
		}
	})
}

// resets breaks the connection after every step bytes. Where cold, the server has not
// seen the password yet.
func resets(t *testing.T, srv *mysqlserver.Server, trust *tls.Config, cold bool, step int) {
	t.Helper()
	name, password := newUser(t, srv)
	_, c := newCache(t, document(t, srv, name, password))
	p := newProxy(t, srv)
	stats := new(retry.Stats)
	through := once(newConnector(t, c, &mysql.Options{
		Host: "127.0.0.1", Port: p.Port(), TLS: trust, MaxConcurrentLogins: 1, Stats: stats, Config: silently(nil),
	}))
	bare := alone(t, func(c *godriver.Config) {
		c.User, c.Passwd, c.Addr, c.DBName, c.TLS = name, password, p.Addr(), name, trust
	})
	try := func(login func(context.Context) error) error {
		t.Helper()
		if cold {
			if err := srv.SetPassword(t.Context(), name, password); err != nil {
				t.Fatal(err)
			}
		}
		return within(t, login)
	}
	sent, received := 0, 0
	for range 2 { // of which the second is like all others
		sent, received = len(p.Sent()), p.Received()
		if err := try(through); err != nil {
			t.Fatal(err)
		}
	}
	sent, received = len(p.Sent())-sent, p.Received()-received
	end := 12 // of the session, which is no part of the login: a packet that says so, and that of the one before
	if trust != nil {
		end = 120 // in records, with alerts
	}
	type fault struct {
		proxy.Fault
		late bool // when the server may have let us in
	}
	faults := []fault{{proxy.Fault{Refuse: true}, false}}
	for after := 0; after < sent; after += step {
		faults = append(faults, fault{proxy.Fault{ToServer: &proxy.Cut{After: after, Reset: true}}, after > sent-end})
	}
	for after := 0; after < received; after += step {
		faults = append(faults, fault{proxy.Fault{FromServer: &proxy.Cut{After: after, Reset: true}}, trust != nil && after > received-end})
	}
	broken := 0
	for _, fault := range faults {
		p.Set(fault.Fault)
		want, err := outcome(try(bare)), try(through)
		p.Set(proxy.Fault{})
		switch got := outcome(err); {
		case fault.late && (got == "accepted" || got == "broken"):
		case got != want || want == "accepted":
			t.Errorf("%s: %v, and the driver alone: %s", describe(fault.Fault), err, want)
		}
		if dbconn.IsRefused(err) {
			t.Errorf("%s: taken for a refusal: %v", describe(fault.Fault), err)
		}
		if err != nil && broken%40 == 0 {
			leaktest.Check(t, password, err)
		}
		if err != nil {
			broken++
		}
		if err := within(t, through); err != nil {
			t.Errorf("after %s: %v", describe(fault.Fault), err)
		}
	}
	settled(t, stats)
	if n := failures(t, srv, name); n != 0 {
		t.Errorf("%d failed logins on the server", n)
	}
	t.Logf("%d bytes sent, %d received, %d logins broken of %d", sent, received, broken, len(faults))
}

// greeting returns how many bytes the server says before the client does.
func greeting(t *testing.T, srv *mysqlserver.Server) int {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addressOf(srv))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var header [4]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		t.Fatal(err)
	}
	return len(header) + int(header[0]) + int(header[1])<<8
}

// A stuck is a connect that comes to a halt, with all that it stands on.
type stuck struct {
	srv            *mysqlserver.Server
	trust          *tls.Config
	sm             *smtest.Server
	cache          *cache.Cache
	proxy          *proxy.Proxy
	stats          *retry.Stats
	name, password string
	opts           mysql.Options
	connect        func(context.Context) error
	dialing        atomic.Bool
}

// phases are what a connect may come to a halt in.
var phases = []struct {
	name string
	only mysqlserver.Kind // "": both
	// options changes what the connector is made with.
	options func(*stuck)
	// stop brings what follows to a halt, and returns how that is undone, and whether a
	// connect has come so far (nil: that cannot be seen).
	stop    func(*testing.T, *stuck) (undo func(), reached func() bool)
	refused bool   // the password was, before
	says    string // a part of the error
}{
	{
		name: "dial",
		options: func(s *stuck) {
			dial := new(net.Dialer).DialContext
			s.opts.Config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				if s.dialing.Load() {
					<-ctx.Done()
					return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
				}
				return dial(ctx, network, address)
			}
		},
		stop: func(_ *testing.T, s *stuck) (func(), func() bool) {
			s.dialing.Store(true)
			before := s.stats.Logins.Load()
			return func() { s.dialing.Store(false) }, func() bool { return s.stats.Logins.Load() > before }
		},
	},
	{
		name: "greeting",
		stop: func(_ *testing.T, s *stuck) (func(), func() bool) { return s.fault(proxy.Fault{Deaf: true}) },
	},
	{
		name:    "TLS",
		options: func(s *stuck) { s.opts.TLS = s.trust },
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			return s.fault(proxy.Fault{FromServer: &proxy.Cut{After: greeting(t, s.srv) + 100}})
		},
	},
	{
		name: "authentication",
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			return s.fault(proxy.Fault{FromServer: &proxy.Cut{After: greeting(t, s.srv)}})
		},
	},
	{
		name: "authentication, of which the server hears nothing",
		stop: func(_ *testing.T, s *stuck) (func(), func() bool) {
			return s.fault(proxy.Fault{ToServer: &proxy.Cut{After: 20}})
		},
	},
	{
		name: "full authentication",
		only: mysqlserver.MySQL,
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			if err := s.srv.SetPassword(t.Context(), s.name, s.password); err != nil {
				t.Fatal(err)
			}
			undo, _ := s.fault(proxy.Fault{FromServer: &proxy.Cut{After: greeting(t, s.srv) + 6}})
			// The client asks for the server's key.
			return undo, func() bool { return bytes.HasSuffix(s.proxy.Sent(), []byte{1, 0, 0, 3, 2}) }
		},
	},
	{
		name: "waiting for a login to end", says: "waiting for another caller's login",
		options: func(s *stuck) { s.opts.MaxConcurrentLogins = 1 },
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			return s.leader(t), nil
		},
	},
	{
		name: "waiting at the gate", says: "waiting for another caller's login",
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			// A login that was accepted is good for a second without a lead.
			time.Sleep(1100 * time.Millisecond)
			before := s.stats.Waits.Load()
			return s.leader(t), func() bool { return s.stats.Waits.Load() > before }
		},
	},
	{
		name: "reading the secret",
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			// Another cache, which holds nothing yet.
			c, err := cache.New(s.sm.Client(), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			s.connect = once(newConnector(t, c, &s.opts))
			return s.slow(cache.Current)
		},
	},
	{
		name: "refreshing the secret", refused: true,
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			s.rotated(t)
			return s.slow(cache.Current)
		},
	},
	{
		name: "reading AWSPENDING", refused: true,
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			s.rotated(t)
			return s.slow(cache.Pending)
		},
	},
	{
		name: "reading AWSPREVIOUS", refused: true,
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			s.rotated(t)
			return s.slow(cache.Previous)
		},
	},
	{
		name: "polling", refused: true,
		options: func(s *stuck) { s.opts.Patience = time.Hour },
		stop: func(t *testing.T, s *stuck) (func(), func() bool) {
			t.Helper()
			pend(t, s.sm, document(t, s.srv, s.name, "not set yet"))
			s.rotated(t)
			before := s.stats.Polls.Load()
			return func() {}, func() bool { return s.stats.Polls.Load() > before }
		},
	},
}

// fault has all connections from now on suffer it.
func (s *stuck) fault(f proxy.Fault) (undo func(), reached func() bool) {
	before := s.proxy.Accepted()
	s.proxy.Set(f)
	return func() { s.proxy.Set(proxy.Fault{}) }, func() bool { return s.proxy.Accepted() > before }
}

// leader has another caller log in, who does not get an answer.
func (s *stuck) leader(t *testing.T) (undo func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	hear, reached := s.fault(proxy.Fault{Deaf: true})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.connect(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the leader: %v", err)
		}
	})
	eventually(t, "the leader", reached)
	return func() { hear(); cancel(); wg.Wait() }
}

// slow has the service tell nothing of a label until that is undone.
func (s *stuck) slow(stage string) (undo func(), reached func() bool) {
	s.sm.ResetCalls()
	answer := make(chan struct{})
	remove := s.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: stage, Before: func(ctx context.Context, _ smtest.Call) {
		select {
		case <-answer:
		case <-ctx.Done():
		}
	}})
	return func() { remove(); close(answer) }, func() bool {
		for _, call := range s.sm.Calls() {
			if call.Stage == stage {
				return true
			}
		}
		return false
	}
}

// rotated changes the password, and nobody is told.
func (s *stuck) rotated(t *testing.T) {
	t.Helper()
	if err := s.srv.SetPassword(t.Context(), s.name, "changed"); err != nil {
		t.Fatal(err)
	}
}

// ends runs a connect that ought to come to an end.
func ends(t *testing.T, connect func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- connect() }()
	limit := time.NewTimer(hang)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-limit.C:
		t.Fatal("the connect hangs")
	}
	return nil
}

// endsEveryPhase checks that a connect ends with its context, be that by a cancel or
// by a deadline, whatever it waits for, and that the next one knows nothing of it.
func endsEveryPhase(t *testing.T, srv *mysqlserver.Server, trust *tls.Config) {
	t.Helper()
	for _, phase := range phases {
		if phase.only != "" && phase.only != srv.Kind() {
			continue
		}
		t.Run(phase.name, func(t *testing.T) {
			t.Parallel()
			s := &stuck{srv: srv, trust: trust, proxy: newProxy(t, srv), stats: new(retry.Stats)}
			s.name, s.password = newUser(t, srv)
			s.sm, s.cache = newCache(t, document(t, srv, s.name, s.password))
			s.opts = mysql.Options{
				// No bound but the caller's.
				Host: "127.0.0.1", Port: s.proxy.Port(), Stats: s.stats, Config: silently(func(c *godriver.Config) { c.Timeout = time.Hour }),
			}
			if phase.options != nil {
				phase.options(s)
			}
			s.connect = once(newConnector(t, s.cache, &s.opts))
			if err := within(t, s.connect); err != nil {
				t.Fatal(err)
			}
			undo, reached := phase.stop(t, s)
			var failed error
			check := func(ctx context.Context, want error) {
				t.Helper()
				err := ends(t, func() error { return s.connect(ctx) })
				if !errors.Is(err, want) || dbconn.IsRefused(err) != phase.refused {
					t.Errorf("%v, want %v (refused: %t)", err, want, phase.refused)
				}
				if failed == nil && !strings.Contains(err.Error(), phase.says) { // later on it may have got farther
					t.Errorf("%v, want %q", err, phase.says)
				}
				failed = err
			}
			if reached != nil {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					for !reached() && ctx.Err() == nil {
						time.Sleep(time.Millisecond)
					}
					cancel()
				}()
				check(ctx, context.Canceled)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			check(ctx, context.DeadlineExceeded)
			leaktest.Check(t, s.password, failed)
			undo()
			if phase.refused {
				s.sm.Put("prod/db", document(t, srv, s.name, "changed"))
				if _, err := s.cache.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if err := within(t, s.connect); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// A lookup ends with the context too. It comes before all else.
func TestLookupEndsWithTheContext(t *testing.T) {
	asked := make(chan struct{}, 100)
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	_, c := newCache(t, `{"username":"u","password":"s3cret-p4ssword","host":"`+testcert.Name+`"}`)
	connect := once(newConnector(t, c, &mysql.Options{Config: silently(func(c *godriver.Config) { c.Timeout = time.Hour })}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { <-asked; cancel() }()
	err := ends(t, func() error { return connect(ctx) })
	if !errors.Is(err, context.Canceled) || dbconn.IsRefused(err) {
		t.Errorf("canceled: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := ends(t, func() error { return connect(ctx) }); ctx.Err() == nil || outcome(err) != "given up" || dbconn.IsRefused(err) {
		t.Errorf("deadline: %v", err)
	}
}

// What is bounded by nobody is bounded here, and says by whom.
func TestOwnBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sm, c := newCache(t, `{"username":"u","password":"s3cret-p4ssword","host":"127.0.0.1"}`)
		defer sm.Close()
		defer c.Close()
		var silent []net.Conn
		connect := once(newConnector(t, c, &mysql.Options{MaxConcurrentLogins: 1, Config: silently(func(c *godriver.Config) {
			c.DialFunc = func(context.Context, string, string) (net.Conn, error) {
				conn, end := net.Pipe()
				silent = append(silent, end)
				return conn, nil
			}
		})}))
		for range 2 {
			start := time.Now()
			err := connect(t.Context())
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if !errors.Is(err, context.DeadlineExceeded) || dbconn.IsRefused(err) || !strings.Contains(err.Error(), "10s") || !strings.Contains(err.Error(), "timeout") {
				t.Errorf("%v", err)
			}
		}
		for _, conn := range silent {
			_ = conn.Close()
		}
	})
}

// A dial that looks at the context's deadline by itself may be there before the context,
// with an error of its own. To callers it is the context's.
func TestDeadlineOfADial(t *testing.T) {
	late := &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	_, c := newCache(t, `{"username":"u","password":"s3cret-p4ssword","host":"127.0.0.1"}`)
	err := once(newConnector(t, c, &mysql.Options{Config: silently(func(c *godriver.Config) {
		c.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, late }
	})}))(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, late) || dbconn.IsRefused(err) {
		t.Errorf("%v", err)
	}
}

// A server of its own, with TLS, is put through what would disturb others.
func TestFaultsOfAServer(t *testing.T) {
	for _, kind := range []mysqlserver.Kind{mysqlserver.MariaDB, mysqlserver.MySQL} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, trust := newServer(t, kind, map[string]string{
				"skip_name_resolve": "OFF", "max_user_connections": "1000", // which cannot be set later if they are not now
			})
			t.Run("reset in mid-handshake, TLS", func(t *testing.T) { resets(t, srv, trust, kind == mysqlserver.MySQL, 97) })
			t.Run("phases", func(t *testing.T) { endsEveryPhase(t, srv, trust) })
			t.Run("slots", func(t *testing.T) { slotsAreGivenBack(t, srv, trust) })
			t.Run("errors", func(t *testing.T) { errorsAreTheDriversOwn(t, srv) })
			t.Run("lockout", func(t *testing.T) { noLockout(t, srv) })
			t.Run("restart", func(t *testing.T) { restartInMidRotation(t, srv, trust) })
			if kind == mysqlserver.MySQL {
				t.Run("cold password cache", func(t *testing.T) { coldPasswordCache(t, srv, trust) })
			}
		})
	}
}

// slotsAreGivenBack checks that MaxConcurrentLogins gets back what a login had of it,
// whatever that failed for: the next one begins at once.
func slotsAreGivenBack(t *testing.T, srv *mysqlserver.Server, trust *tls.Config) {
	t.Helper()
	errHook := errors.New("the hook's own")
	for _, test := range []struct {
		name string
		// breaks makes logins fail while on says so.
		breaks func(t *testing.T, opts *mysql.Options, on *atomic.Bool)
		want   string
	}{
		{"dial function", func(_ *testing.T, opts *mysql.Options, on *atomic.Bool) {
			opts.Config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				if on.Load() {
					return nil, errHook
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}
		}, errHook.Error()},
		{"dial function panics", func(_ *testing.T, opts *mysql.Options, on *atomic.Bool) {
			opts.Config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				if on.Load() {
					panic(errHook)
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}
		}, errHook.Error()},
		{"BeforeConnect", func(t *testing.T, opts *mysql.Options, on *atomic.Bool) {
			beforeConnect(t, opts, func(*godriver.Config) error {
				if on.Load() {
					return errHook
				}
				return nil
			})
		}, errHook.Error()},
		{"TLS", func(_ *testing.T, opts *mysql.Options, on *atomic.Bool) {
			opts.TLS = trust.Clone()
			opts.TLS.VerifyConnection = func(tls.ConnectionState) error {
				if on.Load() {
					return errHook
				}
				return nil
			}
		}, errHook.Error()},
		{"a statement after the login", func(t *testing.T, opts *mysql.Options, on *atomic.Bool) {
			beforeConnect(t, opts, func(cfg *godriver.Config) error {
				if on.Load() {
					cfg.Params = map[string]string{"no_such_variable": "1"}
				}
				return nil
			})
		}, "no_such_variable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			name, password := newUser(t, srv)
			_, c := newCache(t, document(t, srv, name, password))
			var on atomic.Bool
			stats := new(retry.Stats)
			opts := &mysql.Options{MaxConcurrentLogins: 1, Stats: stats, Config: silently(nil)}
			test.breaks(t, opts, &on)
			connect := once(newConnector(t, c, opts))
			var failed error
			for range 2 {
				on.Store(true)
				for range 3 {
					err := within(t, func(ctx context.Context) (err error) {
						defer func() {
							if e, ok := recover().(error); ok {
								err = e
							}
						}()
						return connect(ctx)
					})
					if err == nil || !strings.Contains(err.Error(), test.want) || dbconn.IsRefused(err) {
						t.Errorf("%v, want %q", err, test.want)
					}
					failed = err
				}
				on.Store(false)
				if err := within(t, connect); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
			leaktest.Check(t, password, failed)
			settled(t, stats)
		})
	}
}

// beforeConnect has f see, and change, the configuration of each login.
func beforeConnect(t *testing.T, opts *mysql.Options, f func(*godriver.Config) error) {
	t.Helper()
	if err := opts.Config.Apply(godriver.BeforeConnect(func(_ context.Context, cfg *godriver.Config) error { return f(cfg) })); err != nil {
		t.Fatal(err)
	}
}

// set changes a global variable of the server, and returns how that is undone, which
// the end of the test does too.
func set(t *testing.T, srv *mysqlserver.Server, variable string, value any) (undo func()) {
	t.Helper()
	var before string
	if err := srv.Admin().QueryRowContext(t.Context(), "select @@global."+variable).Scan(&before); err != nil {
		t.Fatal(err)
	}
	admin(t, srv, fmt.Sprintf("SET GLOBAL %s = %v", variable, value))
	undo = sync.OnceFunc(func() {
		if _, err := srv.Admin().ExecContext(context.WithoutCancel(t.Context()), fmt.Sprintf("SET GLOBAL %s = %s", variable, before)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(undo)
	return undo
}

// A trouble is what a server may have against the logins of a user whose password is
// right.
type trouble struct {
	name           string
	mariadb, mysql uint16 // the error; 0: none at the login
	refused        bool   // it is the user, or the password, that is not wanted
	database       string // that the login asks for
	from           string // the address that it comes from

	// prepare brings it about, and returns how to get rid of it.
	prepare func(t *testing.T, srv *mysqlserver.Server, name string) (undo func())
	// full is whether the trouble is that there are as many connections as there may
	// be, and door whether one more waits to log in.
	full, door bool
}

func troubles(kind mysqlserver.Kind) []trouble {
	alter := func(what, back string) func(*testing.T, *mysqlserver.Server, string) func() {
		return func(t *testing.T, srv *mysqlserver.Server, name string) func() {
			t.Helper()
			admin(t, srv, "ALTER USER ?@'%' "+what, name)
			return func() { admin(t, srv, "ALTER USER ?@'%' "+back, name) }
		}
	}
	setting := func(variable string, value any) func(*testing.T, *mysqlserver.Server, string) func() {
		return func(t *testing.T, srv *mysqlserver.Server, _ string) func() {
			t.Helper()
			return set(t, srv, variable, value)
		}
	}
	return []trouble{
		{name: "unknown database", database: "nowhere", mariadb: 1044, mysql: 1044},
		{name: "the user's connections", prepare: alter("WITH MAX_USER_CONNECTIONS 1", "WITH MAX_USER_CONNECTIONS 0"), full: true, mariadb: 1226, mysql: 1226},
		{name: "the connections of any user", prepare: setting("max_user_connections", 1), full: true, mariadb: 1203, mysql: 1203},
		{name: "server full", prepare: setting("max_connections", 10), full: true, mariadb: 1040, mysql: 1040},
		{name: "server full, to the door", prepare: setting("max_connections", 10), full: true, door: true, mariadb: 1040, mysql: 1040},
		{name: "no TLS", prepare: setting("require_secure_transport", "ON"), mariadb: 1045, mysql: 3159, refused: kind == mysqlserver.MariaDB},
		{name: "server offline", prepare: setting("offline_mode", "ON"), mysql: 3032},
		{name: "locked", prepare: alter("ACCOUNT LOCK", "ACCOUNT UNLOCK"), mariadb: 4151, mysql: 3118, refused: true},
		{name: "expired", prepare: alter("PASSWORD EXPIRE", "PASSWORD EXPIRE NEVER"), mysql: 1862, refused: true},
		{name: "host blocked", from: "127.0.0.2", mariadb: 1129, mysql: 1129, prepare: func(t *testing.T, srv *mysqlserver.Server, _ string) func() {
			t.Helper()
			limit := set(t, srv, "max_connect_errors", 1)
			// The server counts a connection that breaks off some time after that.
			for blocked := false; !blocked; {
				conn, err := from("127.0.0.2")(t.Context(), "tcp", addressOf(srv))
				if err != nil {
					t.Fatal(err)
				}
				first := make([]byte, 5) // of an error packet the last one is 0xff
				_, _ = io.ReadFull(conn, first)
				_ = conn.Close()
				blocked = first[4] == 0xff
				time.Sleep(5 * time.Millisecond)
			}
			return func() {
				limit()
				set(t, srv, "host_cache_size", 0)() // which forgets the hosts
			}
		}},
	}
}

// from returns a dial function that dials from an address of this machine.
func from(address string) func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{}
	if address != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)}
	}
	return d.DialContext
}

// errorsAreTheDriversOwn checks that what the server has against a login is the
// caller's to know, as the driver alone would tell it, with one login and at once, and
// that the next login after that works.
func errorsAreTheDriversOwn(t *testing.T, srv *mysqlserver.Server) {
	t.Helper()
	for _, test := range troubles(srv.Kind()) {
		t.Run(test.name, func(t *testing.T) {
			number := test.mariadb
			if srv.Kind() == mysqlserver.MySQL {
				number = test.mysql
			}
			switch {
			case number == 0:
				t.Skip("nothing to a login at this server")
			case test.from != "" && runtime.GOOS != "linux":
				t.Skip("this machine has no second loopback address")
			}
			name, password := newUser(t, srv)
			raw, err := godriver.NewConnector(silently(func(c *godriver.Config) {
				c.User, c.Passwd, c.Addr, c.DialFunc, c.DBName = name, password, addressOf(srv), from(test.from), test.database
			}))
			if err != nil {
				t.Fatal(err)
			}
			bare := once(raw)
			_, c := newCache(t, document(t, srv, name, password))
			stats := new(retry.Stats)
			through := once(newConnector(t, c, &mysql.Options{
				Database: test.database, Stats: stats, MaxConcurrentLogins: 1, Config: silently(func(c *godriver.Config) { c.DialFunc = from(test.from) }),
			}))
			undo := func() {}
			if test.prepare != nil {
				if err := within(t, through); err != nil {
					t.Fatal(err)
				}
				undo = test.prepare(t, srv, name)
			}
			var opened []io.Closer
			// The server counts connections for a moment yet that have been closed.
			for refusals := 0; test.full && refusals < 10; {
				conn, err := raw.Connect(t.Context())
				if err == nil {
					opened, refusals = append(opened, conn), 0
					continue
				}
				refusals++
				time.Sleep(20 * time.Millisecond)
			}
			if test.door {
				conn, err := from("")(t.Context(), "tcp", addressOf(srv))
				if err != nil {
					t.Fatal(err)
				}
				opened = append(opened, conn)
			}
			before := stats.Logins.Load()
			for i := range uint64(3) {
				alone, err := within(t, bare), within(t, through)
				own, ok := errors.AsType[*godriver.MySQLError](alone)
				got, _ := errors.AsType[*godriver.MySQLError](err)
				// A full server has an SQLSTATE for those whose password it has looked at,
				// and none for those who have come too far behind.
				if !ok || own.Number != number || got == nil || got.Number != own.Number || got.Message != own.Message ||
					got.SQLState != own.SQLState && !test.full || !strings.Contains(err.Error(), got.Error()) {
					t.Errorf("%v, want %d; the driver alone: %v", err, number, alone)
				}
				if dbconn.IsRefused(err) != test.refused {
					t.Errorf("refused: %t: %v", dbconn.IsRefused(err), err)
				}
				if i == 0 {
					leaktest.Check(t, password, err)
				}
				// What was refused is not tried again for a while.
				if n := stats.Logins.Load() - before; n != i+1 && (n != 1 || !test.refused) {
					t.Errorf("%d logins, want %d", n, i+1)
				}
			}
			for _, conn := range opened {
				_ = conn.Close()
			}
			undo()
			if test.refused || test.prepare == nil {
				return
			}
			// The server takes its time to take leave of connections.
			eventually(t, "an end of it", func() bool { return bare(t.Context()) == nil })
			if err := within(t, through); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// noLockout checks that a server which locks an account after three failures does not
// lock this one: 32 callers without a pool, one login at a time, on a slow network, and
// rotations of which some follow on another's heels.
func noLockout(t *testing.T, srv *mysqlserver.Server) {
	t.Helper()
	name, password := newUser(t, srv)
	if srv.Kind() == mysqlserver.MySQL {
		admin(t, srv, "ALTER USER ?@'%' FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME UNBOUNDED", name)
	} else {
		set(t, srv, "max_password_errors", 3)
	}
	sm, c := newCache(t, document(t, srv, name, password))
	p := newProxy(t, srv)
	p.Set(proxy.Fault{Delay: 2 * time.Millisecond})
	stats := new(retry.Stats)
	connect := once(newConnector(t, c, &mysql.Options{Host: "127.0.0.1", Port: p.Port(), Stats: stats, MaxConcurrentLogins: 1}))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := connect(t.Context()); err != nil {
					t.Errorf("a connect failed: %v", err)
				}
				time.Sleep(rand.N(100 * time.Millisecond))
			}
		})
	}
	changes := 0
	change := func(window time.Duration) {
		next := fmt.Sprint("password ", changes)
		changes++
		pending := pend(t, sm, document(t, srv, name, next))
		if err := srv.SetPassword(t.Context(), name, next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(window)
		promote(t, sm, pending)
	}
	// After more than a second nothing that was read of the labels is from before the
	// last rotation. Three in less than that are more than such a limit bears.
	time.Sleep(50 * time.Millisecond)
	change(100 * time.Millisecond)
	time.Sleep(1100 * time.Millisecond)
	change(0)
	change(0)
	time.Sleep(1100 * time.Millisecond)
	change(300 * time.Millisecond)
	time.Sleep(200 * time.Millisecond)
	cancel()
	wg.Wait()
	if n := failures(t, srv, name); n == 0 || n > 2*changes || n != int(stats.Refused.Load()) || stats.LockedOut.Load() != 0 {
		t.Errorf("%d failed logins in %d changes, and %d known of here, %d lockouts", n, changes, stats.Refused.Load(), stats.LockedOut.Load())
	}
	t.Logf("%d logins, %d refused, in %d changes", stats.Logins.Load(), stats.Refused.Load(), changes)
}

// Rotations over a network that breaks every other login, or nearly. Callers get the
// network's errors, and never one about the password, though verdicts get lost on their
// way.
func TestRotationsOverABadNetwork(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		name, password := newUser(t, srv)
		limit := 0
		if srv.Kind() == mysqlserver.MySQL {
			limit = 1
		}
		sm, c := newCache(t, document(t, srv, name, password))
		p := newProxy(t, srv)
		p.Each(func(int) proxy.Fault {
			switch rand.N(10) {
			case 0:
				return proxy.Fault{Refuse: true}
			case 1:
				return proxy.Fault{ToServer: &proxy.Cut{After: rand.N(300), Reset: true}}
			case 2:
				return proxy.Fault{FromServer: &proxy.Cut{After: rand.N(130), Reset: true}}
			case 3:
				return proxy.Fault{FromServer: &proxy.Cut{After: rand.N(130)}}
			case 4:
				return proxy.Fault{Delay: rand.N(20 * time.Millisecond)}
			}
			return proxy.Fault{}
		})
		stats := new(retry.Stats)
		connect := once(newConnector(t, c, &mysql.Options{
			Host: "127.0.0.1", Port: p.Port(), Stats: stats, MaxConcurrentLogins: limit, Config: silently(nil),
		}))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var good, broken atomic.Int64
		for range 16 {
			wg.Go(func() {
				for ctx.Err() == nil {
					short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond+rand.N(time.Second))
					err := connect(short)
					switch what := outcome(err); {
					case err == nil:
						good.Add(1)
					case what == "broken" && !dbconn.IsRefused(err), errors.Is(err, context.DeadlineExceeded):
						broken.Add(1)
					default:
						t.Errorf("%v", err)
					}
					cancel()
					time.Sleep(rand.N(50 * time.Millisecond))
				}
			})
		}
		for i := range 3 {
			time.Sleep(500 * time.Millisecond)
			next := fmt.Sprint("password ", i)
			pending := pend(t, sm, document(t, srv, name, next))
			if err := srv.SetPassword(t.Context(), name, next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(rand.N(300 * time.Millisecond))
			promote(t, sm, pending)
		}
		time.Sleep(300 * time.Millisecond)
		cancel()
		wg.Wait()
		p.Set(proxy.Fault{})
		if err := within(t, connect); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if good.Load() == 0 || broken.Load() == 0 || stats.Refused.Load() == 0 {
			t.Errorf("%d connects, %d broken, %d refused: the test has proved nothing", good.Load(), broken.Load(), stats.Refused.Load())
		}
		t.Logf("%d connects, %d broken, %d logins, %d refused", good.Load(), broken.Load(), stats.Logins.Load(), stats.Refused.Load())
	})
}

// MySQL counts a login among the failed ones that is broken off after the server has
// asked for the password itself, right as the password may be: what the package says of
// locked accounts. MariaDB does not. Should this fail, there is less to say.
func TestLoginsThatAreBrokenOffCount(t *testing.T) {
	name, password := newUser(t, mysqld)
	admin(t, mysqld, "ALTER USER ?@'%' FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME UNBOUNDED", name)
	p := newProxy(t, mysqld)
	_, c := newCache(t, document(t, mysqld, name, password))
	connect := once(newConnector(t, c, &mysql.Options{Host: "127.0.0.1", Port: p.Port(), Config: silently(nil)}))
	p.Set(proxy.Fault{FromServer: &proxy.Cut{After: greeting(t, mysqld) + 6, Reset: true}})
	for range 3 {
		if err := within(t, connect); outcome(err) != "broken" || dbconn.IsRefused(err) {
			t.Errorf("%v", err)
		}
	}
	p.Set(proxy.Fault{})
	// It hears of the end of a connection when it hears of it.
	eventually(t, "a lock in the server's log", func() bool {
		log, err := mysqld.Log()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(log) {
			if strings.Contains(line, "'"+name+"'@") && strings.Contains(line, "due to 3 consecutive failed logins") {
				return true
			}
		}
		return false
	})
	if err := within(t, connect); !mysql.LockedOut(err) {
		t.Errorf("after three of them: %v", err)
	}
}

// ordinary reports whether the driver alone may come to such an error while the server
// ends and starts.
func ordinary(err error) bool {
	if own, ok := errors.AsType[*godriver.MySQLError](err); ok {
		// Shutdown, connection killed (MariaDB's and MySQL's), query interrupted.
		return own.Number == 1053 || own.Number == 1927 || own.Number == 3169 || own.Number == 1317
	}
	what := outcome(err)
	return what == "broken" || what == "nobody listens" || errors.Is(err, driver.ErrBadConn)
}

// restartInMidRotation restarts the server between the change of the password and that
// of the labels. While it is away, and only then, callers get what the driver alone
// gives them. Where it knows passwords by heart, it does not any more.
func restartInMidRotation(t *testing.T, srv *mysqlserver.Server, trust *tls.Config) {
	t.Helper()
	name, password := newUser(t, srv)
	sm, c := newCache(t, document(t, srv, name, password))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	stats := new(retry.Stats)
	var queries, cut atomic.Int64
	var down atomic.Bool
	for _, opts := range []*mysql.Options{{}, {TLS: trust}, {Host: srv.Socket()}} {
		opts.Stats, opts.MaxConcurrentLogins, opts.Config = stats, 2, silently(nil)
		db := open(t, c, opts)
		db.SetMaxOpenConns(4)
		db.SetMaxIdleConns(4)
		db.SetConnMaxLifetime(50 * time.Millisecond)
		for range 3 {
			wg.Go(func() {
				for ctx.Err() == nil {
					before := down.Load()
					_, err := db.ExecContext(t.Context(), "do 1")
					switch {
					case err == nil:
						queries.Add(1)
					case !before && !down.Load() || !ordinary(err) || dbconn.IsRefused(err):
						t.Errorf("down before %t, now %t: %v", before, down.Load(), err)
					default:
						cut.Add(1)
						time.Sleep(50 * time.Millisecond)
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	}
	time.Sleep(200 * time.Millisecond)
	rotations := 2
	if srv.Kind() == mysqlserver.MySQL {
		rotations = 1 // it takes its time to start
	}
	for i := range rotations {
		next := fmt.Sprint("password ", i)
		pending := pend(t, sm, document(t, srv, name, next))
		if err := srv.SetPassword(t.Context(), name, next); err != nil {
			t.Fatal(err)
		}
		down.Store(true)
		if err := srv.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		// What the restart has cut may be on its way to the caller yet.
		time.Sleep(500 * time.Millisecond)
		down.Store(false)
		time.Sleep(200 * time.Millisecond)
		promote(t, sm, pending)
		time.Sleep(200 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	if cut.Load() == 0 || stats.Refused.Load() == 0 || queries.Load() < 50 {
		t.Errorf("%d queries, %d cut, %d logins refused: the test has proved nothing", queries.Load(), cut.Load(), stats.Refused.Load())
	}
	if n := failures(t, srv, name); n != int(stats.Refused.Load()) {
		t.Errorf("%d failed logins on the server; the pools know of %d", n, stats.Refused.Load())
	}
	t.Logf("%d queries, %d cut, %d logins, %d refused", queries.Load(), cut.Load(), stats.Logins.Load(), stats.Refused.Load())
}

// coldPasswordCache restarts a server that knows passwords by heart: it asks for the
// first one of each user in full, then for a proof. Each way to log in has its own of
// telling it: 32 do so at once.
func coldPasswordCache(t *testing.T, srv *mysqlserver.Server, trust *tls.Config) {
	t.Helper()
	key := serverKey(t, srv)
	type way struct {
		opts           mysql.Options
		name, password string
		c              *cache.Cache
		p              *proxy.Proxy
	}
	ways := map[string]*way{
		"loopback":  {},
		"TLS":       {opts: mysql.Options{TLS: trust}},
		"socket":    {},
		"known key": {opts: mysql.Options{ServerPubKey: key}},
	}
	for what, w := range ways {
		w.name, w.password = newUser(t, srv)
		_, w.c = newCache(t, document(t, srv, w.name, w.password))
		w.p = newProxy(t, srv)
		w.opts.Host, w.opts.Port, w.opts.Config = "127.0.0.1", w.p.Port(), silently(nil)
		switch what {
		case "socket":
			w.opts.Host, w.opts.Port = srv.Socket(), 0
		case "known key":
			w.opts.Host = testcert.Name
			w.opts.Config.TLSConfig = "false"
			w.opts.Config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return from("")(ctx, "tcp", w.p.Addr()) }
		}
	}
	// size returns how many bytes a login is, both ways.
	size := func(w *way, connect func(context.Context) error) int {
		t.Helper()
		before := w.p.Received() + len(w.p.Sent())
		if err := within(t, connect); err != nil {
			t.Error(err)
		}
		return w.p.Received() + len(w.p.Sent()) - before
	}
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, w := range ways {
		w.opts.Stats = new(retry.Stats)
		connect := once(newConnector(t, w.c, &w.opts))
		full, fast := size(w, connect), size(w, connect)
		if encrypted := what == "loopback" || what == "known key"; encrypted && full < fast+200 { // with a key of 2048 bits
			t.Errorf("%s: %d bytes for the first login, %d for the second", what, full, fast)
		}
		if err := srv.SetPassword(t.Context(), w.name, w.password); err != nil { // forgotten again
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				if err := within(t, connect); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		wg.Wait()
		settled(t, w.opts.Stats)
	}
}

// A slow network is no reason to fail, and no reason to take it for a refusal, also
// when the password changes.
func TestLatency(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		name, password := newUser(t, srv)
		sm, c := newCache(t, document(t, srv, name, password))
		p := newProxy(t, srv)
		p.Set(proxy.Fault{Delay: 50 * time.Millisecond})
		stats := new(retry.Stats)
		connect := once(newConnector(t, c, &mysql.Options{Host: "127.0.0.1", Port: p.Port(), Stats: stats}))
		all := func() {
			t.Helper()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if err := connect(t.Context()); err != nil {
						t.Errorf("a connect failed: %v", err)
					}
				})
			}
			wg.Wait()
		}
		all()
		pending := pend(t, sm, document(t, srv, name, "changed"))
		if err := srv.SetPassword(t.Context(), name, "changed"); err != nil {
			t.Fatal(err)
		}
		all()
		promote(t, sm, pending)
		all()
		if stats.Refused.Load() == 0 {
			t.Error("no login was refused")
		}
	})
}

// Callers that give up keep nothing, nor do their logins.
func TestCallersGiveUp(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1} {
		name, password := newUser(t, mysqld)
		_, c := newCache(t, document(t, mysqld, name, password))
		p := newProxy(t, mysqld)
		stats := new(retry.Stats)
		connect := once(newConnector(t, c, &mysql.Options{Host: "127.0.0.1", Port: p.Port(), MaxConcurrentLogins: limit, Stats: stats, Config: silently(nil)}))
		for _, fault := range []proxy.Fault{{Deaf: true}, {FromServer: &proxy.Cut{After: 90}}, {ToServer: &proxy.Cut{After: 10}}} {
			p.Set(fault)
			var wg sync.WaitGroup
			for i := range 32 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rand.N(50))*time.Millisecond)
					defer cancel()
					if err := connect(ctx); outcome(err) != "given up" || dbconn.IsRefused(err) {
						t.Errorf("%d: %v", i, err)
					}
				})
			}
			wg.Wait()
			p.Set(proxy.Fault{})
			for range 3 {
				if err := within(t, connect); err != nil {
					t.Errorf("after %s: %v", describe(fault), err)
				}
			}
		}
		settled(t, stats)
	}
}

// One address of a server, or all of a family of them, may swallow what goes there. The
// driver alone gives them their share of the time; so do we, with the credentials that
// the other address wants.
func TestAddressThatDoesNotAnswer(t *testing.T) {
	for _, test := range []struct {
		ips  string
		left time.Duration
		want string // address, wait
	}{
		{"192.0.2.1", 10 * time.Second, "192.0.2.1:3306 0s"},
		{"192.0.2.1 192.0.2.2", 10 * time.Second, "192.0.2.1:3306 5s, 192.0.2.2:3306 0s"},
		{"::ffff:192.0.2.1 192.0.2.2 192.0.2.3", 3 * time.Second, "192.0.2.1:3306 2s, 192.0.2.2:3306 2s, 192.0.2.3:3306 0s"},
		{"2001:db8::1 192.0.2.1", 10 * time.Second, "[2001:db8::1]:3306 300ms, 192.0.2.1:3306 5s, [2001:db8::1]:3306 0s"},
		{
			"192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::2", 10 * time.Second,
			"192.0.2.1:3306 300ms, 192.0.2.2:3306 300ms, [2001:db8::1]:3306 2.5s, [2001:db8::2]:3306 2.5s, 192.0.2.1:3306 2.5s, 192.0.2.2:3306 0s",
		},
	} {
		var got []string
		for _, at := range mysql.Spread(parse(t, test.ips), 3306, test.left) {
			got = append(got, fmt.Sprintf("%s %v", at.Addr, at.Wait))
		}
		if got := strings.Join(got, ", "); got != test.want {
			t.Errorf("%s: %s, want %s", test.ips, got, test.want)
		}
	}

	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		name, password := newUser(t, srv)
		sm, c := newCache(t, document(t, srv, name, password))
		pend(t, sm, document(t, srv, name, "changed"))
		if err := srv.SetPassword(t.Context(), name, "changed"); err != nil {
			t.Fatal(err)
		}
		var dials []string
		connector, err := mysql.NewSpreadConnector(c, "prod/db", &mysql.Options{MaxConcurrentLogins: 1, Config: silently(func(c *godriver.Config) {
			c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials = append(dials, address)
				if strings.HasPrefix(address, "[") {
					<-ctx.Done()
					return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
				}
				return from("")(ctx, network, address)
			}
		})}, func() []dbconn.Address {
			return mysql.Spread(parse(t, "2001:db8::1 127.0.0.1"), uint16(srv.Port()), hang)
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // less than a login may take
		defer cancel()
		if err := once(connector)(ctx); err != nil {
			t.Errorf("%v, after dials to %q", err, dials)
		}
		if len(dials) != 3 { // one in vain, one with the old password, one with the new
			t.Errorf("dials to %q", dials)
		}
	})
}

// parse returns addresses, of which the text has spaces between them.
func parse(t *testing.T, text string) (ips []netip.Addr) {
	t.Helper()
	for field := range strings.FieldsSeq(text) {
		ip, err := netip.ParseAddr(field)
		if err != nil {
			t.Fatal(err)
		}
		ips = append(ips, ip)
	}
	return ips
}

// Connections in a pool that break, or go silent, are found out as they are with the
// driver alone: what is idle is replaced before anybody notices, and a query that hears
// nothing ends with its context.
func TestConnectionsThatBreakInThePool(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		name, password := newUser(t, srv)
		_, c := newCache(t, document(t, srv, name, password))
		p := newProxy(t, srv)
		bare, err := godriver.NewConnector(silently(func(c *godriver.Config) { c.User, c.Passwd, c.Addr = name, password, p.Addr() }))
		if err != nil {
			t.Fatal(err)
		}
		for what, connector := range map[string]driver.Connector{
			"through": newConnector(t, c, &mysql.Options{Host: "127.0.0.1", Port: p.Port(), Config: silently(nil)}),
			"alone":   bare,
		} {
			db := sql.OpenDB(connector)
			defer db.Close()
			db.SetMaxIdleConns(8)
			fill := func() {
				t.Helper()
				for range 8 {
					conn, err := db.Conn(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
				}
			}
			fill()
			before := p.Accepted()
			p.Drop()
			// The resets are there when a connection that was opened before them says so.
			for range 16 {
				if _, err := db.ExecContext(t.Context(), "do 1"); err != nil {
					t.Errorf("%s: an idle connection that was reset: %v", what, err)
				}
			}
			if n := p.Accepted() - before; n == 0 {
				t.Errorf("%s: %d connections were opened anew", what, n)
			}

			// Silent after the login.
			db.SetMaxIdleConns(-1)
			start := p.Received()
			if err := db.PingContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.Set(proxy.Fault{FromServer: &proxy.Cut{After: p.Received() - start - 11}}) // of the answer to the ping
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err := db.ExecContext(ctx, "do 1")
			cancel()
			if outcome(err) != "given up" {
				t.Errorf("%s: a query that hears nothing: %v", what, err)
			}
			p.Set(proxy.Fault{})
			if _, err := db.ExecContext(t.Context(), "do 1"); err != nil {
				t.Errorf("%s: afterwards: %v", what, err)
			}
		}
	})
}

// A cache, or a pool, is closed while connects wait: for a slot, for another's verdict,
// for the service, for the end of a rotation. Nobody waits on for what will not come.
func TestClosedInMidWait(t *testing.T) {
	for _, wait := range []string{"slot", "gate", "service", "rotation"} {
		for _, closes := range []string{"cache", "pool"} {
			t.Run(closes+", "+wait, func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t, mariadb)
				sm, c := newCache(t, document(t, mariadb, name, password))
				p := newProxy(t, mariadb)
				stats := new(retry.Stats)
				opts := &mysql.Options{Host: "127.0.0.1", Port: p.Port(), Stats: stats, Patience: time.Hour, Config: silently(nil)}
				var waits func() bool
				switch wait {
				case "slot":
					opts.MaxConcurrentLogins = 1
					p.Set(proxy.Fault{Deaf: true})
					waits = func() bool { return p.Accepted() > 0 }
				case "gate":
					p.Set(proxy.Fault{Deaf: true})
					waits = func() bool { return stats.Waits.Load() > 1 }
				case "service":
					sm.Inject(smtest.Fault{Operation: "GetSecretValue", Delay: time.Hour})
					waits = func() bool { return sm.Count("GetSecretValue") > 0 }
				default:
					pend(t, sm, document(t, mariadb, name, "not set yet"))
					if err := mariadb.SetPassword(t.Context(), name, "another"); err != nil {
						t.Fatal(err)
					}
					waits = func() bool { return stats.Polls.Load() > 0 }
				}
				db := sql.OpenDB(newConnector(t, c, opts))
				defer db.Close()
				db.SetMaxOpenConns(4)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan error, 8)
				for range 8 { // of which four wait for the pool itself
					go func() { ended <- db.PingContext(ctx) }()
				}
				eventually(t, wait, waits)
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					if closes == "cache" {
						c.Close()
					} else {
						_ = db.Close()
					}
				}()
				limit := time.NewTimer(hang)
				defer limit.Stop()
				select {
				case <-closed:
				case <-limit.C:
					t.Fatal("Close waits on")
				}
				if closes == "pool" {
					cancel() // database/sql leaves that to the caller, with the driver alone too
				} else if wait == "slot" || wait == "gate" {
					p.Drop() // the logins under way end as ever
				}
				for i := range 8 {
					select {
					case err := <-ended:
						switch {
						case err == nil:
							t.Error("a login succeeded")
						case closes == "cache" && !errors.Is(err, cache.ErrClosed) && outcome(err) != "broken",
							// Of what has been refused, the refusal is told, whatever the wait ends with.
							closes == "pool" && !errors.Is(err, context.Canceled) && !dbconn.IsRefused(err) && !strings.Contains(err.Error(), "database is closed"):
							t.Errorf("%v", err)
						}
						if i == 0 {
							leaktest.Check(t, password, err)
						}
					case <-limit.C:
						t.Fatal("a connect goes on after Close")
					}
				}
				eventually(t, "the end of all logins", func() bool {
					return stats.Logins.Load() == stats.Accepted.Load()+stats.NoVerdict.Load()+stats.Refused.Load()
				})
			})
		}
	}
}

// Nothing runs on once all is closed, whatever has happened before. It is no parallel
// test: it counts.
func TestNothingIsLeftBehind(t *testing.T) {
	name, password := newUser(t, mysqld)
	before := runtime.NumGoroutine()
	func() {
		sm := smtest.New(nil)
		defer sm.Close()
		sm.Put("prod/db", document(t, mysqld, name, password))
		c, err := cache.New(sm.Client(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p, err := proxy.New(addressOf(mysqld))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		db, err := mysql.OpenDB(c, "prod/db", &mysql.Options{Host: "127.0.0.1", Port: p.Port(), Config: silently(nil), OnEvent: func(retry.Event) {}})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.SetMaxIdleConns(-1)
		for _, fault := range []proxy.Fault{
			{},
			{Refuse: true},
			{Deaf: true},
			{ToServer: &proxy.Cut{Reset: true}},
			{FromServer: &proxy.Cut{After: 40, Reset: true}},
			{FromServer: &proxy.Cut{After: 90}},
			{ToServer: &proxy.Cut{After: 10}},
		} {
			p.Set(fault)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					_ = db.PingContext(ctx)
				})
			}
			wg.Wait()
		}
		p.Set(proxy.Fault{})
		// A rotation that nobody ends, and a service that does not answer.
		sm.Put("prod/db", document(t, mysqld, name, "wrong"))
		pend(t, sm, document(t, mysqld, name, "wrong too"))
		_, _ = c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now())
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_ = db.PingContext(ctx)
			cancel()
			sm.Inject(smtest.Fault{Delay: time.Hour})
		}
	}()
	defer func() {
		if t.Failed() {
			all := make([]byte, 1<<20)
			t.Logf("%s", all[:runtime.Stack(all, true)])
		}
	}()
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
}
