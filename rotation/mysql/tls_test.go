package mysql_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/internal/rdsroots"
	"github.com/keyturn/keyturn/internal/testcert"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// Which connections are encrypted, and that one which fails to be is not tried in
// the clear, nor the password given away without.
func TestTLS(t *testing.T) {
	eachServer(t, func(t *testing.T, none *mysqlserver.Server) {
		cert, key := testcert.New(t, "127.0.0.1")
		own, err := mysqlserver.Start(t.Context(), &mysqlserver.Options{
			Kind:     none.Kind(),
			Files:    map[string][]byte{"server.crt": cert, "server.key": key},
			Settings: map[string]string{"ssl_cert": "server.crt", "ssl_key": "server.key"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := own.Stop(); err != nil {
				t.Error(err)
			}
		}()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(cert)
		inTheClear := "clear"
		if none == mysqld {
			inTheClear = "it was not sent" // caching_sha2_password would be given away
		}

		for _, test := range []struct {
			name string
			srv  *mysqlserver.Server
			host string
			ssl  any // nil: not there
			own  bool
			want string // "tls", "clear", or the error
		}{
			{"loopback", own, "127.0.0.1", nil, true, "clear"},
			{"localhost", own, "localhost", nil, true, "clear"},
			{"loopback and true", own, "127.0.0.1", true, true, "tls"},
			{"a string", own, "127.0.0.1", "True", true, "tls"},
			{"unknown authority", own, "127.0.0.1", true, false, "certificate signed by unknown authority"},
			{"remote", own, testcert.Name, nil, true, "tls"},
			{"remote and nonsense", own, testcert.Name, "prefer", true, "tls"},
			{"remote, unknown authority", own, testcert.Name, nil, false, "certificate signed by unknown authority"},
			{"remote, another name", own, "other.example.com", nil, true, "certificate is valid for " + testcert.Name},
			{"remote, another address", own, "192.0.2.1", nil, true, "certificate is valid for 127.0.0.1"},
			{"remote and false", own, testcert.Name, "FALSE", true, inTheClear},
			{"no TLS there, and true", none, "127.0.0.1", true, true, "TLS requested but server does not support TLS"},
			{"no TLS there, remote", none, testcert.Name, nil, true, "TLS requested but server does not support TLS"},
			{"no TLS there, remote and false", none, testcert.Name, false, true, inTheClear},
		} {
			t.Run(test.name, func(t *testing.T) {
				f := newFixture(t, test.srv, ways[0], "", "first")
				seen := &watched{}
				opts := &mysql.Options{
					DialFunc: func(ctx context.Context, network, _ string) (net.Conn, error) {
						conn, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(test.srv.Host(), strconv.Itoa(test.srv.Port())))
						seen.Conn = conn
						return seen, err
					},
				}
				if test.own {
					opts.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
				}
				err := mysql.NewTarget(opts).Test(t.Context(),
					rotation.NewValue(secret(test.srv, f.user, "first", map[string]any{"host": test.host, "ssl": test.ssl})))
				got := "tls"
				if strings.Contains(seen.sent.String(), f.user) { // who logs in is the first that would be seen
					got = "clear"
				}
				if err != nil {
					if errors.Is(err, rotation.ErrRefused) {
						t.Errorf("a failure of TLS counts as a refusal: %v", err)
					}
					if got == "clear" && !strings.Contains(test.want, "not sent") {
						t.Errorf("Test = %v, but the login was sent in the clear", err)
					}
					got = err.Error()
				}
				if got != test.want && !strings.Contains(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
				if strings.Contains(seen.sent.String(), "first") {
					t.Error("the password was sent in the clear")
				}
			})
		}
		t.Run("a superuser whose secret names no server", func(t *testing.T) {
			target := mysql.NewTarget(&mysql.Options{
				Strategy: mysql.SingleUserBySuperuser,
				DialFunc: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(own.Host(), strconv.Itoa(own.Port())))
				},
			})
			value := func(password string) *rotation.Value {
				return rotation.NewValue(secret(own, "app", password, map[string]any{"host": testcert.Name}))
			}
			const want = `put its "host" into the superuser's secret, or the root into Options.TLS`
			err := target.Set(t.Context(), rotation.Change{
				Current: value("first"), Pending: value("second"), As: rotation.NewValue(`{"username":"root","password":"x"}`),
			})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Set = %v, want %q", err, want)
			}
		})
	})
}

// watched sees what is sent.
type watched struct {
	net.Conn

	sent strings.Builder
}

func (c *watched) Write(b []byte) (int, error) {
	c.sent.Write(b)
	return c.Conn.Write(b)
}

// Where the superuser logs in is said by the other secret, if Amazon RDS manages
// its own. Whoever writes that one must not be able to have the superuser's
// password sent to a server of theirs, nor in the clear.
func TestManagedSuperuserTLS(t *testing.T) {
	managed, elsewhere := `{"username":"root","password":"x"}`, `{"username":"root","password":"x","host":"db.example.com"}`
	for _, test := range []struct {
		name, superuser, current string
		tls                      *tls.Config
		want                     string
	}{
		{"managed", managed, `"host":"db.example.com"`, nil, "rds"},
		{"managed, no TLS said", managed, `"host":"db.example.com","ssl":false`, nil, "rds"},
		{"managed, on loopback", managed, `"host":"127.0.0.1"`, nil, "clear"},
		{"managed, with roots", managed, `"host":"db.example.com"`, &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, "tls"},
		{"with a host", elsewhere, `"host":"127.0.0.1"`, nil, "tls"},
		{"with a host, no TLS said", elsewhere, `"host":"db.example.com","ssl":false`, nil, "tls"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := mysql.NewTarget(&mysql.Options{Strategy: mysql.AlternatingUsers, TLS: test.tls}).SuperuserTLS(
				rotation.NewValue(test.superuser), rotation.NewValue(`{"username":"app","password":"y",`+test.current+`}`))
			if err != nil {
				t.Fatal(err)
			}
			got := "tls"
			switch {
			case cfg == nil:
				got = "clear"
			case cfg.RootCAs.Equal(rdsroots.Only()):
				got = "rds"
			}
			if got != test.want || cfg != nil && (cfg.InsecureSkipVerify || cfg.ServerName != "db.example.com") {
				t.Errorf("got %q, want %q; %+v", got, test.want, cfg)
			}
		})
	}
}
