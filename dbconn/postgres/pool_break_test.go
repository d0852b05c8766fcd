package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	"github.com/keyturn/keyturn/smtest"
)

// The technique of the pool stands on the order in which pgx calls its hooks, and on
// what it makes of an error's code. A version of pgx that does otherwise fails here,
// and not under somebody's load.
func TestHooksOfOneConnectWithARefusal(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	srv, c := newCache(t, document(t, name, password))
	pend(t, srv, document(t, name, "changed"))
	if err := pg.SetPassword(t.Context(), name, "changed"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var calls []string
	call := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, fmt.Sprintf(format, args...))
	}
	var refusal *pgconn.PgError
	cfg, err := pgxpool.ParseConfig("pool_max_conns=1")
	if err != nil {
		t.Fatal(err)
	}
	cc := cfg.ConnConfig
	lookup, dial, onPgError := cc.LookupFunc, cc.DialFunc, cc.OnPgError
	cc.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		call("LookupFunc %s", host)
		return lookup(ctx, host)
	}
	cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		call("DialFunc %s", network)
		return dial(ctx, network, address)
	}
	cc.AfterNetConnect = func(_ context.Context, cfg *pgconn.Config, conn net.Conn) (net.Conn, error) {
		call("AfterNetConnect")
		// What the attempt before has left behind.
		if cfg.Password != "" {
			t.Error("a password is left from the attempt before")
		}
		return conn, nil
	}
	cc.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		call("OnPgError %s", e.Code)
		refusal = e
		return onPgError(conn, e)
	}
	cc.ValidateConnect = func(context.Context, *pgconn.PgConn) error { call("ValidateConnect"); return nil }
	cc.AfterConnect = func(context.Context, *pgconn.PgConn) error { call("pgconn AfterConnect"); return nil }
	cfg.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		call("BeforeConnect")
		if cc.User != "" || cc.Password != "" {
			t.Error("BeforeConnect gets a user or a password")
		}
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
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	const want = `BeforeConnect
LookupFunc 127.0.0.1
DialFunc tcp
AfterNetConnect
OnPgError 28P01
DialFunc tcp
AfterNetConnect
ValidateConnect
pgconn AfterConnect
AfterConnect
PrepareConn`
	if got := strings.Join(calls, "\n"); got != want {
		t.Errorf("pgx calls\n%s\nwant\n%s", got, want)
	}
	// Its code was changed for pgx, and given back.
	if refusal == nil || refusal.Code != "28P01" {
		t.Errorf("the refusal is %+v", refusal)
	}
	if n, err := pg.FailedLogins(name); err != nil || n != 1 {
		t.Errorf("%d failed logins, %v", n, err)
	}
}

// A connection outlives the time that its login had.
func TestDeadlineOfTheLoginIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, opener := range []string{"NewPool", "Connect"} {
		name, password := newUser(t)
		_, c := newCache(t, document(t, name, password))
		opts := &postgres.Options{DSN: "connect_timeout=1"}
		var err error
		if opener == "NewPool" {
			_, err = newPool(t, c, opts).Exec(t.Context(), "select pg_sleep(1.5)")
		} else if conn, failed := postgres.Connect(t.Context(), c, "prod/db", opts); failed != nil {
			err = failed
		} else {
			_, err = conn.Exec(t.Context(), "select pg_sleep(1.5)")
			_ = conn.Close(t.Context())
		}
		if err != nil {
			t.Errorf("%s: %v", opener, err)
		}
	}
}

// An error of pgconn's AfterConnect comes with the configuration of the connect, out of
// which the password has to be taken as out of any other error's.
func TestAfterConnectFails(t *testing.T) {
	t.Parallel()
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			_, c := newCache(t, document(t, name, password))
			connect := opener.new(t, c, &postgres.Options{MaxConcurrentLogins: 1, Configure: func(cfg *pgx.ConnConfig) error {
				cfg.AfterConnect = func(context.Context, *pgconn.PgConn) error { return errors.New("not today") }
				return nil
			}})
			for range 3 {
				err := connect(t.Context())
				if err == nil || !strings.Contains(err.Error(), "not today") {
					t.Fatal(err)
				}
				checkNoPassword(t, err)
			}
		})
	}
}

// Nobody prefers a server, but there is no other: pgx returns to one that it has
// passed by. The credentials there are those that this server has accepted, not those
// that another one was tried with after it.
func TestPreferStandby(t *testing.T) {
	t.Parallel()
	for _, rotating := range []bool{false, true} {
		for _, opener := range openers {
			t.Run(fmt.Sprintf("%s, in a rotation %t", opener.name, rotating), func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t)
				srv, c := newCache(t, document(t, name, password))
				dead := newProxy(t, pg)
				dead.Close()
				connect := opener.new(t, c, &postgres.Options{MaxConcurrentLogins: 1, Patience: -1, DSN: fmt.Sprintf(
					"sslmode=disable target_session_attrs=prefer-standby host=127.0.0.1,127.0.0.1 port=%d,%d", pg.Port(), dead.Port())})
				if rotating {
					pend(t, srv, document(t, name, "changed"))
					if err := pg.SetPassword(t.Context(), name, "changed"); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 {
					if err := connect(t.Context()); err != nil {
						t.Error(err)
					}
				}
				want := 1
				if opener.name == "Connect" {
					want = 2 // it remembers nothing from one call to the next
				}
				if n, err := pg.FailedLogins(name); err != nil || n > want {
					t.Errorf("%d failed logins, %v", n, err)
				}
			})
		}
	}
}

// pgx returns to a server that nobody prefers, and there the connection breaks: there
// is no hook for that attempt either.
func TestPreferStandbyBreaks(t *testing.T) {
	t.Parallel()
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			_, c := newCache(t, document(t, name, password))
			p, dead := newProxy(t, pg), newProxy(t, pg)
			dead.Close()
			connect := opener.new(t, c, &postgres.Options{
				MaxConcurrentLogins: 1, Patience: -1,
				DSN: fmt.Sprintf("sslmode=disable target_session_attrs=prefer-standby host=127.0.0.1,127.0.0.1 port=%d,%d connect_timeout=2", p.Port(), dead.Port()),
				Configure: func(cfg *pgx.ConnConfig) error {
					validate := cfg.ValidateConnect
					cfg.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
						err := validate(ctx, conn)
						p.Set(proxy.Fault{FromServer: &proxy.Cut{After: 50}}) // once more it does not get so far
						return err
					}
					return nil
				},
			})
			ctx, cancel := context.WithTimeout(t.Context(), hang)
			defer cancel()
			for range 2 {
				err := connect(ctx)
				if err == nil || dbconn.IsRefused(err) {
					t.Errorf("%v", err)
				}
				checkNoPassword(t, err)
				p.Set(proxy.Fault{})
			}
		})
	}
}

// The user's tracer sees the connect as a whole, its own queries, and all else that it
// may trace.
func TestUsersTracer(t *testing.T) {
	t.Parallel()
	for _, opener := range openers {
		if opener.name == "ConfigurePool" {
			continue // as NewPool
		}
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			srv, c := newCache(t, document(t, name, "outdated"))
			pend(t, srv, document(t, name, password))
			var seen everyTracer
			connect := opener.new(t, c, &postgres.Options{Configure: func(cfg *pgx.ConnConfig) error {
				cfg.Tracer = &seen
				cfg.AfterConnect = nil
				return nil
			}})
			if err := connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if seen.starts.Load() != 1 || seen.ends.Load() != 1 || seen.failed.Load() != 0 || seen.others.Load() != 0 {
				t.Errorf("%d connects begun, %d ended, %d of them with an error; %d with another tracer in the configuration",
					seen.starts.Load(), seen.ends.Load(), seen.failed.Load(), seen.others.Load())
			}
		})
	}
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	var seen everyTracer
	conn, err := postgres.Connect(t.Context(), c, "prod/db", &postgres.Options{Configure: func(cfg *pgx.ConnConfig) error {
		cfg.Tracer = &seen
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Prepare(t.Context(), "one", "select 1"); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
	if seen.queries.Load() != 1 || seen.prepares.Load() == 0 {
		t.Errorf("it has seen %d queries and %d statements prepared", seen.queries.Load(), seen.prepares.Load())
	}
}

// An everyTracer traces connects, queries and statements that are prepared.
type everyTracer struct {
	starts, ends, failed, others, queries, prepares atomic.Int64
}

func (e *everyTracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	e.starts.Add(1)
	if data.ConnConfig.Tracer != e {
		e.others.Add(1)
	}
	return ctx
}

func (e *everyTracer) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) {
	e.ends.Add(1)
	if data.Err != nil {
		e.failed.Add(1)
	}
}

func (e *everyTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	e.queries.Add(1)
	return ctx
}

func (*everyTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (e *everyTracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	e.prepares.Add(1)
	return ctx
}

func (*everyTracer) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// Servers that are not what target_session_attrs asks for are passed by, in a rotation
// too, and keep nothing.
func TestTargetSessionAttrs(t *testing.T) {
	t.Parallel()
	readOnly := newServer(t, &pgserver.Options{Settings: map[string]string{"default_transaction_read_only": "on"}})
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			if err := createReadOnly(t.Context(), readOnly, name, password); err != nil {
				t.Fatal(err)
			}
			srv, c := newCache(t, document(t, name, password))
			opts := func(first, second *pgserver.Server) *postgres.Options {
				return &postgres.Options{MaxConcurrentLogins: 1, Patience: -1, DSN: fmt.Sprintf(
					"sslmode=disable target_session_attrs=read-write host=127.0.0.1,127.0.0.1 port=%d,%d", first.Port(), second.Port())}
			}
			fallback, nowhere := opener.new(t, c, opts(readOnly, pg)), opener.new(t, c, opts(readOnly, readOnly))
			check := func(when string) {
				t.Helper()
				for range 2 {
					if err := fallback(t.Context()); err != nil {
						t.Errorf("%s: %v", when, err)
					}
					if err := nowhere(t.Context()); err == nil || !strings.Contains(err.Error(), "read only connection") || dbconn.IsRefused(err) {
						t.Errorf("%s: %v", when, err)
					}
				}
			}
			check("at first")
			pending := pend(t, srv, document(t, name, "changed"))
			for _, srv := range []*pgserver.Server{pg, readOnly} {
				if err := setPassword(t.Context(), srv, name, "changed"); err != nil {
					t.Fatal(err)
				}
			}
			check("in a rotation")
			promote(t, srv, pending)
			check("after it")
		})
	}
}

// createReadOnly creates a user on a server whose transactions are read only.
func createReadOnly(ctx context.Context, srv *pgserver.Server, name, password string) error {
	return readWrite(ctx, srv, "create role "+name+" login password '"+password+"'", "create database "+name+" owner "+name)
}

func setPassword(ctx context.Context, srv *pgserver.Server, name, password string) error {
	return readWrite(ctx, srv, "alter role "+name+" password '"+password+"'")
}

func readWrite(ctx context.Context, srv *pgserver.Server, statements ...string) error {
	cfg := srv.ConnConfig()
	cfg.RuntimeParams["default_transaction_read_only"] = "off"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// sslcertmode=require ends a login for which pgx has no hook. What it had of
// MaxConcurrentLogins is given back all the same, and the password is gone.
func TestSSLCertMode(t *testing.T) {
	t.Parallel()
	cert, key := testcert.New(t)
	own := newServer(t, &pgserver.Options{
		Files: map[string][]byte{"server.crt": cert, "server.key": key}, Settings: map[string]string{"ssl": "on"},
	})
	for _, opener := range openers {
		t.Run(opener.name, func(t *testing.T) {
			t.Parallel()
			name, password := newUserOf(t, own)
			_, c := newCache(t, documentOf(t, own, name, password))
			stats := new(retry.Stats)
			connect := opener.new(t, c, &postgres.Options{
				MaxConcurrentLogins: 1, Stats: stats, DSN: "sslmode=require connect_timeout=2",
				Configure: func(cfg *pgx.ConnConfig) error { cfg.SSLCertMode = "require"; return nil },
			})
			ctx, cancel := context.WithTimeout(t.Context(), hang)
			defer cancel()
			err := connect(ctx)
			if err == nil || dbconn.IsRefused(err) || !strings.Contains(err.Error(), "sslcertmode") {
				t.Errorf("%v", err)
			}
			checkNoPassword(t, err)
			if logins, ended := stats.Logins.Load(), stats.NoVerdict.Load(); logins != 1 || ended != 1 {
				t.Errorf("%d logins, of which %d have ended without a verdict", logins, ended)
			}
		})
	}
}

// Errors and configurations of pools, printed in all ways there are.
func TestPoolGivesNothingAway(t *testing.T) {
	t.Parallel()
	name, _ := newUser(t)
	_, c := newCache(t, document(t, name, sentinel))
	p := newProxy(t, pg)
	opts := &postgres.Options{Host: "127.0.0.1", Port: p.Port(), DSN: "connect_timeout=1"}
	for _, fault := range []proxy.Fault{{}, {Deaf: true}, {FromServer: &proxy.Cut{After: 100}}} {
		pool := newPool(t, c, opts)
		p.Set(fault)
		conn, err := pool.Acquire(t.Context())
		if err == nil {
			conn.Release()
			t.Fatal("logged in with a wrong password")
		}
		checkNoPassword(t, err)
		leaktest.Check(t, sentinel, err)
	}
	if err := pg.SetPassword(t.Context(), name, sentinel); err != nil {
		t.Fatal(err)
	}
	p.Set(proxy.Fault{})
	_, c = newCache(t, document(t, name, sentinel))
	pool := newPool(t, c, opts)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "select 1/0")
	leaktest.Check(t, sentinel, err)
	// The cache is in there, and goes on working until it is closed.
	c.Close()
	leaktest.Check(t, sentinel, pool.Config())
	leaktest.Check(t, sentinel, conn.Conn().PgConn().CustomData())
}

// As above, of connections that break. The error is the caller's: nobody else writes to
// it any more, which the race detector looks after.
func TestBrokenConnectionGivesNothingAway(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	_, c := newCache(t, document(t, name, password))
	p := newProxy(t, pg)
	opts := &postgres.Options{Host: "127.0.0.1", Port: p.Port()}
	pool := newPool(t, c, opts)
	for _, fault := range []proxy.Fault{{Refuse: true}, {FromServer: &proxy.Cut{After: 24, Reset: true}}, {FromServer: &proxy.Cut{After: 100, Reset: true}}} {
		p.Set(fault)
		for range 5 {
			_, err := pool.Acquire(t.Context())
			if err == nil {
				t.Fatalf("%s: a connection", describe(fault))
			}
			checkNoPassword(t, err)
			leaktest.Check(t, password, err)
		}
	}
}

// random is how many of the passwords are made up by chance.
const random = 20

// passwords returns those to try: the ones that break parsers, and some at random.
func passwords() []string {
	list := []string{
		" ", "  leading and trailing  ", `'`, `"`, `\`, `\\`, `\'`, "%", "%%20", "%zz", "@", ":", "/", "a@b:c/d?e=f&g#h",
		"host=evil sslmode=disable", "a b='c' d", "\x01\x02\x1f\x7f", "\t\r\n", "{\"a\":1}", "$1", "${HOME}", "`id`", "--", ";drop",
		"密码😀𝄞", "ÀÉÎ", strings.Repeat("x", 128), strings.Repeat("😀", 32), strings.Repeat(`\`, 128), "md5d41d8cd98f00b204e9800998ecf8427e",
		"SCRAM-SHA-256", "null", "true", "0",
	}
	alphabet := []rune(` '"\%@:/?#[]&=+,;{}$` + "\t\n\x01\x7f" + "aZ09é密😀")
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // The same ones each time.
	for range random {
		var b strings.Builder
		for n := 1 + r.IntN(40); b.Len() < n; {
			b.WriteRune(alphabet[r.IntN(len(alphabet))])
		}
		list = append(list, b.String())
	}
	return list
}

// Any password that PostgreSQL takes and pgx alone logs in with works in all ways.
func TestPasswordsOfAllKinds(t *testing.T) {
	t.Parallel()
	name, _ := newUser(t)
	var skipped atomic.Int64
	list := passwords()
	for i, password := range list {
		if !utf8.ValidString(password) {
			t.Fatalf("%q", password)
		}
		if err := pg.SetPassword(t.Context(), name, password); err != nil {
			t.Errorf("%q: %v", password, err)
			continue
		}
		if err := bare(t.Context(), pg.Host(), pg.Port(), name, password, name); err != nil {
			t.Logf("%q: pgx alone: %v", password, err)
			skipped.Add(1)
			continue
		}
		_, c := newCache(t, document(t, name, password))
		ways := openers
		if i >= len(list)-random {
			ways = openers[i%len(openers):][:1]
		}
		for _, opener := range ways {
			if err := opener.new(t, c, &postgres.Options{})(t.Context()); err != nil {
				t.Errorf("%s, %q: %v", opener.name, password, err)
			}
		}
	}
	if skipped.Load() > 2 {
		t.Errorf("%d passwords are not pgx's either", skipped.Load())
	}
}

// A churn is two pools, one of each kind, whose connections live for a moment, and
// workers who query them.
type churn struct {
	srv     *smtest.Server
	c       *cache.Cache
	stats   *retry.Stats
	queries atomic.Int64
	stop    func()
}

const churnWorkers = 3 // for each pool

func newChurn(t *testing.T, secret string, opts postgres.Options) *churn {
	t.Helper()
	ch := &churn{stats: new(retry.Stats)}
	ch.srv, ch.c = newCache(t, secret)
	opts.Stats = ch.stats
	ch.run(t, opts)
	return ch
}

// run starts the pools and their workers.
func (ch *churn) run(t *testing.T, opts postgres.Options) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var dones []func()
	for _, kind := range []string{"pgxpool", "database/sql"} {
		query, done := shortLived(t, kind, ch.c, opts)
		dones = append(dones, done)
		for range churnWorkers {
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := query(t.Context()); err != nil {
						t.Errorf("%s: a query failed: %v", kind, err)
					}
					ch.queries.Add(1)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
	}
	ch.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		for _, done := range dones {
			done()
		}
	})
	t.Cleanup(ch.stop)
}

// live lets the workers make some more queries, on connections that are new by then.
func (ch *churn) live(t *testing.T) {
	t.Helper()
	time.Sleep(150 * time.Millisecond)
	until := ch.queries.Load() + 10*churnWorkers
	eventually(t, "queries", func() bool { return ch.queries.Load() >= until })
}

// bound checks that no more logins failed than rotations and those in flight are a
// reason for: of each pool one, and at a change as many as there are connections
// being opened.
func (ch *churn) bound(t *testing.T, srv *pgserver.Server, changes int, users ...string) {
	t.Helper()
	ch.stop()
	failed := 0
	for _, user := range users {
		n, err := srv.FailedLogins(user)
		if err != nil {
			t.Fatal(err)
		}
		failed += n
	}
	if most := changes * 2 * (1 + churnWorkers); failed > most {
		t.Errorf("%d failed logins in %d changes, want at most %d", failed, changes, most)
	}
	if refused := ch.stats.Refused.Load(); int(refused) != failed {
		t.Errorf("%d failed logins on the server, and %d known of here", failed, refused)
	}
	t.Logf("%d changes, %d queries, %d logins, %d failed", changes, ch.queries.Load(), ch.stats.Logins.Load(), failed)
}

// Single user, with the window between the change and the promotion that rotations
// have; two rotations of which the second begins before the first is noticed; one
// that is rolled back; a rotation whose AWSPENDING may not be read.
func TestKindsOfRotation(t *testing.T) {
	t.Parallel()
	for _, window := range []time.Duration{0, 300 * time.Millisecond, 3 * time.Second} {
		t.Run(fmt.Sprint("window ", window), func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			ch := newChurn(t, document(t, name, password), postgres.Options{})
			rotations := 3
			if window > time.Second {
				rotations = 2
			}
			for i := range rotations {
				ch.live(t)
				next := fmt.Sprint("password ", i)
				pending := pend(t, ch.srv, document(t, name, next))
				if err := pg.SetPassword(t.Context(), name, next); err != nil {
					t.Fatal(err)
				}
				time.Sleep(window)
				promote(t, ch.srv, pending)
			}
			ch.live(t)
			ch.bound(t, pg, rotations, name)
			if ch.stats.Refused.Load() == 0 {
				t.Error("no login was refused: the test has proved nothing")
			}
		})
	}
	t.Run("AWSPENDING denied", func(t *testing.T) {
		t.Parallel()
		name, password := newUser(t)
		ch := newChurn(t, document(t, name, password), postgres.Options{})
		denyPending(ch.srv)
		const rotations = 1 // for more of them see TestTwoRotationsWithPendingDenied
		for i := range rotations {
			ch.live(t)
			next := fmt.Sprint("password ", i)
			pending := pend(t, ch.srv, document(t, name, next))
			if err := pg.SetPassword(t.Context(), name, next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(700 * time.Millisecond) // the callers wait
			promote(t, ch.srv, pending)
		}
		ch.live(t)
		ch.bound(t, pg, rotations, name)
		if ch.stats.Polls.Load() == 0 {
			t.Error("nobody has waited: the test has proved nothing")
		}
	})
	t.Run("alternating users", func(t *testing.T) {
		t.Parallel()
		a, passwordA := newUser(t)
		b, passwordB := newUser(t)
		ch := newChurn(t, document(t, a, passwordA), postgres.Options{})
		const rotations = 4
		for i := range rotations {
			ch.live(t)
			next := fmt.Sprint("password ", i)
			pending := pend(t, ch.srv, document(t, b, next))
			if err := pg.SetPassword(t.Context(), b, next); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			promote(t, ch.srv, pending)
			a, passwordA, b, passwordB = b, next, a, passwordA
		}
		_ = passwordB
		ch.live(t)
		// The password that changes is of the user who is not in use, but for those who
		// have not heard yet of the rotation before.
		ch.bound(t, pg, rotations, a, b)
	})
	t.Run("double rotation", func(t *testing.T) {
		t.Parallel()
		name, password := newUser(t)
		ch := newChurn(t, document(t, name, password), postgres.Options{})
		const rotations = 3
		for i := range rotations {
			ch.live(t)
			for _, half := range []string{"a", "b"} {
				next := fmt.Sprint("password ", i, half)
				pending := pend(t, ch.srv, document(t, name, next))
				if err := pg.SetPassword(t.Context(), name, next); err != nil {
					t.Fatal(err)
				}
				promote(t, ch.srv, pending)
			}
		}
		ch.live(t)
		ch.bound(t, pg, 2*rotations, name)
	})
	t.Run("rolled back", func(t *testing.T) {
		t.Parallel()
		name, password := newUser(t)
		ch := newChurn(t, document(t, name, password), postgres.Options{})
		const rotations = 3
		for i := range rotations {
			ch.live(t)
			pend(t, ch.srv, document(t, name, fmt.Sprint("password ", i)))
			if err := pg.SetPassword(t.Context(), name, fmt.Sprint("password ", i)); err != nil {
				t.Fatal(err)
			}
			ch.live(t) // on AWSPENDING
			if err := pg.SetPassword(t.Context(), name, password); err != nil {
				t.Fatal(err)
			}
		}
		ch.live(t)
		ch.bound(t, pg, 2*rotations, name)
	})
}

// Somebody edits the secret by hand, to a wrong password or to what is no database
// secret at all, and back: AWSPREVIOUS helps out, in the second case with no failed login.
func TestSecretEditedByHand(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"pgxpool", "database/sql"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t)
			srv, c := newCache(t, document(t, name, password))
			stats := new(retry.Stats)
			query, done := shortLived(t, kind, c, postgres.Options{Stats: stats})
			defer done()
			put := func(secret string) {
				version := srv.Put("prod/db", secret)
				eventually(t, "the edit", func() bool {
					s, err := c.Refresh(t.Context(), "prod/db")
					return err == nil && s.VersionID() == version
				})
				time.Sleep(200 * time.Millisecond) // the connections there are are gone by then
			}
			for _, secret := range []string{
				document(t, name, "wrong"), sentinel + " is no JSON", `{"username":"` + name + `"}`,
			} {
				put(secret)
				for range 3 {
					if err := query(t.Context()); err != nil {
						t.Errorf("%v", err)
					}
				}
				put(document(t, name, password))
				if err := query(t.Context()); err != nil {
					t.Errorf("put right: %v", err)
				}
			}
			if n, err := pg.FailedLogins(name); err != nil || n != 1 {
				t.Errorf("%d failed logins, %v, want that of the wrong password", n, err)
			}
		})
	}
}

// denyPending is the policy that forgets about AWSPENDING.
func denyPending(srv *smtest.Server) {
	srv.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, Err: &smtest.Error{
		Code: "AccessDeniedException", Message: "not authorized to perform: secretsmanager:GetSecretValue because no identity-based policy allows it",
	}})
}

// database/sql over a pool goes through rotations as the pool does, and its
// connections are the pool's.
func TestOpenDBFromPoolThroughRotations(t *testing.T) {
	t.Parallel()
	name, password := newUser(t)
	srv, c := newCache(t, document(t, name, password))
	pool := newPool(t, c, &postgres.Options{DSN: "pool_max_conns=4 pool_max_conn_lifetime=50ms pool_health_check_period=20ms"})
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := db.ExecContext(t.Context(), "select pg_sleep(0.01)"); err != nil {
					t.Errorf("a query failed: %v", err)
				}
			}
		})
	}
	for i := range 3 {
		next := fmt.Sprint("password ", i)
		pending := pend(t, srv, document(t, name, next))
		if err := pg.SetPassword(t.Context(), name, next); err != nil {
			t.Error(err)
		}
		time.Sleep(300 * time.Millisecond)
		promote(t, srv, pending)
		time.Sleep(300 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Raw(func(raw any) error {
		if _, ok := raw.(*stdlib.Conn); !ok {
			t.Errorf("Raw yields a %T", raw)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
