package mysql_test

import (
	"testing"

	"github.com/keyturn/keyturn/internal/mysqlserver"
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
