package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// A logger collects what the driver has to say.
type logger struct {
	mu   sync.Mutex
	said []string
}

func (l *logger) Print(v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, fmt.Sprint(v...))
}

func (l *logger) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said
}

// Connections of a pool without churn make room after a rotation, one after the
// other, once a login has proven the new version. Nothing fails, no transaction is
// cut, and the driver says nothing of bad connections.
func TestRetirement(t *testing.T) {
	t.Parallel()
	const size = 8
	hidden := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return struct{ net.Conn }{conn}, err // without a socket to look at
	}
	for _, test := range []struct {
		name  string
		srv   func() *mysqlserver.Server
		users string
		dial  func(context.Context, string, string) (net.Conn, error)
		keep  bool
		want  uint64 // retired
	}{
		{"MariaDB, single user", func() *mysqlserver.Server { return mariadb }, "single", nil, false, size},
		{"MySQL, alternating users", func() *mysqlserver.Server { return mysqld }, "alternating", nil, false, size},
		{"without a socket", func() *mysqlserver.Server { return mariadb }, "single", hidden, false, size},
		{"kept", func() *mysqlserver.Server { return mariadb }, "alternating", nil, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			my := test.srv()
			name, password := newUser(t, my)
			other, otherPassword := newUser(t, my)
			srv := smtest.New(nil)
			t.Cleanup(srv.Close)
			srv.Put("prod/db", document(t, my, name, password))
			c, err := cache.New(srv.Client(), &cache.Options{TTL: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			stats, log := new(retry.Stats), new(logger)
			db := open(t, c, &mysql.Options{Stats: stats, KeepOld: test.keep, Config: config(func(cfg *godriver.Config) { cfg.Logger, cfg.DialFunc = log, test.dial })})
			db.SetMaxOpenConns(size + 1)
			db.SetMaxIdleConns(size + 1)
			func() { // every connection is open, also the transaction's
				for range size + 1 {
					conn, err := db.Conn(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = conn.Close() }()
				}
			}()
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}

			ctx, cancel := context.WithCancel(t.Context())
			var queries, errors atomic.Int64
			var wg sync.WaitGroup
			for range size {
				wg.Go(func() {
					for ctx.Err() == nil {
						// Its own context does not end: a query that is cut off
						// takes its connection with it.
						if _, err := db.ExecContext(t.Context(), "do sleep(0.005)"); err != nil {
							errors.Add(1)
							t.Errorf("a query failed: %v", err)
						}
						queries.Add(1)
					}
				})
			}
			if test.users == "single" {
				if err := my.SetPassword(t.Context(), name, otherPassword); err != nil {
					t.Fatal(err)
				}
				srv.Put("prod/db", document(t, my, name, otherPassword))
			} else {
				srv.Put("prod/db", document(t, my, other, otherPassword))
			}
			timeout := time.NewTimer(40 * time.Second)
			defer timeout.Stop()
			if test.keep {
				timeout.Reset(13 * time.Second) // as long as the others take
			}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for waiting := true; waiting && (test.keep || stats.Retired.Load() < test.want); {
				select {
				case <-tick.C:
				case <-timeout.C:
					waiting = false
				}
			}
			cancel()
			wg.Wait()
			if n := stats.Retired.Load(); n != test.want {
				t.Errorf("%d connections have retired, want %d", n, test.want)
			}
			var user string
			if err := tx.QueryRowContext(t.Context(), "select substring_index(user(), '@', 1)").Scan(&user); err != nil || user != name {
				t.Errorf("the transaction of %s went on as %s, %v", name, user, err)
			}
			if err := tx.Commit(); err != nil {
				t.Error(err)
			}
			if errors.Load() != 0 || queries.Load() < 500 {
				t.Errorf("%d errors in %d queries", errors.Load(), queries.Load())
			}
			if said := log.all(); len(said) != 0 {
				t.Errorf("the driver says %q", said)
			}
			t.Logf("%d queries, %d logins accepted, %d refused, %d connections retired", queries.Load(), stats.Accepted.Load(), stats.Refused.Load(), stats.Retired.Load())
		})
	}
}

// A connection that dies is found dead as before, and the driver says so.
func TestDeadConnections(t *testing.T) {
	name, password := newUser(t, mariadb)
	_, c := newCache(t, document(t, mariadb, name, password))
	log := new(logger)
	db := open(t, c, &mysql.Options{Config: config(func(cfg *godriver.Config) { cfg.Logger = log })})
	id := func() (id int) {
		t.Helper()
		if err := db.QueryRowContext(t.Context(), "select connection_id()").Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := id()
	if again := id(); again != first {
		t.Errorf("connection %d was not used again, but %d was opened", first, again)
	}
	admin(t, mariadb, "KILL ?", first)
	gone := func() bool {
		var n int
		err := mariadb.Admin().QueryRowContext(t.Context(), "select count(*) from information_schema.processlist where id = ?", first).Scan(&n)
		if err != nil && err != sql.ErrNoRows {
			t.Fatal(err)
		}
		return n == 0
	}
	for !gone() { // the administrator's statement does not wait for it
	}
	if second := id(); second == first {
		t.Error("a connection that was killed was used again")
	}
	if len(log.all()) == 0 {
		t.Error("the driver says nothing of a connection that died")
	}
}
