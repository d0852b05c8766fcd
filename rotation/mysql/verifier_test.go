package mysql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation/mysql"
)

var somePasswords = []string{"a", "secret", strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 33), strings.Repeat("xyz", 40), "pässwörd", `'"\` + "`"}

// The server takes what is computed here, and what it has computed itself is
// recognised.
func TestVerifier(t *testing.T) {
	for _, test := range []struct {
		srv    *mysqlserver.Server
		plugin string
		rounds int
	}{
		{mysqld, "caching_sha2_password", 0},
		{mysqld, "caching_sha2_password", 5000},
		{mysqld, "caching_sha2_password", 10000},
		{mysqld, "caching_sha2_password", 17000},
		{mysqld, "sha256_password", 0},
		{mariadb, "mysql_native_password", 0},
	} {
		t.Run(fmt.Sprint(test.plugin, test.rounds), func(t *testing.T) {
			f := &fixture{t: t, server: test.srv}
			user, word := newName("verified"), "AS"
			with := "WITH"
			if test.srv == mariadb {
				word, with = "USING", "VIA"
			}
			f.admin("CREATE USER ?@'%'", user)
			for _, password := range somePasswords {
				verifier, err := mysql.NewVerifier(test.plugin, password, test.rounds)
				if err != nil {
					t.Fatal(err)
				}
				f.admin("ALTER USER ?@'%' IDENTIFIED "+with+" "+test.plugin+" "+word+" ?", user, verifier)
				if !f.logsIn(login{user, password}) {
					t.Errorf("the server refuses %q with %s", password, verifier)
				}
				if f.logsIn(login{user, password + "x"}) {
					t.Errorf("the server takes another password than %q", password)
				}

				f.admin("ALTER USER ?@'%' IDENTIFIED "+with+" "+test.plugin+" "+byPassword(test.srv), user, password)
				var stored []byte
				err = test.srv.Admin().QueryRowContext(t.Context(), "SELECT authentication_string FROM mysql.user WHERE user = ?", user).Scan(&stored)
				if err != nil {
					t.Fatal(err)
				}
				for _, candidate := range append(somePasswords, "other", password+"x", "") {
					got, err := mysql.Verifies(test.plugin, string(stored), candidate)
					if err != nil || got != (candidate == password) {
						t.Errorf("Verifies(%q), for that of %q = %t, %v", candidate, password, got, err)
					}
				}
			}
		})
	}
}

func byPassword(srv *mysqlserver.Server) string {
	if srv == mariadb {
		return "USING PASSWORD(?)"
	}
	return "BY ?"
}

func TestVerifierUnknown(t *testing.T) {
	if _, err := mysql.NewVerifier("authentication_ldap_sasl", "x", 0); err == nil || !strings.Contains(err.Error(), `"authentication_ldap_sasl"`) {
		t.Errorf("NewVerifier of another plugin = %v, want an error that names it", err)
	}
	for _, test := range [][2]string{
		{"authentication_ldap_sasl", "x"},
		{"caching_sha2_password", ""},
		{"caching_sha2_password", "$A$005$" + strings.Repeat("x", 62)},
		{"caching_sha2_password", "$A$0x5$" + strings.Repeat("x", 63)},
		{"caching_sha2_password", "$B$005$" + strings.Repeat("x", 63)},
		{"sha256_password", ""},
		{"sha256_password", "$6$" + strings.Repeat("x", 20) + "$" + strings.Repeat("x", 43)},
		{"sha256_password", "$5$" + strings.Repeat("x", 19) + "$" + strings.Repeat("x", 43)},
	} {
		if ok, err := mysql.Verifies(test[0], test[1], "x"); ok || err == nil {
			t.Errorf("Verifies(%q, %q) = %t, %v, want an error", test[0], test[1], ok, err)
		}
	}
}

// Users that are identified in another way than is usual.
func TestPlugins(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			f := newFixture(t, mysqld, w, "", "first")
			f.admin("ALTER USER ?@'%' IDENTIFIED WITH sha256_password BY 'first'", f.user)
			f.rotateTwice()

			if w.strategy == mysql.AlternatingUsers {
				return // the partner has no user of the operating system
			}
			f = newFixture(t, mariadb, w, "", "first")
			f.admin("ALTER USER ?@'%' IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('first')", f.user)
			f.rotateTwice()
			if got := f.rows1("SHOW CREATE USER ?@'%'", f.user); !strings.Contains(got, "unix_socket") {
				t.Errorf("of the two ways to be identified one is left: %s", got)
			}
		})
	}
}

func (f *fixture) rotateTwice() {
	f.t.Helper()
	h := f.handler(nil)
	for range 2 {
		before := f.version("AWSCURRENT")
		if err := f.rotate(h); err != nil {
			f.t.Fatal(err)
		}
		f.checkRotated(before)
	}
}

func (f *fixture) rows1(query string, args ...any) (row string) {
	f.t.Helper()
	if err := f.server.Admin().QueryRowContext(f.t.Context(), query, args...).Scan(&row); err != nil {
		f.t.Fatal(err)
	}
	return row
}
