package postgres_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyturn/keyturn/dbconn/postgres"
)

// errSeen ends a connect once its configuration has been seen.
var errSeen = errors.New("seen")

// merged returns the configuration that a connect for the secret would use.
func merged(t *testing.T, secret string, opts postgres.Options) (*pgx.ConnConfig, error) {
	t.Helper()
	_, c := newCache(t, secret)
	var seen *pgx.ConnConfig
	opts.Configure = func(cfg *pgx.ConnConfig) error { seen = cfg; return errSeen }
	connector, err := postgres.NewConnector(c, "prod/db", &opts)
	if err != nil {
		return nil, err
	}
	if _, err = connector.Connect(t.Context()); !errors.Is(err, errSeen) {
		return nil, err
	}
	return seen, nil
}

// attempts describes the attempts of a configuration: where, and how.
func attempts(cfg *pgx.ConnConfig) string {
	describe := func(host string, port uint16, t *tls.Config) string {
		switch {
		case t == nil:
			return fmt.Sprintf("%s:%d plain", host, port)
		case t.InsecureSkipVerify:
			return fmt.Sprintf("%s:%d unverified", host, port)
		}
		return fmt.Sprintf("%s:%d verified as %s", host, port, t.ServerName)
	}
	list := []string{describe(cfg.Host, cfg.Port, cfg.TLSConfig)}
	for _, next := range cfg.Fallbacks {
		list = append(list, describe(next.Host, next.Port, next.TLSConfig))
	}
	return strings.Join(list, ", ")
}

func TestMerge(t *testing.T) {
	service := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(service, []byte("[s]\nhost=served\nport=9\nsslmode=require\n[t]\ndbname=x\n[p]\nport=9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		full  = `{"username":"u","password":"p","host":"db.example","port":5433,"dbname":"app"}`
		bare  = `{"username":"u","password":"p"}`
		local = `{"username":"u","password":"p","host":"127.0.0.1"}`
	)
	tests := []struct {
		name   string
		secret string
		opts   postgres.Options
		env    map[string]string
		want   string // attempts
		db     string // if it matters
	}{
		// Who names the host.
		{name: "the secret", secret: full, want: "db.example:5433 verified as db.example", db: "app"},
		{name: "the DSN", secret: full, opts: postgres.Options{DSN: "host=d dbname=e"}, want: "d:5432 verified as d", db: "e"},
		{name: "the DSN as a URL", secret: full, opts: postgres.Options{DSN: "postgres://d:7/e"}, want: "d:7 verified as d", db: "e"},
		{name: "the DSN's query", secret: full, opts: postgres.Options{DSN: "postgres:///e?host=d&port=7"}, want: "d:7 verified as d", db: "e"},
		{name: "Options", secret: full, opts: postgres.Options{Host: "o", Port: 8, Database: "f", DSN: "host=d port=7 dbname=e"}, want: "o:8 verified as o", db: "f"},
		{name: "Options over a URL", secret: full, opts: postgres.Options{Host: "o", Database: "f", DSN: "postgres://d:7/e?options=-c%20geqo%3Doff"}, want: "o:5432 verified as o", db: "f"},
		{name: "the environment", secret: full, env: map[string]string{"PGHOST": "e", "PGDATABASE": "g"}, want: "e:5432 verified as e", db: "g"},
		{name: "the DSN over the environment", secret: full, opts: postgres.Options{DSN: "host=d"}, env: map[string]string{"PGHOST": "e"}, want: "d:5432 verified as d"},
		{name: "a service file", secret: full, opts: postgres.Options{DSN: "service=s servicefile=" + service}, want: "served:9 unverified"},
		{name: "a DSN that says neither host nor database", secret: full, opts: postgres.Options{DSN: "application_name=x"}, want: "db.example:5433 verified as db.example", db: "app"},
		{name: "a URL that says neither", secret: full, opts: postgres.Options{DSN: "postgres://?application_name=x"}, want: "db.example:5433 verified as db.example", db: "app"},
		{name: "several hosts", secret: full, opts: postgres.Options{DSN: "postgres://a:1,b:2/e"}, want: "a:1 verified as a, b:2 verified as b"},
		{name: "several hosts in keywords", secret: full, opts: postgres.Options{DSN: "host=a,b"}, want: "a:5432 verified as a, b:5432 verified as b"},
		{name: "managed by RDS", secret: bare, opts: postgres.Options{Host: "o"}, want: "o:5432 verified as o"},
		{name: "a port alone in the environment", secret: full, env: map[string]string{"PGPORT": "9"}, want: "db.example:5433 verified as db.example"},
		{name: "a quoted host", secret: full, opts: postgres.Options{DSN: `host = 'a\'b' dbname='x y'`}, want: "a'b:5432 verified as a'b", db: "x y"},

		{name: "an empty setting is none", secret: full, opts: postgres.Options{DSN: "host='' dbname='' sslmode=''"}, want: "db.example:5433 verified as db.example", db: "app"},
		{name: "an empty setting in a URL", secret: full, opts: postgres.Options{DSN: "postgres:///?host=&sslmode="}, want: "db.example:5433 verified as db.example", db: "app"},
		{name: "a text that ends in a backslash", secret: full, opts: postgres.Options{DSN: `application_name=x\`}, want: "db.example:5433 verified as db.example", db: "app"},
		{name: "a text that ends in a question mark", secret: full, opts: postgres.Options{DSN: "postgres://d/e?"}, want: "d:5432 verified as d", db: "e"},
		{name: "a space that is none", secret: full, opts: postgres.Options{DSN: "dbname=e\u00a0sslmode=disable"}, want: "db.example:5433 verified as db.example"},
		{name: "IPv6 in a URL", secret: full, opts: postgres.Options{DSN: "postgres://[2001:db8::1]:7/e"}, want: "2001:db8::1:7 verified as 2001:db8::1"},
		{name: "the last word counts", secret: full, opts: postgres.Options{DSN: "host=a host=b"}, want: "b:5432 verified as b"},
		{name: "the database by its other name", secret: full, opts: postgres.Options{DSN: "postgres:///?database=e"}, want: "db.example:5433 verified as db.example", db: "e"},
		{name: "a service file with a database alone", secret: full, opts: postgres.Options{DSN: "service=t servicefile=" + service}, want: "db.example:5433 verified as db.example", db: "x"},
		{name: "a service file with a port alone", secret: full, opts: postgres.Options{DSN: "service=p servicefile=" + service}, want: "db.example:5433 verified as db.example", db: "app"},
		{name: "a service in the environment", secret: full, env: map[string]string{"PGSERVICE": "s", "PGSERVICEFILE": service}, want: "served:9 unverified"},

		// Who decides on TLS: the host really dialled.
		{name: "loopback", secret: local, want: "127.0.0.1:5432 plain"},
		{name: "localhost", secret: full, opts: postgres.Options{Host: "localhost"}, want: "localhost:5432 plain"},
		{name: "IPv6 loopback", secret: full, opts: postgres.Options{Host: "::1"}, want: "::1:5432 plain"},
		{name: "a name like an abstract socket", secret: full, opts: postgres.Options{Host: "@pg"}, want: "@pg:5432 verified as @pg"},
		{name: "a socket", secret: full, opts: postgres.Options{Host: "/run/pg"}, want: "/run/pg:5432 plain"},
		{name: "an address that begins like loopback", secret: full, opts: postgres.Options{Host: "127.evil.example"}, want: "127.evil.example:5432 verified as 127.evil.example"},
		{name: "loopback among others", secret: full, opts: postgres.Options{DSN: "host=localhost,b"}, want: "localhost:5432 verified as localhost, b:5432 verified as b"},
		{name: "said: disable", secret: full, opts: postgres.Options{DSN: "sslmode=disable"}, want: "db.example:5433 plain"},
		{name: "said: require", secret: full, opts: postgres.Options{DSN: "postgres:///?sslmode=require"}, want: "db.example:5433 unverified"},
		{name: "said: verify-full on loopback", secret: local, opts: postgres.Options{DSN: "sslmode=verify-full"}, want: "127.0.0.1:5432 verified as 127.0.0.1"},
		{name: "said: prefer", secret: full, opts: postgres.Options{DSN: "sslmode=prefer"}, want: "db.example:5433 unverified, db.example:5433 plain"},
		{name: "said: ssl=true", secret: full, opts: postgres.Options{DSN: "postgres:///?ssl=true"}, want: "db.example:5433 unverified"},
		{name: "said: PGSSLMODE", secret: full, env: map[string]string{"PGSSLMODE": "require"}, want: "db.example:5433 unverified"},
		{name: "Options.TLS", secret: full, opts: postgres.Options{TLS: &tls.Config{RootCAs: x509.NewCertPool()}}, want: "db.example:5433 verified as db.example"},
		{name: "Options.TLS on loopback", secret: local, opts: postgres.Options{TLS: &tls.Config{ServerName: "db"}}, want: "127.0.0.1:5432 verified as db"},
		{name: "Options.TLS for several hosts", secret: full, opts: postgres.Options{DSN: "host=a,b", TLS: &tls.Config{}}, want: "a:5432 verified as a, b:5432 verified as b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			cfg, err := merged(t, test.secret, test.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := attempts(cfg); got != test.want {
				t.Errorf("attempts: %s, want %s", got, test.want)
			}
			if test.db != "" && cfg.Database != test.db {
				t.Errorf("database %q, want %q", cfg.Database, test.db)
			}
			if cfg.User != "" || cfg.Password != "" {
				t.Errorf("Configure saw user %q and a password of %d bytes", cfg.User, len(cfg.Password))
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	const secret = `{"username":"u","password":"p"}`
	tests := []struct {
		name string
		opts postgres.Options
		want string
	}{
		{"no host anywhere", postgres.Options{}, `has no field "host", and no option names a host`},
		{"no host in the DSN either", postgres.Options{DSN: "dbname=x"}, `has no field "host", and no option names a host`},
		{"a user in the DSN", postgres.Options{DSN: "user=x host=h"}, "Options.DSN names a user; take it out"},
		{"a user in the URL", postgres.Options{DSN: "postgres://x@h/d"}, "Options.DSN names a user; take it out"},
		{"a user in the query", postgres.Options{DSN: "postgres://h/d?user=x"}, "Options.DSN names a user; take it out"},
		{"a password in the DSN", postgres.Options{DSN: "password=hunter2 host=h"}, "Options.DSN names a password; take it out"},
		{"a password in the URL", postgres.Options{DSN: "postgres://:hunter2@h/d"}, "Options.DSN names a password; take it out"},
		{"a broken DSN", postgres.Options{DSN: "host=h hunter2"}, "Options.DSN, or a PG* environment variable, cannot be parsed"},
		{"a password that breaks the DSN", postgres.Options{DSN: "password='hunter2 host=h"}, "Options.DSN, or a PG* environment variable, cannot be parsed"},
		{"an empty host in a list", postgres.Options{DSN: "host=d,"}, "Options.DSN names an empty host"},
		{"an empty host in a URL", postgres.Options{DSN: "postgres://d,/app"}, "Options.DSN names an empty host"},
		{"a port alone in a URL", postgres.Options{DSN: "postgres://:5434/app"}, "names a port without a host"},
		{"ssl in keywords", postgres.Options{DSN: "host=d ssl=1"}, "Options.DSN says ssl, which is no setting"},
		{"ssl=false in a URL", postgres.Options{DSN: "postgres://d/app?ssl=false"}, "Options.DSN says ssl, which is no setting"},
		{"hostaddr", postgres.Options{DSN: "hostaddr=10.0.0.1"}, "Options.DSN says hostaddr"},
		{"a keyword in two words", postgres.Options{DSN: "host=d application name=x"}, "Options.DSN, or a PG* environment variable, cannot be parsed"},
		{"an escaped key", postgres.Options{DSN: "postgres://h/d?us%65r=x"}, "Options.DSN names a user; take it out"},
		{"a key after a space", postgres.Options{DSN: "postgres://h/d? password=hunter2"}, "Options.DSN names a password; take it out"},
		{"a database that is no setting", postgres.Options{DSN: "postgres://h/d?x"}, "Options.DSN, or a PG* environment variable, cannot be parsed"},
		{"a bracket that nobody closes", postgres.Options{DSN: "postgres://[::1/d"}, "Options.DSN, or a PG* environment variable, cannot be parsed"},
		{"a bad escape", postgres.Options{DSN: "postgres://h/%zz"}, "Options.DSN, or a PG* environment variable, cannot be parsed"},
		{"a password in place of a port", postgres.Options{DSN: "postgres://h:hunter2/d"}, "Options.DSN, or a PG* environment variable, cannot be parsed"},
		{"an unknown sslmode", postgres.Options{DSN: "host=h sslmode=maybe"}, "the DSN is a URL"},
		{"the reason", postgres.Options{DSN: "sslmode=maybe"}, ": failed to configure TLS (sslmode is invalid)"},
		{"a file that is not there", postgres.Options{DSN: "sslrootcert=/nope sslmode=verify-full"}, "/nope"},
		{"a port without a host", postgres.Options{Port: 5432}, "Options.Port is set without Options.Host"},
		{"a port without a host in the DSN", postgres.Options{DSN: "port=5432"}, "names a port without a host"},
		{"two words on TLS", postgres.Options{DSN: "host=h sslmode=require", TLS: &tls.Config{}}, "Options.TLS and sslmode in Options.DSN are both set"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := merged(t, secret, test.opts)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q quotes the DSN", err)
			}
		})
	}
}

func TestEnvironmentThatIsWrong(t *testing.T) {
	for name, value := range map[string]string{"PGHOST": "d,", "PGPORT": "word", "PGSSLMODE": "maybe", "PGCONNECT_TIMEOUT": "soon"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			_, err := merged(t, `{"username":"u","password":"p","host":"h"}`, postgres.Options{})
			if err == nil || !strings.Contains(err.Error(), "PG") || !strings.HasPrefix(err.Error(), "postgres: ") {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		})
	}
}

// What the environment and the user's files say of user and password is not
// the secret's, and is not used.
func TestEnvironmentNamesNoPassword(t *testing.T) {
	name, password := newUser(t)
	t.Setenv("PGUSER", "somebody")
	t.Setenv("PGPASSWORD", "something")
	_, c := newCache(t, document(t, name, password))
	user, _, err := whoami(t.Context(), open(t, c, nil))
	if err != nil || user != name {
		t.Errorf("logged in as %q, %v, want %q", user, err, name)
	}
}

// A pool's own configuration goes before the secret where it says something, and a
// host that the secret names is never dialled in clear unless somebody said so.
func TestMergeOfAPoolsConfiguration(t *testing.T) {
	for _, test := range []struct {
		name, given string
		env         map[string]string
		opts        postgres.Options
		want        string
	}{
		{"nothing said", "", nil, postgres.Options{}, "db.example:5433 verified as db.example"},
		{"PGSSLMODE=verify-full", "", map[string]string{"PGSSLMODE": "verify-full"}, postgres.Options{}, "db.example:5433 verified as db.example"},
		{"PGSSLMODE=require", "", map[string]string{"PGSSLMODE": "require"}, postgres.Options{}, "db.example:5433 unverified"},
		{"another host", "host=other.example port=7", nil, postgres.Options{}, "other.example:7 verified as other.example"},
		{"another host, its mode", "host=other.example sslmode=require", nil, postgres.Options{}, "other.example:5432 unverified"},
		{"Options.Host", "", nil, postgres.Options{Host: "third.example", Port: 8}, "third.example:8 verified as third.example"},
		{"Options.Host, a mode", "host=other.example sslmode=verify-full", nil, postgres.Options{Host: "third.example", Port: 8}, "third.example:8 verified as third.example"},
		{"Options.Host, PGSSLMODE", "", map[string]string{"PGSSLMODE": "verify-full"}, postgres.Options{Host: "third.example", Port: 8}, "third.example:8 verified as third.example"},
		{"clear text, as was said", "host=other.example sslmode=disable", nil, postgres.Options{}, "other.example:5432 plain"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			_, c := newCache(t, `{"username":"u","password":"p","host":"db.example","port":5433,"dbname":"app"}`)
			cfg, err := pgxpool.ParseConfig(test.given)
			if err != nil {
				t.Fatal(err)
			}
			var seen *pgx.ConnConfig
			test.opts.Configure = func(cfg *pgx.ConnConfig) error { seen = cfg; return errSeen }
			if err := postgres.ConfigurePool(cfg, c, "prod/db", &test.opts); err != nil {
				t.Fatal(err)
			}
			if err := cfg.BeforeConnect(t.Context(), cfg.ConnConfig.Copy()); !errors.Is(err, errSeen) {
				t.Fatal(err)
			}
			if got := attempts(seen); got != test.want {
				t.Errorf("goes to %s, want %s", got, test.want)
			}
			if seen.Database != "app" {
				t.Errorf("database %q", seen.Database)
			}
		})
	}
}
