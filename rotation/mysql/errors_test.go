package mysql_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// What a value must have, what it may have, and what the errors say.
func TestSecret(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		f := newFixture(t, srv, ways[0], "", "first")
		for _, test := range []struct {
			name string
			more map[string]any
			want string // "": it logs in
		}{
			{"as it is", nil, ""},
			{"port as string", map[string]any{"port": fmt.Sprint(srv.Port())}, ""},
			{"dbname", map[string]any{"dbname": f.database()}, ""},
			{"dbname null", map[string]any{"dbname": nil, "engine": nil}, ""},
			{"Aurora", map[string]any{"engine": "Aurora-MySQL"}, ""},
			{"other keys", map[string]any{"Password": "another", "x": []int{1}}, ""},
			{"host missing", map[string]any{"host": nil}, `no "host"`},
			{"host empty", map[string]any{"host": ""}, `"host" is empty`},
			{"username missing", map[string]any{"username": nil}, `no "username"`},
			{"username with NUL", map[string]any{"username": f.user + "\x00x"}, `"username" has a NUL`},
			{"password missing", map[string]any{"password": nil, "Password": "first"}, `no "password"`},
			{"password a number", map[string]any{"password": 4711}, `"password" is not a string`},
			{"password with NUL", map[string]any{"password": "first\x00x"}, `"password" has a NUL`},
			{"password too long", map[string]any{"password": strings.Repeat("4711", 64)}, "more than 255 bytes"},
			{"port too high", map[string]any{"port": 70000}, `"port" is not a number from 1 to 65535`},
			{"port in words", map[string]any{"port": "the usual"}, `"port" is not a number`},
			{"engine not a string", map[string]any{"engine": 8}, `"engine" is not a string`},
			{"another engine", map[string]any{"engine": "postgres"}, `"engine" is not mysql`},
			{"no such database", map[string]any{"dbname": "nowhere"}, `"dbname"`},
		} {
			t.Run(test.name, func(t *testing.T) {
				err := mysql.NewTarget(nil).Test(t.Context(), rotation.NewValue(secret(srv, f.user, "first", test.more)))
				switch {
				case test.want == "" && err != nil:
					t.Errorf("Test = %v", err)
				case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
					t.Errorf("Test = %v, want %q", err, test.want)
				case err != nil && strings.Contains(err.Error(), "4711"):
					t.Errorf("the error quotes the password: %v", err)
				}
			})
		}
		for _, text := range []string{"not JSON, a hidden password", `["hidden"]`, "null"} {
			if err := mysql.NewTarget(nil).Test(t.Context(), rotation.NewValue(text)); err == nil || strings.Contains(err.Error(), "hidden") {
				t.Errorf("Test of %s = %v", text, err)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	base := map[string]any{"host": "db", "port": 3306, "x": 1, "replicas": []string{"a"}}
	current := rotation.NewValue(secret(mysqld, "app", "first", base))
	for _, test := range []struct {
		name        string
		more        map[string]any
		single      string
		alternating string
	}{
		{"same", nil, "", `another user: "app", not "app_clone"`},
		{"partner", map[string]any{"username": "app_clone"}, `another user: "app_clone", not "app"`, ""},
		{"port as string", map[string]any{"port": "3306", "username": "app_clone"}, `another user: "app_clone", not "app"`, ""},
		{"other replicas", map[string]any{"replicas": []string{"b"}}, "", `another user: "app", not "app_clone"`},
		{"host", map[string]any{"host": "evil"}, "another server: evil:3306, not db:3306", `another user: "app", not "app_clone"`},
		{"port", map[string]any{"port": 3307, "username": "app_clone"}, `another user: "app_clone", not "app"`, "another server: db:3307, not db:3306"},
		{"a key that was edited", map[string]any{"x": 2}, `the key "x" is not the same`, `another user: "app", not "app_clone"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			more := map[string]any{}
			for _, m := range []map[string]any{base, test.more} {
				maps.Copy(more, m)
			}
			pending := rotation.NewValue(secret(mysqld, "app", "second", more))
			for strategy, want := range map[mysql.Strategy]string{
				mysql.SingleUser: test.single, mysql.SingleUserBySuperuser: test.single, mysql.AlternatingUsers: test.alternating,
			} {
				target := mysql.NewTarget(&mysql.Options{Strategy: strategy, DialFunc: func(context.Context, string, string) (net.Conn, error) {
					t.Error("dialled")
					return nil, errors.New("no")
				}})
				err := target.Check(current, pending)
				if (err == nil) != (want == "") || err != nil && err.Error() != want {
					t.Errorf("Check = %v, want %q", err, want)
				}
				if want == "" {
					continue
				}
				// Set does not dial either.
				if err := target.Set(t.Context(), rotation.Change{Current: current, Pending: pending, As: current}); err == nil || err.Error() != want {
					t.Errorf("Set = %v, want %q", err, want)
				}
			}
		})
	}
}

// The names of alternating users.
func TestNext(t *testing.T) {
	for _, test := range []struct {
		engine, suffix, user, want string // want "": an error
	}{
		{"mysql", "", "app", "app_clone"},
		{"mysql", "", "app_clone", "app"},
		{"mysql", "", "app_clone_clone", "app_clone"},
		{"mysql", "2", "app", "app2"},
		{"mysql", "2", "app2", "app"},
		{"mysql", "", strings.Repeat("n", 26), strings.Repeat("n", 26) + "_clone"},
		{"mysql", "", strings.Repeat("ñ", 26), strings.Repeat("ñ", 26) + "_clone"},
		{"mysql", "", strings.Repeat("n", 27), ""},
		{"aurora-mysql", "", strings.Repeat("n", 27), ""},
		{"mariadb", "", strings.Repeat("n", 27), strings.Repeat("n", 27) + "_clone"},
		{"mariadb", "", strings.Repeat("n", 123), ""},
		{"mysql", "", "_clone", ""},
	} {
		target := mysql.NewTarget(&mysql.Options{Strategy: mysql.AlternatingUsers, Suffix: test.suffix})
		current := rotation.NewValue(secret(mysqld, test.user, "first", map[string]any{"engine": test.engine}))
		next, err := target.Next(current, rotation.NewValue("second"))
		if err != nil {
			if test.want != "" {
				t.Errorf("Next(%q) = %v", test.user, err)
			}
			continue
		}
		var l login
		if err := next.Decode(&l); err != nil || l != (login{test.want, "second"}) {
			t.Errorf("Next(%q) = %+v, %v, want %q", test.user, l, err, test.want)
		}
	}
}

// However an error comes about, and however it is printed, it does not show the
// password.
func TestErrorsHoldNoPassword(t *testing.T) {
	const password = "hunter2-is-secret"
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by backlog, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		f := newFixture(t, srv, ways[0], "", "first")
		for _, test := range []struct {
			name    string
			ctx     context.Context
			more    map[string]any
			refused bool
			number  uint16
			timeout time.Duration
		}{
			{"wrong password", t.Context(), nil, true, 1045, 0},
			{"no such user", t.Context(), map[string]any{"username": "nobody"}, true, 1045, 0},
			{"no server", t.Context(), map[string]any{"port": 1}, false, 0, 0},
			{"silent server", t.Context(), map[string]any{"port": silent.Addr().(*net.TCPAddr).Port}, false, 0, 200 * time.Millisecond},
			{"no TLS", t.Context(), map[string]any{"ssl": true}, false, 0, 0},
			{"cancelled", cancelled, nil, false, 0, 0},
		} {
			t.Run(test.name, func(t *testing.T) {
				target := mysql.NewTarget(&mysql.Options{ConnectTimeout: test.timeout})
				value := rotation.NewValue(secret(srv, f.user, password, test.more))
				c := rotation.Change{Current: value, Pending: value, As: value}
				for i, err := range []error{target.Test(test.ctx, value), target.Set(test.ctx, c), target.Finish(test.ctx, c)} {
					if err == nil {
						t.Fatal("no error")
					}
					if got := errors.Is(err, rotation.ErrRefused); got != test.refused {
						t.Errorf("refused = %t, want %t: %v", got, test.refused, err)
					}
					number := uint16(0)
					if e, ok := errors.AsType[*driver.MySQLError](err); ok {
						number = e.Number
					}
					if number != test.number {
						t.Errorf("error %d, want %d: %v", number, test.number, err)
					}
					if test.ctx.Err() != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("the context's error is not wrapped: %v", err)
					}
					if i == 0 || test.refused { // in every way there is, which takes its time
						leaktest.Check(t, password, err)
					}
					walk(err, func(err error) {
						if text := fmt.Sprintf("%+v %#v", err, err); strings.Contains(text, password) {
							t.Errorf("the password is in %s", text)
						}
					})
				}
			})
		}
	})
}

// walk visits all errors that err wraps.
func walk(err error, visit func(error)) {
	if err == nil {
		return
	}
	visit(err)
	switch e := err.(type) { //nolint:errorlint // the tree itself is walked
	case interface{ Unwrap() error }:
		walk(e.Unwrap(), visit)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			walk(err, visit)
		}
	}
}

// A server quotes the statement that it does not understand, with what is in it.
// That goes no further.
func TestStatementIsNotQuoted(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", "first-is-secret")
		opts := f.options()
		opts.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return garbled{conn}, err
		}
		token := f.begin()
		err := run(t.Context(), f.handler(opts), token, steps...)
		e, ok := errors.AsType[*driver.MySQLError](err)
		if !ok || e.Number != 1064 || !strings.Contains(err.Error(), "not shown") {
			t.Fatalf("Handle, with garbled statements = %v, want error 1064 without its text", err)
		}
		walk(err, func(err error) {
			for _, secret := range []string{f.version("AWSPENDING").Password, "first-is-secret", "$A$", "'*", "near '"} {
				if text := fmt.Sprintf("%+v %#v", err, err); strings.Contains(text, secret) {
					t.Errorf("the error quotes the statement: %s", text)
				}
			}
		})
	})
}

// garbled makes statements with passwords ones that no server understands.
type garbled struct{ net.Conn }

func (c garbled) Write(b []byte) (int, error) {
	const query = 3
	if len(b) > 5 && b[3] == 0 && b[4] == query {
		garbled := bytes.Clone(b)
		for _, word := range []string{"IDENTIFIED", "SET PASSWORD"} {
			if bytes.Contains(garbled, []byte("'")) {
				garbled = bytes.ReplaceAll(garbled, []byte(word), []byte(strings.ToLower(word[:len(word)-1])+"X"))
			}
		}
		b = garbled
	}
	return c.Conn.Write(b)
}
