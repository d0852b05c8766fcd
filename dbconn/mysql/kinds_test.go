package mysql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// A churn is a pool whose connections live for a moment, and workers who query it. Every
// error is one too many.
type churn struct {
	stats   *retry.Stats
	queries atomic.Int64
	stop    func()
}

const churnWorkers = 6

// newChurn starts the workers. ok, if it is not nil, looks at what a query tells: the
// user and the server's port.
func newChurn(t *testing.T, c *cache.Cache, opts mysql.Options, ok func(user string, port int) error) *churn {
	t.Helper()
	ch := &churn{stats: new(retry.Stats)}
	opts.Stats = ch.stats
	db, err := mysql.OpenDB(c, "prod/db", &opts)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(churnWorkers)
	db.SetMaxIdleConns(churnWorkers)
	db.SetConnMaxLifetime(30 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range churnWorkers {
		wg.Go(func() {
			for ctx.Err() == nil {
				var user string
				var port int
				// Its own context does not end: a query that is cut off is an error.
				err := db.QueryRowContext(t.Context(), "select substring_index(user(), '@', 1), @@port").Scan(&user, &port)
				if err == nil && ok != nil {
					err = ok(user, port)
				}
				if err != nil {
					t.Errorf("a query failed: %v", err)
				}
				ch.queries.Add(1)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	ch.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); _ = db.Close() })
	t.Cleanup(ch.stop)
	return ch
}

// live lets the workers make some more queries, on connections that are new by then.
func (ch *churn) live(t *testing.T) {
	t.Helper()
	time.Sleep(100 * time.Millisecond)
	until := ch.queries.Load() + 5*churnWorkers
	eventually(t, "queries", func() bool { return ch.queries.Load() >= until })
}

// bound ends the churn, and checks that no more logins failed than changes of the
// password and those in flight are a reason for, and that all of them are known of. A
// rotation function's own failures are further ones.
func (ch *churn) bound(t *testing.T, changes, further int, srv *mysqlserver.Server, users ...string) {
	t.Helper()
	ch.stop()
	failed := -further
	for _, user := range users {
		failed += failures(t, srv, user)
	}
	if most := changes * (1 + churnWorkers); failed > most {
		t.Errorf("%d failed logins in %d changes, want at most %d", failed, changes, most)
	}
	if refused := ch.stats.Refused.Load(); int(refused) != failed {
		t.Errorf("%d failed logins on the server, and %d known of here", failed, refused)
	}
	t.Logf("%d changes, %d queries, %d logins, %d failed", changes, ch.queries.Load(), ch.stats.Logins.Load(), failed)
}

// proved checks that some login was refused.
func (ch *churn) proved(t *testing.T) {
	t.Helper()
	if ch.stats.Refused.Load() == 0 {
		t.Error("no login was refused: the test has proved nothing")
	}
}

// setPassword is the administrator's.
func setPassword(t *testing.T, srv *mysqlserver.Server, name, password string) {
	t.Helper()
	if err := srv.SetPassword(t.Context(), name, password); err != nil {
		t.Fatal(err)
	}
}

// with returns a secret with other values, or, where a value is nil, without that field.
func with(t *testing.T, secret string, values map[string]any) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(secret), &fields); err != nil {
		t.Fatal(err)
	}
	for field, value := range values {
		if fields[field] = value; value == nil {
			delete(fields, field)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each kind of rotation under a pool with churn.
func TestKindsOfRotation(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		// single rotates a single user, with the window between the change and the
		// promotion that rotations have.
		single := func(rotations int, window time.Duration, opts mysql.Options, fields map[string]any) func(*testing.T) {
			return func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t, srv)
				sm, c := newCache(t, with(t, document(t, srv, name, password), fields))
				ch := newChurn(t, c, opts, nil)
				for i := range rotations {
					ch.live(t)
					next := fmt.Sprint("password ", i)
					pending := pend(t, sm, with(t, document(t, srv, name, next), fields))
					setPassword(t, srv, name, next)
					time.Sleep(window)
					promote(t, sm, pending)
				}
				ch.live(t)
				ch.bound(t, rotations, 0, srv, name)
				ch.proved(t)
			}
		}
		managed := map[string]any{"engine": nil, "host": nil, "port": nil, "dbname": nil}
		const moment = 100 * time.Millisecond
		for name, run := range map[string]func(*testing.T){
			"no window":               single(4, 0, mysql.Options{}, nil),
			"window":                  single(3, 300*time.Millisecond, mysql.Options{}, nil),
			"long window":             single(1, 1500*time.Millisecond, mysql.Options{}, nil),
			"connections kept":        single(2, moment, mysql.Options{KeepOld: true}, nil),
			"managed, host by option": single(2, moment, mysql.Options{Host: srv.Host(), Port: srv.Port()}, managed),
			"managed, host in a DSN":  single(1, moment, mysql.Options{DSN: fmt.Sprintf("tcp(%s)/", addressOf(srv))}, managed),
			"socket in the secret":    single(2, moment, mysql.Options{}, map[string]any{"host": srv.Socket(), "port": nil}),
			"socket by option":        single(1, moment, mysql.Options{Host: srv.Socket()}, nil),
			"a name for the host":     single(1, moment, mysql.Options{}, map[string]any{"host": "localhost"}),
		} {
			t.Run(name, run)
		}
		t.Run("AWSPENDING denied", func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t, srv)
			sm, c := newCache(t, document(t, srv, name, password))
			sm.Inject(smtest.Fault{Operation: "GetSecretValue", Stage: cache.Pending, Err: smtest.AccessDenied})
			ch := newChurn(t, c, mysql.Options{}, nil)
			ch.live(t)
			pending := pend(t, sm, document(t, srv, name, "changed"))
			setPassword(t, srv, name, "changed")
			time.Sleep(500 * time.Millisecond) // the callers wait
			promote(t, sm, pending)
			ch.live(t)
			ch.bound(t, 1, 0, srv, name)
			if ch.stats.Polls.Load() == 0 {
				t.Error("nobody has waited: the test has proved nothing")
			}
		})
		t.Run("alternating users", func(t *testing.T) {
			t.Parallel()
			a, passwordA := newUser(t, srv)
			b, _ := newUser(t, srv)
			admin(t, srv, "GRANT ALL ON *.* TO ?@'%'", a)
			admin(t, srv, "GRANT ALL ON *.* TO ?@'%'", b)
			database := map[string]any{"dbname": a}
			sm, c := newCache(t, with(t, document(t, srv, a, passwordA), database))
			ch := newChurn(t, c, mysql.Options{}, func(user string, _ int) error {
				if user != a && user != b {
					return fmt.Errorf("logged in as %s", user)
				}
				return nil
			})
			users := []string{b, a}
			const rotations = 4
			for i := range rotations {
				ch.live(t)
				user, next := users[i%2], fmt.Sprint("password ", i)
				pending := pend(t, sm, with(t, document(t, srv, user, next), database))
				setPassword(t, srv, user, next)
				time.Sleep(200 * time.Millisecond)
				promote(t, sm, pending)
			}
			ch.live(t)
			// The password that changes is of the user who is not in use, but for those who
			// have not heard yet of the rotation before.
			ch.bound(t, rotations, 0, srv, a, b)
		})
		t.Run("double rotation", func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t, srv)
			sm, c := newCache(t, document(t, srv, name, password))
			ch := newChurn(t, c, mysql.Options{}, nil)
			const rotations = 2
			for i := range rotations {
				ch.live(t)
				for _, half := range []string{"a", "b"} {
					next := fmt.Sprint("password ", i, half)
					pending := pend(t, sm, document(t, srv, name, next))
					setPassword(t, srv, name, next)
					promote(t, sm, pending)
				}
			}
			ch.live(t)
			ch.bound(t, 2*rotations, 0, srv, name)
			ch.proved(t)
		})
		t.Run("fails in testSecret", func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t, srv)
			sm, l := newLoad(t, document(t, srv, name, password), nil)
			errTest := errors.New("the application is not content")
			inner := function(sm, l, target{srv}, 0)
			fails := true
			sm.AddFunction(functionARN, func(ctx context.Context, event []byte) error {
				if fails && strings.Contains(string(event), `"testSecret"`) {
					l.Live(t, 50) // on AWSPENDING
					if err := srv.SetPassword(ctx, name, password); err != nil {
						return err
					}
					l.Live(t, 50) // on AWSCURRENT again
					return errTest
				}
				return inner(ctx, event)
			})
			l.Live(t, 50)
			for range 2 { // the second takes the first one's AWSPENDING
				if err := rotated(t, sm); !errors.Is(err, errTest) {
					t.Errorf("the rotation ended with %v", err)
				}
			}
			fails = false
			if err := rotated(t, sm); err != nil {
				t.Errorf("the rotation ended with %v", err)
			}
			l.Live(t, 50)
			l.Stop()
			if started, _, _ := l.tracer.Logins(); l.Failed() != 0 || started == 0 {
				t.Errorf("%d errors in %d queries", l.Failed(), l.Queries())
			}
		})
		if srv.Kind() == mysqlserver.MySQL {
			// MySQL can have a user keep its password beside a new one: no login fails.
			t.Run("both passwords", func(t *testing.T) {
				t.Parallel()
				name, password := newUser(t, srv)
				sm, c := newCache(t, document(t, srv, name, password))
				ch := newChurn(t, c, mysql.Options{}, nil)
				for i := range 2 {
					ch.live(t)
					next := fmt.Sprint("password ", i)
					pending := pend(t, sm, document(t, srv, name, next))
					admin(t, srv, "ALTER USER ?@'%' IDENTIFIED BY ? RETAIN CURRENT PASSWORD", name, next)
					ch.live(t)
					promote(t, sm, pending)
					if _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
						t.Fatal(err)
					}
				}
				ch.live(t)
				ch.bound(t, 0, 0, srv, name)
			})
		}
	})
}

// rotated asks for a rotation, which may be the one before once more, and returns how
// it ends.
func rotated(t *testing.T, srv *smtest.Server) error {
	t.Helper()
	_, err := srv.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String("prod/db"), RotationLambdaARN: aws.String(functionARN),
	})
	if err != nil && !strings.Contains(err.Error(), "will be reattempted") {
		t.Fatal(err)
	}
	return srv.Wait(t.Context(), "prod/db")
}

// A writer and a replica, each with an endpoint of its own, over one cache. The replica
// hears of a password some time after the labels have moved, or has not heard yet when
// the next one comes. To us it makes no difference that they are of two makes.
func TestLaggingReplica(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("connections kept: ", keep), func(t *testing.T) {
			t.Parallel()
			writer, replica := mariadb, mysqld
			if keep {
				writer, replica = mysqld, mariadb
			}
			name, password := newUser(t, writer)
			if err := replica.CreateUser(t.Context(), name, password); err != nil {
				t.Fatal(err)
			}
			sm, c := newCache(t, document(t, writer, name, password))
			churns := make(map[*mysqlserver.Server]*churn)
			for _, srv := range []*mysqlserver.Server{writer, replica} {
				churns[srv] = newChurn(t, c, mysql.Options{Host: srv.Host(), Port: srv.Port(), KeepOld: keep}, func(_ string, port int) error {
					if port != srv.Port() {
						return fmt.Errorf("at port %d, not %d", port, srv.Port())
					}
					return nil
				})
			}
			const rotations = 4
			for i := range rotations {
				churns[replica].live(t)
				next := fmt.Sprint("password ", i)
				pending := pend(t, sm, document(t, writer, name, next))
				setPassword(t, writer, name, next)
				time.Sleep(200 * time.Millisecond)
				promote(t, sm, pending)
				time.Sleep(time.Duration(i) * 300 * time.Millisecond) // the lag
				setPassword(t, replica, name, next)
			}
			churns[replica].live(t)
			for srv, ch := range churns {
				// Each change is one on the way there, and on the replica one on the way back.
				ch.bound(t, 2*rotations, 0, srv, name)
				ch.proved(t)
			}
		})
	}
}

// Somebody edits the secret by hand, to a wrong password or to what is no database
// secret at all, and back: AWSPREVIOUS helps out, in the second case with no failed login.
func TestSecretEditedByHand(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		const sentinel = "s3nt!nel-Pa55w0rd"
		name, password := newUser(t, srv)
		good := document(t, srv, name, password)
		sm, c := newCache(t, good)
		connect := once(newConnector(t, c, nil))
		put := func(secret string) {
			t.Helper()
			sm.Put("prod/db", secret)
			if _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		for _, edit := range []struct {
			secret string
			failed int // logins
		}{
			{document(t, srv, name, "wrong"), 1},
			{document(t, srv, "nobody", "wrong"), 1},
			{sentinel + " is no JSON", 0},
			{with(t, good, map[string]any{"password": nil}), 0},
			{with(t, good, map[string]any{"port": sentinel}), 0},
			{with(t, good, map[string]any{"engine": "postgres"}), 0},
			{with(t, good, map[string]any{"host": nil}), 0},
		} {
			before := failures(t, srv, name) + failures(t, srv, "nobody")
			put(edit.secret)
			for range 3 {
				if err := within(t, connect); err != nil {
					t.Errorf("%v", err)
				}
			}
			if failed := failures(t, srv, name) + failures(t, srv, "nobody") - before; failed != edit.failed {
				t.Errorf("%d failed logins, want %d", failed, edit.failed)
			}
			put(good)
			if err := within(t, connect); err != nil {
				t.Errorf("put right: %v", err)
			}
		}
	})
}

// Somebody names another server in the secret: new connections go there as soon as that
// is known, and it becomes known when the old server does not want us any more.
func TestSecretNamesAnotherServer(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint("known of: ", known), func(t *testing.T) {
			t.Parallel()
			name, password := newUser(t, mariadb)
			if err := mysqld.CreateUser(t.Context(), name, password); err != nil {
				t.Fatal(err)
			}
			sm, c := newCache(t, document(t, mariadb, name, password))
			var moved atomic.Bool
			ch := newChurn(t, c, mysql.Options{}, func(_ string, port int) error {
				if moved.Load() && port != mysqld.Port() || port != mariadb.Port() && port != mysqld.Port() {
					return fmt.Errorf("at port %d", port)
				}
				return nil
			})
			for range 2 { // there, back, and there again
				ch.live(t)
				sm.Put("prod/db", document(t, mysqld, name, password))
				if known {
					if _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now()); err != nil {
						t.Fatal(err)
					}
				} else {
					admin(t, mariadb, "RENAME USER ?@'%' TO ?@'192.0.2.1'", name, name)
				}
				time.Sleep(200 * time.Millisecond) // the connections there are are gone by then
				moved.Store(true)
				ch.live(t)
				moved.Store(false)
				sm.Put("prod/db", document(t, mariadb, name, password))
				if !known {
					admin(t, mariadb, "RENAME USER ?@'192.0.2.1' TO ?@'%'", name, name)
					admin(t, mysqld, "RENAME USER ?@'%' TO ?@'192.0.2.1'", name, name)
					ch.live(t)
					admin(t, mysqld, "RENAME USER ?@'192.0.2.1' TO ?@'%'", name, name)
				}
			}
			ch.stop()
		})
	}
}

// AWSCURRENT is moved back to the version before, and the password with it: a rollback
// by hand. Once more there, and back.
func TestMovedBack(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		name, password := newUser(t, srv)
		sm, c := newCache(t, document(t, srv, name, password))
		first, err := c.Get(t.Context(), "prod/db")
		if err != nil {
			t.Fatal(err)
		}
		ch := newChurn(t, c, mysql.Options{}, nil)
		ch.live(t)
		pending := pend(t, sm, document(t, srv, name, "next"))
		setPassword(t, srv, name, "next")
		promote(t, sm, pending)
		changes := 1
		for _, move := range []struct{ version, password string }{
			{first.VersionID(), password},
			{pending, "next"},
			{first.VersionID(), password},
		} {
			ch.live(t)
			// Whichever comes first.
			if changes%2 == 0 {
				setPassword(t, srv, name, move.password)
				time.Sleep(200 * time.Millisecond)
				promote(t, sm, move.version)
			} else {
				promote(t, sm, move.version)
				time.Sleep(200 * time.Millisecond)
				setPassword(t, srv, name, move.password)
			}
			changes++
		}
		ch.live(t)
		ch.bound(t, 2*changes, 0, srv, name)
		ch.proved(t)
	})
}

// A pool closes its connections, and others do not: rotations go by a pool that nobody
// uses, and the first query after them works.
func TestRotationsWhileNobodyLooks(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		name, password := newUser(t, srv)
		sm, c := newCache(t, document(t, srv, name, password))
		stats := new(retry.Stats)
		pools := map[string]*sql.DB{
			"open": open(t, c, &mysql.Options{Stats: stats}), "closed": open(t, c, &mysql.Options{Stats: stats}), "kept": open(t, c, &mysql.Options{Stats: stats, KeepOld: true}),
		}
		pools["closed"].SetMaxIdleConns(-1)
		for _, db := range pools {
			if err := db.PingContext(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 5 {
			next := fmt.Sprint("password ", i)
			pending := pend(t, sm, document(t, srv, name, next))
			setPassword(t, srv, name, next)
			promote(t, sm, pending)
		}
		for what, db := range pools {
			if _, err := db.ExecContext(t.Context(), "do 1"); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			db.SetMaxIdleConns(-1)
			if _, err := db.ExecContext(t.Context(), "do 1"); err != nil {
				t.Errorf("%s, on a new connection: %v", what, err)
			}
		}
		// Each pool finds out by itself, once.
		if n := failures(t, srv, name); n > len(pools) || n != int(stats.Refused.Load()) {
			t.Errorf("%d failed logins, %d known of", n, stats.Refused.Load())
		}
	})
}
