package mysql_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// dual are the ways in which the server holds two passwords of one user.
var dual = []way{ways[0], ways[2]}

func eachDual(t *testing.T, f func(*testing.T, *fixture)) {
	t.Helper()
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		for _, w := range dual {
			t.Run(w.name, func(t *testing.T) { f(t, newFixture(t, srv, w, "", "first")) })
		}
	})
}

// change is what the handler would hand to the target.
func (f *fixture) change(current, pending string) rotation.Change {
	c := rotation.Change{
		Current: rotation.NewValue(f.secret(f.user, current)),
		Pending: rotation.NewValue(f.secret(f.user, pending)),
	}
	c.As = c.Current
	if f.way.strategy != mysql.SingleUser {
		c.As = f.superuser()
	}
	return c
}

func (f *fixture) set(current, pending string) {
	f.t.Helper()
	if err := mysql.NewTarget(f.options()).Set(f.t.Context(), f.change(current, pending)); err != nil {
		f.t.Fatal(err)
	}
}

// finish acts as the new version, as finishSecret does.
func (f *fixture) finish(old, is string) {
	f.t.Helper()
	c := f.change(old, is)
	if f.way.strategy == mysql.SingleUser {
		c.As = c.Pending
	}
	if err := mysql.NewTarget(f.options()).Finish(f.t.Context(), c); err != nil {
		f.t.Fatal(err)
	}
}

// check checks which passwords the server takes, and that it takes none of the
// others that there were.
func (f *fixture) check(want ...string) {
	f.t.Helper()
	var got []string
	for _, password := range []string{"first", "second", "third", "fourth"} {
		if f.logsIn(login{f.user, password}) {
			got = append(got, password)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		f.t.Errorf("the server takes %q, want %q", got, want)
	}
}

func TestTwoPasswords(t *testing.T) {
	eachDual(t, func(_ *testing.T, f *fixture) {
		f.set("first", "second")
		f.check("first", "second")
		f.finish("first", "second")
		f.check("second")
		f.finish("first", "second")
		f.check("second")
		f.set("second", "third")
		f.check("second", "third")
	})
}

// The second time would retain the new password and lose the old one. So it does
// nothing, not even set the same again, which would refuse the new for a moment.
func TestSetTwice(t *testing.T) {
	eachDual(t, func(t *testing.T, f *fixture) {
		f.set("first", "second")
		users := f.allUsers()
		for range 2 {
			f.set("first", "second")
			f.check("first", "second")
			if got := f.allUsers(); got != users {
				t.Errorf("the user has changed from\n%s\nto\n%s", users, got)
			}
		}
	})
}

// Two calls for one user, or for its partner, are not at work at once.
func TestLock(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", "first")
		target := mysql.NewTarget(f.options())
		pending, err := target.Next(f.value("AWSCURRENT"), rotation.NewValue("second"))
		if err != nil {
			t.Fatal(err)
		}
		c := f.change("first", "second")
		c.Pending = pending

		other, err := srv.Admin().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, err := other.ExecContext(t.Context(), "DO "+mysql.LockFunction(f.user)); err != nil {
			t.Fatal(err)
		}
		users := f.allUsers()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := target.Set(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Set, while another call has the lock = %v, want the context's error", err)
		}
		if got := f.allUsers(); got != users {
			t.Errorf("users have changed from\n%s\nto\n%s", users, got)
		}
		if _, err := other.ExecContext(t.Context(), "DO RELEASE_ALL_LOCKS()"); err != nil {
			t.Fatal(err)
		}
		if err := target.Set(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}

// A rotation is given up after setSecret. The next one finds AWSCURRENT to be the
// older of two passwords, and must not lose it.
func TestSetAfterGivenUp(t *testing.T) {
	eachDual(t, func(_ *testing.T, f *fixture) {
		f.set("first", "second")
		f.set("first", "third")
		f.check("first", "third")
		f.finish("first", "third")
		f.check("third")
	})
}

// finishSecret comes late, when the next rotation has set its password.
func TestFinishLate(t *testing.T) {
	eachDual(t, func(_ *testing.T, f *fixture) {
		f.set("first", "second")
		f.set("second", "third")
		f.check("second", "third")
		f.finish("first", "second")
		f.check("second", "third")
	})
}

// An administrator has moved AWSCURRENT back, and finishSecret comes once more: the
// password of AWSCURRENT is the older of two.
func TestFinishAfterRollback(t *testing.T) {
	eachDual(t, func(_ *testing.T, f *fixture) {
		f.set("first", "second")
		f.finish("second", "first")
		for _, password := range []string{"first"} {
			if !f.logsIn(login{f.user, password}) {
				f.t.Error("AWSCURRENT is refused")
			}
		}
	})
}

// The user changes its password under rules of the server's, by which the same one
// may not be set again.
func TestPasswordPolicies(t *testing.T) {
	for _, w := range []way{ways[0], ways[1], ways[2], ways[3]} {
		t.Run(w.name, func(t *testing.T) {
			f := newFixture(t, mysqld, w, "", "first")
			f.admin("ALTER USER ?@'%' PASSWORD HISTORY 5 PASSWORD REQUIRE CURRENT PASSWORD REUSE INTERVAL 3 DAY "+
				"FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 PASSWORD EXPIRE INTERVAL 90 DAY", f.user)
			h := f.handler(nil)
			for range 4 {
				before := f.version("AWSCURRENT")
				token := f.begin()
				for _, step := range steps {
					if err := run(t.Context(), h, token, step, step); err != nil {
						t.Fatal(err)
					}
				}
				f.checkRotated(before)
			}
		})
	}
}

// Where the server has room for one password alone, or the user may not use it,
// that is said.
func TestWindowIsLogged(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", "first")
		var log bytes.Buffer
		opts := f.options()
		opts.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		h := f.handler(opts)
		for range 2 {
			if err := f.rotate(h); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Count(log.String(), "AWSCURRENT is refused until the rotation is over"); got > 0 == f.keepsOld() {
			t.Errorf("%d lines say that AWSCURRENT is refused; it is kept: %t\n%s", got, f.keepsOld(), &log)
		}
		for _, stage := range []string{"AWSCURRENT", "AWSPREVIOUS"} {
			if password := f.version(stage).Password; strings.Contains(log.String(), password) {
				t.Error("a password is in the log")
			}
		}
	})
}
