package postgres_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/internal/testcert"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

// Which connections are encrypted, and that one which fails to be is not tried
// in the clear.
func TestTLS(t *testing.T) {
	cert, key := testcert.New(t, "127.0.0.1")
	own, err := pgserver.Start(t.Context(), &pgserver.Options{
		Files:    map[string][]byte{"server.crt": cert, "server.key": key},
		Settings: map[string]string{"ssl": "on"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Stop() }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)

	for _, test := range []struct {
		name string
		srv  *pgserver.Server
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
		{"remote", own, "db.example.com", nil, true, "tls"},
		{"remote and nonsense", own, "db.example.com", "prefer", true, "tls"},
		{"remote, unknown authority", own, "db.example.com", nil, false, "certificate signed by unknown authority"},
		{"remote, another name", own, "other.example.com", nil, true, "certificate is valid for db.example.com"},
		{"remote, another address", own, "192.0.2.1", nil, true, "certificate is valid for 127.0.0.1"},
		{"remote and false", own, "db.example.com", "FALSE", true, "clear"},
		{"no TLS there, and true", server, "127.0.0.1", true, true, "refused TLS"},
		{"no TLS there, remote", server, "db.example.com", nil, true, "refused TLS"},
		{"no TLS there, remote and false", server, "db.example.com", false, true, "clear"},
	} {
		t.Run(test.name, func(t *testing.T) {
			user := newUser(t, test.srv, "", "first")
			opts := &postgres.Options{
				DialFunc: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(test.srv.Host(), strconv.Itoa(test.srv.Port())))
				},
			}
			if test.own {
				opts.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			}
			err := postgres.NewTarget(opts).Test(t.Context(),
				rotation.NewValue(secret(test.srv, user, "first", map[string]any{"host": test.host, "ssl": test.ssl})))

			log, logErr := test.srv.Log()
			if logErr != nil {
				t.Fatal(logErr)
			}
			var got string
			for line := range strings.Lines(log) {
				if strings.Contains(line, "connection authorized: user="+user+" ") {
					got = "clear"
					if strings.Contains(line, "SSL enabled") {
						got = "tls"
					}
				}
			}
			if err != nil {
				if got != "" {
					t.Errorf("Test = %v, but the server has a login (%s)", err, got)
				}
				if errors.Is(err, rotation.ErrRefused) {
					t.Errorf("a failure of TLS counts as a refusal: %v", err)
				}
				got = err.Error()
			}
			if got != test.want && !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A superuser whose secret does not say where it logs in trusts the other secret's
// host only if RDS does, or the options.
func TestTLSOfSuperuser(t *testing.T) {
	cert, key := testcert.New(t, "127.0.0.1")
	own, err := pgserver.Start(t.Context(), &pgserver.Options{
		Files:    map[string][]byte{"server.crt": cert, "server.key": key},
		Settings: map[string]string{"ssl": "on"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Stop() }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)

	for _, test := range []struct {
		name string
		more map[string]any // of the superuser's secret
		ssl  any
		tls  *tls.Config
		want string // "": it logs in
	}{
		{"unknown to RDS", nil, nil, nil, `put its "host" into the superuser's secret, or the root into Options.TLS`},
		{"clear", nil, false, nil, "certificate signed by unknown authority"},
		{"known by option", nil, nil, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ""},
		{"says itself, in the clear", map[string]any{"host": "db.example.com", "ssl": false}, false, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			user := newUser(t, own, "", "first")
			target := postgres.NewTarget(&postgres.Options{
				Strategy: postgres.SingleUserBySuperuser, TLS: test.tls,
				DialFunc: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(own.Host(), strconv.Itoa(own.Port())))
				},
			})
			values := map[string]any{"host": "db.example.com", "ssl": test.ssl}
			cfg := own.ConnConfig()
			super := map[string]any{"host": nil, "port": nil, "dbname": nil}
			if test.more != nil {
				super = test.more
			}
			err := target.Set(t.Context(), rotation.Change{
				Current: rotation.NewValue(secret(own, user, "first", values)),
				Pending: rotation.NewValue(secret(own, user, "second", values)),
				As:      rotation.NewValue(secret(own, cfg.User, cfg.Password, super)),
			})
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("Set = %v, want %q", err, test.want)
			}
		})
	}
}
