package postgres_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/internal/testcert"
)

// Which logins are encrypted, by the server's own log, and that one which fails
// to be is not tried again in clear text.
func TestTLS(t *testing.T) {
	cert, key := testcert.New(t)
	own, err := pgserver.Start(t.Context(), &pgserver.Options{
		Files:    map[string][]byte{"server.crt": cert, "server.key": key},
		Settings: map[string]string{"ssl": "on"},
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
	file := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}

	for _, test := range []struct {
		name string
		srv  *pgserver.Server
		host string // of the secret
		opts postgres.Options
		want string // "tls", "clear", or the error
	}{
		{"loopback", own, "127.0.0.1", postgres.Options{}, "clear"},
		{"remote, trusted by the DSN", own, testcert.Name, postgres.Options{DSN: "sslrootcert=" + file}, "tls"},
		{"remote, trusted by Options.TLS", own, testcert.Name, postgres.Options{TLS: trusting}, "tls"},
		{"remote, not trusted", own, testcert.Name, postgres.Options{}, "certificate signed by unknown authority"},
		{"remote, another name", own, "other.example.com", postgres.Options{TLS: trusting}, "certificate is valid for " + testcert.Name},
		{"remote, verification said off", own, testcert.Name, postgres.Options{DSN: "sslmode=require"}, "tls"},
		{"remote, TLS said off", own, testcert.Name, postgres.Options{DSN: "sslmode=disable"}, "clear"},
		{"no TLS there", pg, testcert.Name, postgres.Options{}, "server refused TLS"},
		{"no TLS there, with Options.TLS", pg, testcert.Name, postgres.Options{TLS: trusting}, "server refused TLS"},
		{"no TLS there, and that is said to do", pg, testcert.Name, postgres.Options{DSN: "sslmode=prefer"}, "clear"},
	} {
		t.Run(test.name, func(t *testing.T) {
			name, password := newUserOf(t, test.srv)
			_, c := newCache(t, strings.Replace(documentOf(t, test.srv, name, password), test.srv.Host(), test.host, 1))
			test.opts.Configure = func(cfg *pgx.ConnConfig) error {
				cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{test.srv.Host()}, nil }
				return nil
			}
			err := open(t, c, &test.opts).PingContext(t.Context())

			log, logErr := test.srv.Log()
			if logErr != nil {
				t.Fatal(logErr)
			}
			got := ""
			for line := range strings.Lines(log) {
				if strings.Contains(line, "connection authorized: user="+name+" ") {
					got = "clear"
					if strings.Contains(line, "SSL enabled") {
						got = "tls"
					}
				}
			}
			if err != nil {
				if got != "" {
					t.Errorf("%v, but the server has a login (%s)", err, got)
				}
				if dbconn.IsRefused(err) {
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
