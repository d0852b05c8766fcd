package mysql_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

func TestRotation(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		for _, test := range []struct{ name, user, password string }{
			{"plain", "", "first"},
			{"user to be quoted", "O'D \"u`\\", "first"},
			{"old password to be quoted", "", "p'a\"s\\s` w%o$r$d?"},
			{"old password not ASCII", "", "pässwörd"},
		} {
			t.Run(test.name, func(t *testing.T) {
				f := newFixture(t, srv, w, test.user, test.password)
				h := f.handler(nil)
				before := login{f.user, test.password}
				for range 3 {
					if err := f.rotate(h); err != nil {
						t.Fatal(err)
					}
					f.checkRotated(before)
					if got := f.version("AWSPREVIOUS"); got != before {
						t.Error("AWSPREVIOUS is not what AWSCURRENT was")
					}
					before = f.version("AWSCURRENT")
				}
			})
		}
	})
}

// Passwords that somebody has put into AWSPENDING.
func TestPasswords(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", "first")
		target := mysql.NewTarget(f.options())
		current := f.value("AWSCURRENT")
		for _, password := range []string{
			`it's`, `"q"`, `back\slash\`, `\'`, `a b `, ` a`, `100%s%`, `$1?`, `';DROP USER x;--`, "päßwörd", "日本語", "new\nline\ttab", strings.Repeat("long", 45),
		} {
			next, err := target.Next(current, rotation.NewValue(password))
			if err != nil {
				t.Fatal(err)
			}
			c := rotation.Change{Current: current, Pending: next, As: current}
			if w.strategy != mysql.SingleUser {
				c.As = f.superuser()
			}
			if err := target.Set(t.Context(), c); err != nil {
				t.Fatalf("%q: %v", password, err)
			}
			var l login
			if err := next.Decode(&l); err != nil {
				t.Fatal(err)
			}
			if l.Password != password || !f.logsIn(l) {
				t.Errorf("the server refuses %q", password)
			}
			if err := target.Test(t.Context(), next); err != nil {
				t.Error(err)
			}
			if c.As == current {
				c.As = next
			}
			if err := target.Finish(t.Context(), c); err != nil {
				t.Errorf("%q: %v", password, err)
			}
			current = next
		}
	})
}

// Killed between two steps, and each step twice.
func TestRepeated(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", "first")
		h := f.handler(nil)
		for stop := range len(steps) + 1 {
			before := f.version("AWSCURRENT")
			token := f.begin()
			if err := run(t.Context(), h, token, steps[:stop]...); err != nil {
				t.Fatal(err)
			}
			if stop > 0 {
				if err := run(t.Context(), h, token, steps[stop-1]); err != nil {
					t.Fatal(err)
				}
			}
			if err := run(t.Context(), h, token, steps...); err != nil {
				t.Fatalf("killed after %q: %v", steps[:stop], err)
			}
			f.checkRotated(before)
		}
	})
}

// The same event delivered several times at once, step by step and all through.
func TestConcurrent(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", "first")
		h := f.handler(nil)
		for _, calls := range [][][]string{{steps[:1], steps[1:2], steps[2:3], steps[3:]}, {steps}, {steps[:2], steps}} {
			before := f.version("AWSCURRENT")
			token := f.begin()
			for _, together := range calls {
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if err := run(t.Context(), h, token, together...); err != nil {
							t.Errorf("%q at once: %v", together, err)
						}
					})
				}
				wg.Wait()
			}
			f.checkRotated(before)
		}
	})
}

// With every statement logged in every log there is, no password is in one, in
// any coding that it might have there.
func TestServerLogs(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", `first'one`)
		h := f.handler(nil)
		var passwords []string
		for range 3 {
			if err := f.rotate(h); err != nil {
				t.Fatal(err)
			}
			passwords = append(passwords, f.version("AWSCURRENT").Password)
		}
		// A statement that fails is logged too.
		f.admin("SET GLOBAL read_only = ON")
		token := f.begin()
		err := run(t.Context(), h, token, steps[:2]...)
		f.admin("SET GLOBAL read_only = OFF")
		if err == nil {
			t.Fatal("the password was set on a server that is read-only")
		}
		passwords = append(passwords, f.version("AWSPENDING").Password)
		if w.strategy == mysql.SingleUser && srv.Kind() == mysqlserver.MySQL {
			// So is one whose REPLACE is wrong.
			f.admin("ALTER USER ?@'%' IDENTIFIED BY 'by hand' RETAIN CURRENT PASSWORD", f.user)
			if err := run(t.Context(), h, token, steps...); err != nil {
				t.Fatal(err)
			}
		}

		f.admin("FLUSH LOGS")
		log, err := srv.Log()
		if err != nil {
			t.Fatal(err)
		}
		general := dataFile(t, srv, "general.log")
		if !strings.Contains(general, "ALTER USER") || !strings.Contains(general, f.user) {
			t.Error("the log has none of the statements, so it cannot tell")
		}
		for name, text := range map[string]string{
			"error": log, "general": general, "slow": dataFile(t, srv, "slow.log"), "binary": dataFile(t, srv, "binlog.*"),
		} {
			for _, password := range passwords {
				for _, coded := range []string{
					password, strings.ReplaceAll(password, "'", "''"), strings.ReplaceAll(password, "'", `\'`),
					url.QueryEscape(password), base64.StdEncoding.EncodeToString([]byte(password)), hex.EncodeToString([]byte(password)),
				} {
					if strings.Contains(text, coded) {
						t.Errorf("a password is in the server's %s log", name)
					}
				}
			}
		}
	})
}

// A server that does not answer is no server that refuses.
func TestServerDown(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		f := newFixture(t, srv, w, "", "first")
		opts := f.options()
		down := false
		opts.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if down {
				addr = "127.0.0.1:1"
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		h := f.handler(opts)
		token := f.begin()
		if err := run(t.Context(), h, token, steps[0]); err != nil {
			t.Fatal(err)
		}
		down = true
		for _, step := range steps[1:] {
			err := run(t.Context(), h, token, step)
			if err == nil || errors.Is(err, rotation.ErrRefused) || !strings.Contains(err.Error(), "no verdict") {
				t.Errorf("%s, the server being down: %v, want an error that says no verdict", step, err)
			}
			if _, ok := errors.AsType[*net.OpError](err); !ok {
				t.Errorf("%s: the network's error is not wrapped: %v", step, err)
			}
		}
		down = false
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Error(err)
		}
	})
}
