package mysql_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/rdsroots"
)

// merged returns the configuration that a connect for the secret would use.
func merged(t *testing.T, secret string, opts mysql.Options) (*godriver.Config, error) {
	t.Helper()
	_, c := newCache(t, secret)
	var seen *godriver.Config
	connector, err := mysql.NewMergedConnector(c, "prod/db", &opts, func(cfg *godriver.Config) error { seen = cfg; return errSeen })
	if err != nil {
		return nil, err
	}
	if _, err = connector.Connect(t.Context()); !errors.Is(err, errSeen) {
		return nil, err
	}
	return seen, nil
}

// attempt describes a configuration: where, and how.
func attempt(cfg *godriver.Config) string {
	how := "plain"
	switch {
	case cfg.TLS == nil && cfg.ServerPubKey == "keyturn none":
		how = "plain, no password"
	case cfg.TLS == nil && cfg.ServerPubKey != "":
		how = "plain, with a key"
	case cfg.TLS == nil:
	case cfg.TLS.InsecureSkipVerify:
		how = "unverified"
	default:
		how = "verified as " + cfg.TLS.ServerName
	}
	if cfg.TLS != nil && cfg.AllowFallbackToPlaintext {
		how += " or plain"
	}
	return cfg.Net + " " + cfg.Addr + " " + how
}

// config returns the driver's configuration, as change has it.
func config(change func(*godriver.Config)) *godriver.Config {
	cfg := godriver.NewConfig()
	change(cfg)
	return cfg
}

// parsed returns what the driver's parser makes of a DSN.
func parsed(t *testing.T, dsn string) *godriver.Config {
	t.Helper()
	cfg, err := godriver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const (
	full    = `{"username":"u","password":"s3cret","host":"db.example","port":3307,"dbname":"app"}`
	bare    = `{"username":"u","password":"s3cret"}`
	onLocal = `{"username":"u","password":"s3cret","host":"127.0.0.1"}`
	onSock  = `{"username":"u","password":"s3cret","host":"/run/my.sock"}`
)

func TestMerge(t *testing.T) {
	if err := godriver.RegisterTLSConfig("own", &tls.Config{ServerName: "own.example", RootCAs: x509.NewCertPool()}); err != nil {
		t.Fatal(err)
	}
	if err := godriver.RegisterTLSConfig("nameless", &tls.Config{RootCAs: x509.NewCertPool()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { godriver.DeregisterTLSConfig("own"); godriver.DeregisterTLSConfig("nameless") })
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	godriver.RegisterServerPubKey("registered", &key.PublicKey)
	t.Cleanup(func() { godriver.DeregisterServerPubKey("registered") })
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, errSeen }

	tests := []struct {
		name   string
		secret string
		opts   mysql.Options
		want   string // attempt
		db     string // if it matters
	}{
		// Who names the host.
		{name: "the secret", secret: full, want: "tcp db.example:3307 verified as db.example", db: "app"},
		{name: "the secret, no port", secret: `{"username":"u","password":"s3cret","host":"h"}`, want: "tcp h:3306 verified as h"},
		{name: "the DSN", secret: full, opts: mysql.Options{DSN: "tcp(d)/e"}, want: "tcp d:3306 verified as d", db: "e"},
		{name: "the DSN with a port", secret: full, opts: mysql.Options{DSN: "tcp(d:7)/e"}, want: "tcp d:7 verified as d", db: "e"},
		{name: "the DSN, address alone", secret: full, opts: mysql.Options{DSN: "(d:7)/"}, want: "tcp d:7 verified as d", db: "app"},
		{name: "the DSN with an empty user", secret: full, opts: mysql.Options{DSN: "@tcp(d:7)/"}, want: "tcp d:7 verified as d"},
		{name: "Options", secret: full, opts: mysql.Options{Host: "o", Port: 8, Database: "f", DSN: "tcp(d:7)/e"}, want: "tcp o:8 verified as o", db: "f"},
		{name: "Options without a port", secret: full, opts: mysql.Options{Host: "o", DSN: "tcp(d:7)/e?parseTime=true"}, want: "tcp o:3306 verified as o", db: "e"},
		{name: "Options over a socket", secret: full, opts: mysql.Options{Host: "o", DSN: "unix(/s)/e"}, want: "tcp o:3306 verified as o", db: "e"},
		{name: "Config", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.Addr, c.DBName = "d:7", "e" })}, want: "tcp d:7 verified as d", db: "e"},
		{name: "Config without a port", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.Addr = "d" })}, want: "tcp d:3306 verified as d", db: "app"},
		{name: "a DSN that names neither", secret: full, opts: mysql.Options{DSN: "/?parseTime=true"}, want: "tcp db.example:3307 verified as db.example", db: "app"},
		{name: "a DSN that names a database", secret: full, opts: mysql.Options{DSN: "/e"}, want: "tcp db.example:3307 verified as db.example", db: "e"},
		{name: "a DSN that names the network", secret: full, opts: mysql.Options{DSN: "tcp/e"}, want: "tcp db.example:3307 verified as db.example"},
		{name: "a DSN with an empty address", secret: full, opts: mysql.Options{DSN: "tcp()/e"}, want: "tcp db.example:3307 verified as db.example"},
		{name: "a DSN that names what is the default", secret: full, opts: mysql.Options{DSN: "tcp(127.0.0.1:3306)/e"}, want: "tcp 127.0.0.1:3306 plain"},
		{name: "a parsed Config that names nothing", secret: full, opts: mysql.Options{Config: parsed(t, "/e")}, want: "tcp db.example:3307 verified as db.example", db: "e"},
		{name: "a parsed Config", secret: full, opts: mysql.Options{Config: parsed(t, "tcp(d:7)/e")}, want: "tcp d:7 verified as d"},
		{name: "an empty Config", secret: full, opts: mysql.Options{Config: &godriver.Config{}}, want: "tcp db.example:3307 verified as db.example", db: "app"},
		{name: "Config names a network", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.Net = "tcp6" })}, want: "tcp6 db.example:3307 verified as db.example"},
		{name: "managed by RDS", secret: bare, opts: mysql.Options{Host: "o"}, want: "tcp o:3306 verified as o"},
		{name: "IPv6 in the DSN", secret: full, opts: mysql.Options{DSN: "tcp([2001:db8::1]:7)/"}, want: "tcp [2001:db8::1]:7 verified as 2001:db8::1"},
		{name: "IPv6 in brackets without a port", secret: full, opts: mysql.Options{DSN: "tcp([2001:db8::1])/"}, want: "tcp [2001:db8::1]:3306 verified as 2001:db8::1"},
		{name: "IPv6 without brackets", secret: full, opts: mysql.Options{DSN: "tcp(2001:db8::1)/"}, want: "tcp [2001:db8::1]:3306 verified as 2001:db8::1"},
		{name: "IPv6 in Options", secret: full, opts: mysql.Options{Host: "2001:db8::1"}, want: "tcp [2001:db8::1]:3306 verified as 2001:db8::1"},
		{name: "a slash in a parameter", secret: full, opts: mysql.Options{DSN: "tcp(d)/e?loc=US%2FPacific&time_zone=%27US%2FPacific%27"}, want: "tcp d:3306 verified as d", db: "e"},
		{name: "a database with a slash", secret: full, opts: mysql.Options{DSN: "/a%2Fb"}, want: "tcp db.example:3307 verified as db.example", db: "a/b"},
		{name: "a network of the program", secret: full, opts: mysql.Options{DSN: "ssh(db:7)/e"}, want: "ssh db:7 verified as db"},
		{name: "a network of the program, with an address of its own", secret: full, opts: mysql.Options{DSN: "cloud(project:region:instance)/e?tls=false"}, want: "cloud project:region:instance plain, no password"},
		{name: "a network of the program, the secret's host", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.Net = "ssh" })}, want: "ssh db.example:3307 verified as db.example"},
		{name: "a network of the program, Options' host", secret: full, opts: mysql.Options{Host: "o", DSN: "ssh(db:7)/e"}, want: "ssh o:3306 verified as o"},

		// Who decides on TLS: the host really dialled.
		{name: "loopback", secret: onLocal, want: "tcp 127.0.0.1:3306 plain"},
		{name: "localhost", secret: full, opts: mysql.Options{Host: "localhost"}, want: "tcp localhost:3306 plain"},
		{name: "IPv6 loopback", secret: full, opts: mysql.Options{Host: "::1"}, want: "tcp [::1]:3306 plain"},
		{name: "loopback in IPv6", secret: full, opts: mysql.Options{Host: "::ffff:127.0.0.1"}, want: "tcp [::ffff:127.0.0.1]:3306 plain"},
		{name: "an address that begins like loopback", secret: full, opts: mysql.Options{Host: "127.evil.example"}, want: "tcp 127.evil.example:3306 verified as 127.evil.example"},
		{name: "any address", secret: full, opts: mysql.Options{Host: "0.0.0.0"}, want: "tcp 0.0.0.0:3306 verified as 0.0.0.0"},
		{name: "loopback by a network of the program", secret: full, opts: mysql.Options{DSN: "ssh(127.0.0.1:7)/"}, want: "ssh 127.0.0.1:7 verified as 127.0.0.1"},
		{name: "a socket", secret: full, opts: mysql.Options{DSN: "unix(/run/my.sock)/"}, want: "unix /run/my.sock plain", db: "app"},
		{name: "a socket in Config", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.Net, c.Addr = "unix", "@abstract" })}, want: "unix @abstract plain"},
		{name: "a socket in Options", secret: full, opts: mysql.Options{Host: "/run/my.sock"}, want: "unix /run/my.sock plain"},
		{name: "a socket in the secret", secret: onSock, want: "unix /run/my.sock plain"},
		{name: "a socket in the secret, DSN", secret: onSock, opts: mysql.Options{DSN: "/e"}, want: "unix /run/my.sock plain", db: "e"},

		{name: "said: false", secret: full, opts: mysql.Options{DSN: "/?tls=false"}, want: "tcp db.example:3307 plain, no password"},
		{name: "said: 0", secret: full, opts: mysql.Options{DSN: "/?tls=0"}, want: "tcp db.example:3307 plain, no password"},
		{name: "said: skip-verify", secret: full, opts: mysql.Options{DSN: "/?tls=skip-verify"}, want: "tcp db.example:3307 unverified"},
		{name: "said: true", secret: full, opts: mysql.Options{DSN: "/?tls=true"}, want: "tcp db.example:3307 verified as db.example"},
		{name: "said: true, for a host of the DSN", secret: full, opts: mysql.Options{DSN: "tcp(d)/?tls=true"}, want: "tcp d:3306 verified as d"},
		{name: "said: true, for a host of Options", secret: full, opts: mysql.Options{DSN: "tcp(d)/?tls=true", Host: "o"}, want: "tcp o:3306 verified as o"},
		{name: "said: true on loopback", secret: onLocal, opts: mysql.Options{DSN: "/?tls=true"}, want: "tcp 127.0.0.1:3306 verified as 127.0.0.1"},
		{name: "said: preferred on loopback", secret: onLocal, opts: mysql.Options{DSN: "/?tls=preferred"}, want: "tcp 127.0.0.1:3306 unverified or plain"},
		{name: "said: nothing, in so many words", secret: full, opts: mysql.Options{DSN: "/?tls="}, want: "tcp db.example:3307 verified as db.example"},
		{name: "said: a registered one", secret: full, opts: mysql.Options{DSN: "/?tls=own"}, want: "tcp db.example:3307 verified as own.example"},
		{name: "said: a registered one without a name", secret: full, opts: mysql.Options{DSN: "tcp(d)/?tls=nameless"}, want: "tcp d:3306 verified as d"},
		{name: "said by Config", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.TLSConfig = "true" })}, want: "tcp db.example:3307 verified as db.example"},
		{name: "said by Config: false", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.TLSConfig = "false" })}, want: "tcp db.example:3307 plain, no password"},
		{name: "said by a parsed Config", secret: full, opts: mysql.Options{Config: parsed(t, "/?tls=true")}, want: "tcp db.example:3307 verified as db.example"},
		{name: "said by a parsed Config, for its host", secret: full, opts: mysql.Options{Config: parsed(t, "tcp(d)/?tls=nameless")}, want: "tcp d:3306 verified as d"},
		{name: "said by a parsed Config: false", secret: full, opts: mysql.Options{Config: parsed(t, "/?tls=false")}, want: "tcp db.example:3307 plain, no password"},
		{name: "Config.TLS", secret: full, opts: mysql.Options{Config: config(func(c *godriver.Config) { c.TLS = &tls.Config{ServerName: "n"} })}, want: "tcp db.example:3307 verified as n"},
		{name: "Options.TLS", secret: full, opts: mysql.Options{TLS: &tls.Config{RootCAs: x509.NewCertPool()}}, want: "tcp db.example:3307 verified as db.example"},
		{name: "Options.TLS on loopback", secret: onLocal, opts: mysql.Options{TLS: &tls.Config{ServerName: "db"}}, want: "tcp 127.0.0.1:3306 verified as db"},

		// Who gets a password that is asked for.
		{name: "a key", secret: full, opts: mysql.Options{DSN: "/?tls=false", ServerPubKey: &key.PublicKey}, want: "tcp db.example:3307 plain, with a key"},
		{name: "a key in the DSN", secret: full, opts: mysql.Options{DSN: "/?tls=false&serverPubKey=registered"}, want: "tcp db.example:3307 plain, with a key"},
		{name: "a key for a dial function", secret: full, opts: mysql.Options{ServerPubKey: &key.PublicKey, Config: config(func(c *godriver.Config) { c.Net, c.TLSConfig, c.DialFunc = "ssh", "false", dial })}, want: "ssh db.example:3307 plain, with a key"},
		{name: "a key on loopback", secret: onLocal, opts: mysql.Options{ServerPubKey: &key.PublicKey}, want: "tcp 127.0.0.1:3306 plain, with a key"},
		{name: "clear text to a verified server", secret: full, opts: mysql.Options{DSN: "/?allowCleartextPasswords=true"}, want: "tcp db.example:3307 verified as db.example"},
		{name: "clear text on loopback", secret: onLocal, opts: mysql.Options{DSN: "/?allowCleartextPasswords=true"}, want: "tcp 127.0.0.1:3306 plain"},
		{
			name: "clear text to a server verified by a function", secret: full,
			opts: mysql.Options{DSN: "/?allowCleartextPasswords=true&allowOldPasswords=true", TLS: &tls.Config{
				InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return errSeen },
			}},
			want: "tcp db.example:3307 unverified",
		},
		{name: "fallback allowed, without TLS", secret: full, opts: mysql.Options{DSN: "/?tls=false&allowFallbackToPlaintext=true"}, want: "tcp db.example:3307 plain, no password"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := merged(t, test.secret, test.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := attempt(cfg); got != test.want {
				t.Errorf("attempt: %s, want %s", got, test.want)
			}
			if test.db != "" && cfg.DBName != test.db {
				t.Errorf("database %q, want %q", cfg.DBName, test.db)
			}
			if cfg.User != "u" || cfg.Passwd != "s3cret" {
				t.Errorf("user %q, password %q, want the secret's", cfg.User, cfg.Passwd)
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		secret string
		opts   mysql.Options
		want   string
	}{
		{"no host anywhere", bare, mysql.Options{}, `has no field "host", and no option names a host`},
		{"no host in the DSN either", bare, mysql.Options{DSN: "/e"}, `has no field "host", and no option names a host`},
		{"no host in a parsed Config", bare, mysql.Options{Config: parsed(t, "/e")}, `has no field "host", and no option names a host`},
		{"a user in the DSN", bare, mysql.Options{DSN: "x@tcp(h)/d"}, "Options.DSN names a user; take it out"},
		{"a password in the DSN", bare, mysql.Options{DSN: ":hunter2@tcp(h)/d"}, "Options.DSN names a password; take it out"},
		{"a user in Config", bare, mysql.Options{Config: config(func(c *godriver.Config) { c.User = "x" })}, "Options.Config.User is set; take it out"},
		{"a password in Config", bare, mysql.Options{Config: config(func(c *godriver.Config) { c.Passwd = "hunter2" })}, "Options.Config.Passwd is set; take it out"},
		{"DSN and Config", full, mysql.Options{DSN: "/", Config: config(func(*godriver.Config) {})}, "Options.DSN and Options.Config are both set"},
		{"a broken DSN", bare, mysql.Options{DSN: "tcp(h)"}, "Options.DSN cannot be parsed"},
		{"the reason", bare, mysql.Options{DSN: "tcp(h)"}, "missing the slash separating the database name"},
		{"an address that nobody closes", bare, mysql.Options{DSN: "tcp(h/d"}, "missing closing brace"},
		{"a password that breaks the DSN", bare, mysql.Options{DSN: "u:hunter2/x@tcp(h)?x"}, "Options.DSN cannot be parsed"},
		{"a database that cannot be unescaped", bare, mysql.Options{DSN: "tcp(h)/hunter2%zz"}, "Options.DSN cannot be parsed"},
		{"a value that is none", bare, mysql.Options{DSN: "tcp(h)/d?parseTime=hunter2"}, "the driver does not take the value of parseTime"},
		{"a duration that is none", bare, mysql.Options{DSN: "tcp(h)/d?timeout=hunter2"}, "the driver does not take the value of timeout"},
		{"a TLS configuration that is none", bare, mysql.Options{DSN: "tcp(h)/d?tls=nope"}, "the driver does not take the value of tls"},
		{"a key that is none", bare, mysql.Options{DSN: "tcp(h)/d?serverPubKey=nope"}, "the driver does not take the value of serverPubKey"},
		{"a parameter of the server that cannot be unescaped", bare, mysql.Options{DSN: "tcp(h)/d?hunter2=%zz"}, "Options.DSN cannot be parsed"},
		{"strict", bare, mysql.Options{DSN: "tcp(h)/d?strict=true"}, "Options.DSN says strict"},
		{"an empty host", bare, mysql.Options{DSN: "tcp(:3306)/d"}, "Options.DSN names an empty host"},
		{"a port that is none", bare, mysql.Options{DSN: "tcp(h:mysql)/d"}, "Options.DSN names a port that is not a number"},
		{"a port that is zero", bare, mysql.Options{DSN: "tcp(h:0)/d"}, "Options.DSN names a port that is not a number"},
		{"an empty port", bare, mysql.Options{DSN: "tcp(h:)/d"}, "Options.DSN names a port that is not a number"},
		{"an address that is none", bare, mysql.Options{DSN: "tcp(a:b:c)/d"}, "is not host, host:port or [IPv6]:port"},
		{"brackets around a name", bare, mysql.Options{DSN: "tcp([[h]])/d"}, "is not host, host:port or [IPv6]:port"},
		{"a port in Config that is none", bare, mysql.Options{Config: config(func(c *godriver.Config) { c.Addr = "h:mysql" })}, "Options.Config names a port that is not a number"},
		{"no socket", full, mysql.Options{DSN: "unix/d"}, "names the network unix without a socket"},
		{"no socket in Config", full, mysql.Options{Config: config(func(c *godriver.Config) { c.Net = "unix" })}, "names the network unix without a socket"},
		{"a network of the program without an address", full, mysql.Options{DSN: "ssh/d"}, "Options.DSN cannot be parsed"},
		{"a port without a host", full, mysql.Options{Port: 3306}, "Options.Port is set without Options.Host"},
		{"a port of a socket", full, mysql.Options{Host: "/run/my.sock", Port: 3306}, "Options.Host is a socket, which has no port"},
		{"two words on TLS", full, mysql.Options{DSN: "/?tls=true", TLS: &tls.Config{}}, "Options.TLS is set, and Options.DSN says tls too"},
		{"two words on TLS in Config", full, mysql.Options{Config: config(func(c *godriver.Config) { c.TLS = &tls.Config{} }), TLS: &tls.Config{}}, "Options.TLS is set, and Options.Config says tls too"},
		{"a TLS configuration in Config that is none", full, mysql.Options{Config: config(func(c *godriver.Config) { c.TLSConfig = "nope" })}, "Options.Config says tls=nope, which is neither"},
		{"a key in Config that is none", full, mysql.Options{Config: config(func(c *godriver.Config) { c.ServerPubKey = "nope" })}, "unknown server pub key name: nope"},

		{"preferred", full, mysql.Options{DSN: "/?tls=preferred"}, "tls=preferred, or allowFallbackToPlaintext, goes on in clear text"},
		{"preferred, for a host that is known", bare, mysql.Options{DSN: "tcp(d)/?tls=preferred"}, "tls=preferred, or allowFallbackToPlaintext, goes on in clear text"},
		{"preferred in a parsed Config", full, mysql.Options{Config: parsed(t, "/?tls=preferred")}, "tls=preferred, or allowFallbackToPlaintext, goes on in clear text"},
		{"preferred in Config", full, mysql.Options{Config: config(func(c *godriver.Config) { c.TLSConfig = "preferred" })}, "tls=preferred, or allowFallbackToPlaintext, goes on in clear text"},
		{"fallback", full, mysql.Options{DSN: "/?allowFallbackToPlaintext=true"}, "tls=preferred, or allowFallbackToPlaintext, goes on in clear text"},
		{"fallback with Options.TLS", full, mysql.Options{DSN: "/?allowFallbackToPlaintext=true", TLS: &tls.Config{}}, "tls=preferred, or allowFallbackToPlaintext, goes on in clear text"},
		{"clear text to anybody", full, mysql.Options{DSN: "/?allowCleartextPasswords=true&tls=skip-verify"}, "allowCleartextPasswords gives the password to whoever answers"},
		{"clear text without TLS", full, mysql.Options{DSN: "/?allowCleartextPasswords=true&tls=false"}, "allowCleartextPasswords gives the password to whoever answers"},
		{"old passwords to anybody", full, mysql.Options{DSN: "/?allowOldPasswords=true&tls=skip-verify"}, "allowOldPasswords gives whoever answers"},
		{"two keys", full, mysql.Options{DSN: "/?serverPubKey=keyturn+none", ServerPubKey: &key.PublicKey}, "Options.ServerPubKey is set, and Options.DSN says serverPubKey too"},
		{"a key that encrypts nothing", full, mysql.Options{ServerPubKey: &rsa.PublicKey{N: big.NewInt(1), E: 3}}, "Options.ServerPubKey: crypto/rsa"},
		{"no key", full, mysql.Options{ServerPubKey: &rsa.PublicKey{}}, "Options.ServerPubKey: crypto/rsa"},
		{"a key that TLS passes by", full, mysql.Options{DSN: "/?tls=skip-verify", ServerPubKey: &key.PublicKey}, "a public key of the server does nothing where there is TLS"},
		{"a key for a network of the program", full, mysql.Options{DSN: "ssh(db:7)/?tls=false", ServerPubKey: &key.PublicKey}, "set Options.Config.DialFunc for the network ssh"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := merged(t, test.secret, test.opts)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q quotes the DSN", err)
			}
		})
	}
}

// The hooks of the user's configuration stay.
func TestConfigIsKept(t *testing.T) {
	name, password := newUser(t, mariadb)
	_, c := newCache(t, document(t, mariadb, name, password))
	var before, dialled int
	cfg := config(func(c *godriver.Config) {
		c.ParseTime = true
		c.Params = map[string]string{"wait_timeout": "77"}
		c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled++
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	if err := cfg.Apply(godriver.BeforeConnect(func(context.Context, *godriver.Config) error { before++; return nil })); err != nil {
		t.Fatal(err)
	}
	db := open(t, c, &mysql.Options{Config: cfg})
	cfg.Params["wait_timeout"] = "99" // it was copied
	var timeout int
	if err := db.QueryRowContext(t.Context(), "select @@wait_timeout").Scan(&timeout); err != nil {
		t.Fatal(err)
	}
	if before != 1 || dialled != 1 || timeout != 77 {
		t.Errorf("BeforeConnect called %d times, DialFunc %d, wait_timeout %d, want 1, 1, 77", before, dialled, timeout)
	}
}

// Servers of Amazon RDS are trusted where nobody says whom to trust.
func TestRoots(t *testing.T) {
	own := x509.NewCertPool()
	for name, test := range map[string]struct {
		opts mysql.Options
		want *x509.CertPool
	}{
		"nothing said":           {mysql.Options{}, rdsroots.Pool()},
		"said: true":             {mysql.Options{DSN: "/?tls=true"}, rdsroots.Pool()},
		"Options.TLS":            {mysql.Options{TLS: &tls.Config{ServerName: "x"}}, rdsroots.Pool()},
		"Options.TLS with roots": {mysql.Options{TLS: &tls.Config{RootCAs: own}}, own},
		"said: skip-verify":      {mysql.Options{DSN: "/?tls=skip-verify"}, nil},
	} {
		cfg, err := merged(t, full, test.opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.TLS.RootCAs; (got == nil) != (test.want == nil) || got != nil && !got.Equal(test.want) {
			t.Errorf("%s: other roots than expected", name)
		}
	}
}

func TestOtherEngine(t *testing.T) {
	for engine, want := range map[string]string{
		"mysql": "", "MySQL": "", "mariadb": "", "aurora-mysql": "",
		"postgres": "names postgres, and this connector is for mysql", "aurora-postgresql": "names aurora-postgresql",
	} {
		_, err := merged(t, `{"engine":"`+engine+`","username":"u","password":"s3cret","host":"h"}`, mysql.Options{})
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("engine %s: %v, want %q", engine, err, want)
		}
	}
	cfg, err := merged(t, `{"login":"u","password":"s3cret","host":"h"}`, mysql.Options{Keys: dbconn.Keys{Username: "login"}})
	if err != nil || cfg.User != "u" {
		t.Errorf("user by another key: %v", err)
	}
}
