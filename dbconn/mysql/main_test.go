package mysql_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/smtest"
)

// The servers of all tests of this package, without TLS and without a limit of
// failed logins. Each test makes users of its own.
var mariadb, mysqld *mysqlserver.Server

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	var wg sync.WaitGroup
	var failed [2]error
	wg.Go(func() {
		mariadb, failed[0] = mysqlserver.Start(context.Background(), &mysqlserver.Options{Kind: mysqlserver.MariaDB})
	})
	wg.Go(func() {
		mysqld, failed[1] = mysqlserver.Start(context.Background(), &mysqlserver.Options{Kind: mysqlserver.MySQL})
	})
	wg.Wait()
	defer func() {
		for _, srv := range []*mysqlserver.Server{mariadb, mysqld} {
			if srv != nil {
				err = errors.Join(err, srv.Stop())
			}
		}
	}()
	if err := errors.Join(failed[:]...); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// eachServer runs a test on both servers.
func eachServer(t *testing.T, f func(*testing.T, *mysqlserver.Server)) {
	t.Helper()
	for _, srv := range []*mysqlserver.Server{mariadb, mysqld} {
		t.Run(string(srv.Kind()), func(t *testing.T) { f(t, srv) })
	}
}

// newUser creates a user with a database of its own, and returns its name and
// password.
func newUser(t *testing.T, srv *mysqlserver.Server) (name, password string) {
	t.Helper()
	name, password = "u"+strings.ToLower(rand.Text()[:10]), rand.Text()
	if err := srv.CreateUser(t.Context(), name, password); err != nil {
		t.Fatal(err)
	}
	return name, password
}

// admin executes a statement as the administrator.
func admin(t *testing.T, srv *mysqlserver.Server, statement string, args ...any) {
	t.Helper()
	if _, err := srv.Admin().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// document returns a secret as AWS writes it, for a user of a server.
func document(t *testing.T, srv *mysqlserver.Server, user, password string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"engine": "mysql", "username": user, "password": password,
		"host": srv.Host(), "port": srv.Port(), "dbname": user,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newCache returns a server that holds the secret prod/db, and a cache over it.
func newCache(t *testing.T, secret string) (*smtest.Server, *cache.Cache) {
	t.Helper()
	srv := smtest.New(nil)
	t.Cleanup(srv.Close)
	srv.Put("prod/db", secret)
	c, err := cache.New(srv.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return srv, c
}

func open(t *testing.T, c *cache.Cache, opts *mysql.Options) *sql.DB {
	t.Helper()
	db, err := mysql.OpenDB(c, "prod/db", opts)
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

// whoami returns whom the server takes us for, and the database.
func whoami(ctx context.Context, db *sql.DB) (user, database string, err error) {
	var in sql.NullString
	err = db.QueryRowContext(ctx, "select user(), database()").Scan(&user, &in)
	user, _, _ = strings.Cut(user, "@")
	return user, in.String, err
}

// failures returns how many logins of a user the server has refused.
func failures(t *testing.T, srv *mysqlserver.Server, user string) int {
	t.Helper()
	n, err := srv.FailedLogins(user)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// typeOf names a type.
func typeOf(v any) string { return fmt.Sprintf("%T", v) }

// limited returns a MariaDB server that locks accounts after three failed logins.
func limited(t *testing.T) *mysqlserver.Server {
	t.Helper()
	srv, err := mysqlserver.Start(t.Context(), &mysqlserver.Options{Kind: mysqlserver.MariaDB, Settings: map[string]string{"max_password_errors": "3"}})
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
