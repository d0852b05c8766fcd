package postgres_test

import (
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

func TestRotation(t *testing.T) {
	for _, test := range []struct{ name, user, password string }{
		{"plain", "", "first"},
		{"user to be quoted", `O'Dd "us;er\`, "first"},
		{"old password to be quoted", "", `p'a"s\s w%o$r$d`},
		{"old password not ASCII", "", "pässwörd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, test.user, test.password)
			h := f.handler(nil)
			before := test.password
			for range 2 {
				if err := f.rotate(h); err != nil {
					t.Fatal(err)
				}
				f.checkRotated(before)
				if got := f.password("AWSPREVIOUS"); got != before {
					t.Error("AWSPREVIOUS is not the password from before")
				}
				before = f.password("AWSCURRENT")
			}
		})
	}
}

// Passwords that somebody has put into AWSPENDING.
func TestPasswords(t *testing.T) {
	for _, password := range []string{`it's`, `"q"`, `back\slash\`, `a b `, `100%s%`, `$1`, `';DROP ROLE x;--`, strings.Repeat("long", 200)} {
		t.Run(password[:min(3, len(password))], func(t *testing.T) {
			f := newFixture(t, "", "first")
			h := f.handler(nil)
			target := postgres.NewTarget(nil)
			current := rotation.NewValue(secret(server, f.user, "first", nil))
			pending, err := current.With("password", password)
			if err != nil {
				t.Fatal(err)
			}
			if err := target.Set(t.Context(), rotation.Change{Current: current, Pending: pending, As: current}); err != nil {
				t.Fatal(err)
			}
			if !f.logsIn(password) {
				t.Error("the server refuses the password")
			}
			if err := target.Test(t.Context(), pending); err != nil {
				t.Error(err)
			}
			// And from it to the next.
			f.Put(secretName, pending.Text())
			if err := f.rotate(h); err != nil {
				t.Fatal(err)
			}
			f.checkRotated(password)
		})
	}
}

func TestPasswordNotASCII(t *testing.T) {
	f := newFixture(t, "", "first")
	for _, password := range []string{"pässword", "tab\there", "del\x7f"} {
		current := rotation.NewValue(secret(server, f.user, "first", nil))
		pending := rotation.NewValue(secret(server, f.user, password, nil))
		err := postgres.NewTarget(nil).Set(t.Context(), rotation.Change{Current: current, Pending: pending, As: current})
		if err == nil || !strings.Contains(err.Error(), "printable ASCII") || strings.Contains(err.Error(), password) {
			t.Errorf("Set(%q) = %v, want an error that says printable ASCII", password, err)
		}
	}
	if !f.logsIn("first") {
		t.Error("the password has changed")
	}
}

// What the server stores is what it would have made of the password itself.
func TestPasswordEncryption(t *testing.T) {
	for _, test := range []struct {
		name     string
		since    int // server_version_num
		settings []string
		prefix   string
	}{
		{"scram-sha-256", 0, []string{"password_encryption = 'scram-sha-256'"}, "SCRAM-SHA-256$4096:"},
		{"iterations", 160000, []string{"password_encryption = 'scram-sha-256'", "scram_iterations = 4711"}, "SCRAM-SHA-256$4711:"},
		{"md5", 0, []string{"password_encryption = 'md5'"}, "md5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if ask[int](t, server, "postgres", "SELECT current_setting('server_version_num')::int") < test.since {
				t.Skip("the server is older than the setting")
			}
			f := newFixture(t, "", "first")
			for _, setting := range test.settings {
				admin(t, server, "postgres", "ALTER ROLE "+quoted(f.user)+" SET "+setting)
			}
			current := rotation.NewValue(secret(server, f.user, "first", nil))
			pending := rotation.NewValue(secret(server, f.user, "second", nil))
			if err := postgres.NewTarget(nil).Set(t.Context(), rotation.Change{Current: current, Pending: pending, As: current}); err != nil {
				t.Fatal(err)
			}
			stored := ask[string](t, server, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = $1", f.user)
			if !strings.HasPrefix(stored, test.prefix) {
				t.Errorf("the server stores %.20q..., want %q", stored, test.prefix)
			}
			if test.name == "md5" {
				// pg_hba.conf asks for SCRAM here, which such a user cannot do.
				if want := "md5" + md5Hex("second"+f.user); stored != want {
					t.Errorf("the server stores %q, want %q", stored, want)
				}
			} else if !f.logsIn("second") {
				t.Error("the server refuses the password")
			}
		})
	}
}

// Killed between two steps, and each step twice.
func TestRepeated(t *testing.T) {
	f := newFixture(t, "", "first")
	h := f.handler(nil)
	for stop := range len(steps) + 1 {
		before := f.password("AWSCURRENT")
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
}

// The same event delivered twice at once: both changes would meet in the server's
// catalog, which lets one of them fail.
func TestConcurrent(t *testing.T) {
	for name, strategy := range strategies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newPair(t, "")
			h := f.handler(&postgres.Options{Strategy: strategy})
			for range 4 {
				before := f.value("AWSCURRENT")
				token := f.begin()
				for _, together := range [][]string{steps[:1], steps[1:2], steps[2:3], steps[3:], steps} {
					var wg sync.WaitGroup
					for range 3 {
						wg.Go(func() {
							if err := run(t.Context(), h, token, together...); err != nil {
								t.Error(err)
							}
						})
					}
					wg.Wait()
				}
				if f.value("AWSCURRENT") == before {
					t.Error("AWSCURRENT is what it was")
				}
				if err := f.as("AWSCURRENT"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Calls that overlap wait for each other, instead of one of them failing on what
// the other has changed.
func TestSetOverlaps(t *testing.T) {
	for range 5 {
		f := newPair(t, "")
		target := postgres.NewTarget(&postgres.Options{Strategy: postgres.AlternatingUsers})
		current := rotation.NewValue(f.text("AWSCURRENT"))
		pending, err := target.Next(current, rotation.NewValue("second"))
		if err != nil {
			t.Fatal(err)
		}
		c := rotation.Change{Current: current, Pending: pending, As: rotation.NewValue(masterValue(f.user))}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := target.Set(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// With log_statement=all, no password is in the server's log, in any coding that
// it might have there.
func TestServerLog(t *testing.T) {
	for name, strategy := range strategies {
		t.Run(name, func(t *testing.T) {
			f := newPair(t, "")
			h := f.handler(&postgres.Options{Strategy: strategy})
			passwords := []string{}
			for range 3 {
				if err := f.rotate(h); err != nil {
					t.Fatal(err)
				}
				passwords = append(passwords, f.password("AWSCURRENT"))
			}
			// A statement that fails is logged too.
			who := "$base"
			if strategy != postgres.SingleUser {
				who = "$master"
			}
			admin(t, server, "postgres", f.names("ALTER ROLE "+who+" SET default_transaction_read_only = on")...)
			if err := run(t.Context(), h, f.begin(), steps[:2]...); err == nil {
				t.Fatal("the password was set in a read-only transaction")
			}
			passwords = append(passwords, f.password("AWSPENDING"))

			log, err := server.Log()
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(log, "ALTER ROLE \""+f.user) - strings.Count(log, "ALTER ROLE \""+f.user+"_clone\" SET"); n < 3 {
				t.Errorf("the log has %d of the statements, so it cannot tell", n)
			}
			for _, password := range passwords {
				for _, coded := range []string{
					password, strings.ReplaceAll(password, "'", "''"), url.QueryEscape(password),
					base64.StdEncoding.EncodeToString([]byte(password)),
				} {
					if strings.Contains(log, coded) {
						t.Error("a password is in the server's log")
					}
				}
			}
		})
	}
}

// A server that does not answer is no server that refuses: AWSPREVIOUS is not
// tried, and nothing is called a wrong password.
func TestServerDown(t *testing.T) {
	own, err := pgserver.Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Stop() }()
	f := newFixture(t, "", "first")
	f.user = newUser(t, own, "", "first")
	f.Put(secretName, secret(own, f.user, "first", nil))
	h := f.handler(nil)
	token := f.begin()
	if err := run(t.Context(), h, token, steps[0]); err != nil {
		t.Fatal(err)
	}
	if err := own.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps[1:3] {
		err := run(t.Context(), h, token, step)
		if err == nil || errors.Is(err, rotation.ErrRefused) || !strings.Contains(err.Error(), "no verdict") {
			t.Errorf("%s, the server being down: %v, want an error that says no verdict", step, err)
		}
		if _, ok := errors.AsType[*net.OpError](err); !ok {
			t.Errorf("%s: the network's error is not wrapped: %v", step, err)
		}
	}
}

// Without a password being asked for, a login proves nothing.
func TestTrust(t *testing.T) {
	own, err := pgserver.Start(t.Context(), &pgserver.Options{
		Files:    map[string][]byte{"trust.conf": []byte("host all all 127.0.0.1/32 trust\n")},
		Settings: map[string]string{"hba_file": "trust.conf"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Stop() }()
	user := newUser(t, own, "", "first")
	err = postgres.NewTarget(nil).Test(t.Context(), rotation.NewValue(secret(own, user, "anything", nil)))
	if err == nil || errors.Is(err, rotation.ErrRefused) || !strings.Contains(err.Error(), "auth") {
		t.Errorf("Test on a server that asks for no password = %v, want an error that is no refusal", err)
	}
}
