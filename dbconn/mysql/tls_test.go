package mysql_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"strconv"
	"strings"
	"testing"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/internal/testcert"
)

// to returns a dial function that goes to a server, wherever it is asked to go.
func to(srv *mysqlserver.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port())))
	}
}

// Which logins are encrypted, by the server's word, and that one which fails to
// be is not tried again in clear text.
func TestTLS(t *testing.T) {
	eachServer(t, func(t *testing.T, none *mysqlserver.Server) {
		cert, key := testcert.New(t)
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
		trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		if err := godriver.RegisterTLSConfig("trusting", trusting); err != nil {
			t.Fatal(err)
		}
		defer godriver.DeregisterTLSConfig("trusting")

		for _, test := range []struct {
			name string
			srv  *mysqlserver.Server
			host string // of the secret
			said string // tls=
			tls  *tls.Config
			want string // "tls", "clear", or the error
		}{
			{"loopback", own, "127.0.0.1", "", nil, "clear"},
			{"remote, trusted by name", own, testcert.Name, "trusting", nil, "tls"},
			{"remote, trusted by Options.TLS", own, testcert.Name, "", trusting, "tls"},
			{"loopback, by another name", own, "127.0.0.1", "", &tls.Config{RootCAs: roots, ServerName: testcert.Name}, "tls"},
			{"remote, not trusted", own, testcert.Name, "", nil, "certificate signed by unknown authority"},
			{"remote, not trusted, said true", own, testcert.Name, "true", nil, "certificate signed by unknown authority"},
			{"remote, another name", own, "other.example.com", "", trusting, "certificate is valid for " + testcert.Name},
			{"remote, another name, trusted by name", own, "other.example.com", "trusting", nil, "certificate is valid for " + testcert.Name},
			{"remote, verification said off", own, testcert.Name, "skip-verify", nil, "tls"},
			{"no TLS there", none, testcert.Name, "", nil, godriver.ErrNoTLS.Error()},
			{"no TLS there, with Options.TLS", none, testcert.Name, "", trusting, godriver.ErrNoTLS.Error()},
			{"no TLS there, said preferred", none, testcert.Name, "preferred", nil, "goes on in clear text"},
		} {
			t.Run(test.name, func(t *testing.T) {
				name, password := newUser(t, test.srv)
				_, c := newCache(t, strings.Replace(document(t, test.srv, name, password), test.srv.Host(), test.host, 1))
				db := open(t, c, &mysql.Options{TLS: test.tls, Config: config(func(c *godriver.Config) {
					c.DialFunc, c.TLSConfig, c.Logger = to(test.srv), test.said, &godriver.NopLogger{}
				})})
				var variable, got string
				err := db.QueryRowContext(t.Context(), "show session status like 'Ssl_cipher'").Scan(&variable, &got)
				switch {
				case err != nil:
					if dbconn.IsRefused(err) {
						t.Errorf("a failure of TLS counts as a refusal: %v", err)
					}
					if n := failures(t, test.srv, name); n != 0 {
						t.Errorf("%d failed logins on the server, want that it got none", n)
					}
					got = err.Error()
				case got == "":
					got = "clear"
				default:
					got = "tls"
				}
				if got != test.want && !strings.Contains(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		}

		t.Run("a user that must use TLS", func(t *testing.T) {
			name, password := newUser(t, own)
			admin(t, own, "ALTER USER ?@'%' REQUIRE SSL", name)
			_, c := newCache(t, document(t, own, name, password))
			err := open(t, c, nil).PingContext(t.Context())
			if !dbconn.IsRefused(err) || !strings.Contains(err.Error(), "must log in over TLS, which this connection is without") {
				t.Errorf("without TLS: %v, want the refusal and a hint", err)
			}
			_, c = newCache(t, document(t, own, name, password)) // the refusal is remembered by the other
			if err := open(t, c, &mysql.Options{DSN: "/?tls=skip-verify"}).PingContext(t.Context()); err != nil {
				t.Errorf("with TLS: %v", err)
			}
		})
	})
}

// A login that goes on without TLS, as it may on loopback, goes on so alone: the
// driver's connector would not ask for TLS again.
func TestFallbackOfOneLogin(t *testing.T) {
	eachServer(t, func(t *testing.T, none *mysqlserver.Server) {
		cert, key := testcert.New(t)
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
		user, password := newUser(t, none)
		if err := own.CreateUser(t.Context(), user, password); err != nil {
			t.Fatal(err)
		}
		cfg := godriver.NewConfig()
		cfg.TLSConfig = "preferred"
		srv := none
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			return to(srv)(ctx, network, address)
		}
		_, c := newCache(t, document(t, none, user, password))
		db := open(t, c, &mysql.Options{Host: "127.0.0.1", Config: cfg})
		db.SetMaxIdleConns(0) // each query logs in
		var name, first, second string
		if err := db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &first); err != nil {
			t.Fatal(err)
		}
		srv = own
		if err := db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &second); err != nil {
			t.Fatal(err)
		}
		if first != "" || second == "" {
			t.Errorf("ciphers %q and %q, want none where there is no TLS, and then one", first, second)
		}
	})
}

// serverKey returns MySQL's public key, as its administrator gives it to clients.
func serverKey(t *testing.T, srv *mysqlserver.Server) *rsa.PublicKey {
	t.Helper()
	var name, text string
	if err := srv.Admin().QueryRowContext(t.Context(), "show status like 'Caching_sha2_password_rsa_public_key'").Scan(&name, &text); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no key in %q", text)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

// After a rotation the server has not seen the password yet, and asks for it.
// Without TLS only one whose key is known gets it.
func TestColdPasswordCache(t *testing.T) {
	name, password := newUser(t, mysqld)
	sm, c := newCache(t, document(t, mysqld, name, password))
	connect := func(c *cache.Cache, host string, key *rsa.PublicKey) error {
		t.Helper()
		// Without a pool: every connect is a login.
		connector, err := mysql.NewConnector(c, "prod/db", &mysql.Options{Host: host, Port: mysqld.Port(), ServerPubKey: key, Config: config(func(c *godriver.Config) {
			c.DialFunc, c.TLSConfig, c.Logger = to(mysqld), "false", &godriver.NopLogger{}
		})})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := connector.Connect(t.Context())
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	rotated := func() {
		t.Helper()
		password += "x"
		if err := mysqld.SetPassword(t.Context(), name, password); err != nil {
			t.Fatal(err)
		}
		sm.Put("prod/db", document(t, mysqld, name, password))
		c.Invalidate("prod/db")
	}
	for range 2 {
		err := connect(c, testcert.Name, nil)
		if err == nil || dbconn.IsRefused(err) || !strings.Contains(err.Error(), "set Options.ServerPubKey") {
			t.Fatalf("no key, cold cache: %v, want that a key is needed", err)
		}
		if err := connect(c, "127.0.0.1", nil); err != nil { // that warms the server's cache
			t.Fatalf("loopback: %v", err)
		}
		if err := connect(c, testcert.Name, nil); err != nil {
			t.Fatalf("no key, warm cache: %v", err)
		}
		rotated()
	}
	key := serverKey(t, mysqld)
	for range 2 {
		if err := connect(c, testcert.Name, key); err != nil {
			t.Fatalf("with a key, cold cache: %v", err)
		}
		if err := connect(c, testcert.Name, key); err != nil {
			t.Fatalf("with a key, warm cache: %v", err)
		}
		rotated()
	}
	if n := failures(t, mysqld, name); n != 0 {
		t.Errorf("%d failed logins on the server, want none for those that were broken off", n)
	}

	// The connection through the guard is one like any other: it is found dead
	// when it is, and the liveness check sees the socket.
	rotated()
	db := open(t, c, &mysql.Options{Host: testcert.Name, Port: mysqld.Port(), ServerPubKey: key, Config: config(func(c *godriver.Config) {
		c.DialFunc, c.TLSConfig, c.Logger = to(mysqld), "false", &godriver.NopLogger{}
	})})
	var id int
	if err := db.QueryRowContext(t.Context(), "select connection_id()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	admin(t, mysqld, "KILL ?", id)
	if err := db.PingContext(t.Context()); err != nil {
		t.Errorf("after the server has closed an idle connection: %v", err)
	}
}
