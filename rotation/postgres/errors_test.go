package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

// What a value must have, what it may have, and what the errors say.
func TestSecret(t *testing.T) {
	user := newUser(t, server, "", "first")
	for _, test := range []struct {
		name string
		more map[string]any
		want string // "": it logs in
	}{
		{"as it is", nil, ""},
		{"port as string", map[string]any{"port": fmt.Sprint(server.Port())}, ""},
		{"dbname missing", map[string]any{"dbname": nil}, ""},
		{"engine null", map[string]any{"engine": nil}, ""},
		{"Aurora", map[string]any{"engine": "Aurora-PostgreSQL"}, ""},
		{"engine not a string", map[string]any{"engine": 8}, `"engine" is not a string`},
		{"another engine", map[string]any{"engine": "mysql"}, `"engine" is not postgres`},
		{"other keys", map[string]any{"Password": "another", "x": []int{1}}, ""},
		{"host missing", map[string]any{"host": nil}, `no "host"`},
		{"host empty", map[string]any{"host": ""}, `"host" is empty`},
		{"host a list", map[string]any{"host": "127.0.0.1,127.0.0.2"}, `"host" is a list`},
		{"username missing", map[string]any{"username": nil}, `no "username"`},
		{"username with NUL", map[string]any{"username": user + "\x00x"}, `"username" has a NUL`},
		{"password missing", map[string]any{"password": nil, "Password": "first"}, `no "password"`},
		{"password a number", map[string]any{"password": 4711}, `"password" is not a string`},
		{"port too high", map[string]any{"port": 70000}, `"port" is not a number from 1 to 65535`},
		{"port in words", map[string]any{"port": "the usual"}, `"port" is not a number`},
		{"no such database", map[string]any{"dbname": "nowhere"}, "3D000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := postgres.NewTarget(nil).Test(t.Context(), rotation.NewValue(secret(server, user, "first", test.more)))
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
	if err := postgres.NewTarget(nil).Test(t.Context(), rotation.NewValue("not JSON, a hidden password")); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("Test of a value that is not JSON = %v", err)
	}
}

func TestCheck(t *testing.T) {
	base := map[string]any{"host": "db", "port": 5432}
	current := rotation.NewValue(secret(server, "app", "first", base))
	for _, test := range []struct {
		name string
		more map[string]any
		want string
	}{
		{"same", map[string]any{"host": "db", "port": "5432"}, ""},
		{"default port", map[string]any{"host": "db", "port": nil}, ""},
		{"user", map[string]any{"host": "db", "port": 5432, "username": "root"}, `another user: "root", not "app"`},
		{"host", map[string]any{"host": "evil", "port": 5432}, "another server: evil:5432, not db:5432"},
		{"port", map[string]any{"host": "db", "port": 5433}, "another server: db:5433, not db:5432"},
		{"another key", map[string]any{"host": "db", "port": 5432, "dbname": "other"}, `the key "dbname" is not the same`},
		{"a new key", map[string]any{"host": "db", "port": 5432, "added": true}, `the key "added" is not the same`},
		{"replicas", map[string]any{"host": "db", "port": 5432, "replicas": []string{"r"}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			pending := rotation.NewValue(secret(server, "app", "second", test.more))
			err := postgres.NewTarget(nil).Check(current, pending)
			if (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
				t.Errorf("Check = %v, want %q", err, test.want)
			}
			if test.want == "" {
				return
			}
			// Set does not dial either.
			target := postgres.NewTarget(&postgres.Options{DialFunc: func(context.Context, string, string) (net.Conn, error) {
				t.Error("dialled")
				return nil, errors.New("no")
			}})
			if err := target.Set(t.Context(), rotation.Change{Current: current, Pending: pending, As: current}); err == nil || err.Error() != test.want {
				t.Errorf("Set = %v, want %q", err, test.want)
			}
		})
	}
}

// However an error comes about, and however it is printed, it does not show the
// password; pgx's own carries it.
func TestErrorsHoldNoPassword(t *testing.T) {
	const password = "hunter2-is-secret"
	user := newUser(t, server, "", "first")
	// Nothing listens where a listener has been closed.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by backlog, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()

	for _, test := range []struct {
		name    string
		ctx     context.Context
		more    map[string]any
		refused bool
		state   string
		timeout time.Duration
	}{
		{"wrong password", t.Context(), nil, true, "28P01", 0},
		{"no such user", t.Context(), map[string]any{"username": "nobody"}, true, "28P01", 0},
		{"no server", t.Context(), map[string]any{"port": nobody}, false, "", 0},
		{"silent server", t.Context(), map[string]any{"port": silent.Addr().(*net.TCPAddr).Port}, false, "", 200 * time.Millisecond},
		{"no TLS", t.Context(), map[string]any{"ssl": true}, false, "", 0},
		{"cancelled", cancelled, nil, false, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := postgres.NewTarget(&postgres.Options{ConnectTimeout: test.timeout})
			value := rotation.NewValue(secret(server, user, password, test.more))
			for _, err := range []error{target.Test(test.ctx, value), target.Set(test.ctx, rotation.Change{Current: value, Pending: value, As: value})} {
				if err == nil {
					t.Fatal("no error")
				}
				if got := errors.Is(err, rotation.ErrRefused); got != test.refused {
					t.Errorf("refused = %t, want %t: %v", got, test.refused, err)
				}
				state := ""
				if e, ok := errors.AsType[*pgconn.PgError](err); ok {
					state = e.Code
				}
				if state != test.state {
					t.Errorf("SQLSTATE %q, want %q", state, test.state)
				}
				if test.ctx.Err() != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("the context's error is not wrapped: %v", err)
				}
				walk(err, func(err error) { leaktest.Check(t, password, err) })
			}
		})
	}
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
