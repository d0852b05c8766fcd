package mysql_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
)

// What the servers answer to logins, and what is made of it.
func TestCodes(t *testing.T) {
	const right, wrong = "p4ssword", "wrong"
	repeat := func(n int) func(*testing.T, *mysqlserver.Server, string, func(password string) error) {
		return func(_ *testing.T, _ *mysqlserver.Server, _ string, login func(string) error) {
			for range n {
				_ = login(wrong)
			}
		}
	}
	alter := func(what string) func(*testing.T, *mysqlserver.Server, string, func(string) error) {
		return func(t *testing.T, srv *mysqlserver.Server, name string, _ func(string) error) {
			admin(t, srv, "ALTER USER ?@'%' "+what, name)
		}
	}
	type code struct {
		number uint16
		says   string
	}
	refused, good := code{1045, "refused"}, code{}
	tests := []struct {
		name           string
		prepare        func(t *testing.T, srv *mysqlserver.Server, name string, login func(password string) error)
		password       string
		change         func(*godriver.Config)
		mariadb, mysql code
	}{
		{"right password", nil, right, nil, good, good},
		{"wrong password", nil, wrong, nil, refused, refused},
		{"no password", nil, "", nil, refused, refused},
		{"unknown user", nil, right, func(c *godriver.Config) { c.User = "nobody_" + c.User }, refused, refused},
		{"user of another host", func(t *testing.T, srv *mysqlserver.Server, name string, _ func(string) error) {
			admin(t, srv, "RENAME USER ?@'%' TO ?@'192.0.2.1'", name, name)
		}, right, nil, refused, refused},
		{"must use TLS", alter("REQUIRE SSL"), right, nil, refused, refused},
		{"unknown database", nil, right, func(c *godriver.Config) { c.DBName = "nowhere" }, code{1044, "accepts"}, code{1044, "accepts"}},
		{"unknown database, all rights", func(t *testing.T, srv *mysqlserver.Server, name string, _ func(string) error) {
			admin(t, srv, "GRANT ALL ON *.* TO ?@'%'", name)
		}, right, func(c *godriver.Config) { c.DBName = "nowhere" }, code{1049, "accepts"}, code{1049, "accepts"}},
		{"unknown database, wrong password", nil, wrong, func(c *godriver.Config) { c.DBName = "nowhere" }, refused, refused},
		{"too many logins in an hour", func(t *testing.T, srv *mysqlserver.Server, name string, login func(string) error) {
			admin(t, srv, "ALTER USER ?@'%' WITH MAX_CONNECTIONS_PER_HOUR 1", name)
			if err := login(right); err != nil {
				t.Fatal(err)
			}
		}, right, nil, code{1226, "accepts"}, code{1226, "accepts"}},
		{"known by the socket", func(t *testing.T, srv *mysqlserver.Server, name string, _ func(string) error) {
			how := "IDENTIFIED VIA unix_socket"
			if srv.Kind() == mysqlserver.MySQL {
				// Installed twice, it says so.
				_, _ = srv.Admin().ExecContext(t.Context(), "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'")
				how = "IDENTIFIED WITH auth_socket"
			}
			admin(t, srv, "ALTER USER ?@'%' "+how, name)
		}, right, nil, code{1698, "refuses user"}, code{1698, "refuses user"}},
		{"expired", alter("PASSWORD EXPIRE"), right, nil, good, code{1862, "refuses user"}}, // MariaDB: at the first statement
		{"expired, a statement at the login", alter("PASSWORD EXPIRE"), right, func(c *godriver.Config) { c.MaxAllowedPacket = 0 }, code{1820, "refuses user"}, code{1862, "refuses user"}},
		{"expired, wrong password", alter("PASSWORD EXPIRE"), wrong, nil, refused, refused},
		{"locked", alter("ACCOUNT LOCK"), right, nil, code{4151, "locked out"}, code{3118, "locked out"}},
		{"locked, wrong password", alter("ACCOUNT LOCK"), wrong, nil, refused, refused},
		{"two failures of three", repeat(2), right, nil, good, good},
		{"the last failure before the lock", repeat(2), wrong, nil, refused, code{3955, "locked out"}}, // MySQL says it at once
		{"locked for failures", repeat(3), wrong, nil, code{4150, "locked out"}, code{3955, "locked out"}},
		{"locked for failures, right password", repeat(3), right, nil, code{4150, "locked out"}, code{3955, "locked out"}},
		{"locked for failures, then a new password", func(t *testing.T, srv *mysqlserver.Server, name string, login func(string) error) {
			repeat(3)(t, srv, name, login)
			if err := srv.SetPassword(t.Context(), name, "next"); err != nil {
				t.Fatal(err)
			}
		}, "next", nil, good, code{3955, "locked out"}},
	}
	servers := map[mysqlserver.Kind]*mysqlserver.Server{mysqlserver.MariaDB: limited(t), mysqlserver.MySQL: mysqld}
	for kind, srv := range servers {
		t.Run(string(kind), func(t *testing.T) {
			for _, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					name, _ := newUser(t, srv)
					if err := srv.SetPassword(t.Context(), name, right); err != nil {
						t.Fatal(err)
					}
					if kind == mysqlserver.MySQL {
						admin(t, srv, "ALTER USER ?@'%' FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 1", name)
					}
					login := func(password string, change func(*godriver.Config)) error {
						cfg := config(func(c *godriver.Config) {
							c.User, c.Passwd, c.Addr = name, password, net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port()))
							if change != nil {
								change(c)
							}
						})
						connector, err := godriver.NewConnector(cfg)
						if err != nil {
							t.Fatal(err)
						}
						conn, err := connector.Connect(t.Context())
						if err == nil {
							_ = conn.Close()
						}
						return err
					}
					if test.prepare != nil {
						test.prepare(t, srv, name, func(password string) error { return login(password, nil) })
					}
					err := login(test.password, test.change)
					want := test.mariadb
					if kind == mysqlserver.MySQL {
						want = test.mysql
					}
					got := code{says: says(err)}
					if own, ok := errors.AsType[*godriver.MySQLError](err); ok {
						got.number = own.Number
					}
					if got != want || (err != nil) != (want.number != 0) {
						t.Errorf("%v: got %+v, want %+v", err, got, want)
					}
					if errors.Is(err, driver.ErrBadConn) {
						t.Errorf("%v is a bad connection to database/sql, which would log in three times", err)
					}
				})
			}
		})
	}
}

func TestCodesWithoutServers(t *testing.T) {
	refusal := &godriver.MySQLError{Number: 1045}
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("access denied"), ""},
		{context.DeadlineExceeded, ""},
		{driver.ErrBadConn, ""},
		{godriver.ErrNativePassword, ""},
		{godriver.ErrInvalidConn, ""},
		{fmt.Errorf("wrapped: %w", refusal), "refused"},
		{&godriver.MySQLError{Number: 1040, Message: "Access denied, error 1045"}, ""},
		{&godriver.MySQLError{Number: 1129}, ""},
		{&godriver.MySQLError{Number: 1130}, ""},
		{&godriver.MySQLError{Number: 1203}, "accepts"},
		{&godriver.MySQLError{Number: 3159}, ""},
		{fmt.Errorf("wrapped: %w", &godriver.MySQLError{Number: 3955}), "locked out"},
	} {
		if got := says(test.err); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}

// says tells what is made of an error.
func says(err error) string {
	var all []string
	for what, is := range map[string]func(error) bool{
		"refused": mysql.Refused, "refuses user": mysql.RefusesUser, "locked out": mysql.LockedOut, "accepts": mysql.Accepts,
	} {
		if is(err) {
			all = append(all, what)
		}
	}
	return strings.Join(all, " and ")
}
