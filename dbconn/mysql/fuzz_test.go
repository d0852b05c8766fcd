package mysql_test

import (
	"net"
	"strings"
	"testing"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn/mysql"
)

// Whatever the text, what it does not say is the secret's, TLS is verified, and no
// user and no password is taken from it.
func FuzzDSN(f *testing.F) {
	for _, seed := range []string{
		"", "/", "/app", "tcp(d:7)/e?tls=skip-verify", "tcp(d)/e?parseTime=true&loc=US%2FPacific", "unix(/run/my.sock)/e", "unix/e", "@/", "u:p@tcp(h)/d",
		"u:p/w@tcp(h)?x", "tcp([::1]:7)/", "tcp([::1])/", "tcp(::1)/", "(d)/", "tcp(:3306)/", "tcp(127.0.0.1:3306)/", "tcp/", "tcp()/", "ssh(x)/y", "/e?tls=preferred",
		"/e?allowFallbackToPlaintext=true", "/e?tls=false", "/e?tls=", "/e?tls=tRuE", "/e?tls=1&tls=0", "/a/b?c=/d", "/?strict=true", "/?a=%zz", "/e?serverPubKey=x",
		"/e?allowCleartextPasswords=true&tls=0", "tcp(a(b)c)/d", "tcp(d:7)/e?timeout=1h&readTimeout=1s", "tcp(d@e)/f", "\x00(\xff)/\xfe",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := merged(t, full, mysql.Options{DSN: text})
		if err != nil {
			return
		}
		got := attempt(cfg)
		if text == "" {
			text = "/"
		}
		read, err := godriver.ParseDSN(text)
		if err != nil {
			t.Fatalf("%q was taken, and the driver does not take it: %v", text, err)
		}
		if read.User != "" || read.Passwd != "" {
			t.Errorf("%q was taken with a user or a password in it", text)
		}
		if cfg.User != "u" || cfg.Passwd != "s3cret" {
			t.Errorf("%q: user %q, password %q", text, cfg.User, cfg.Passwd)
		}
		// The driver does not tell its default from the same said.
		if named := read.Net != "tcp" || read.Addr != "127.0.0.1:3306"; !named && !strings.Contains(text, "127.0.0.1") {
			if !strings.HasPrefix(got, "tcp db.example:3307 ") {
				t.Errorf("%q names no host, yet goes to %s", text, got)
			}
			if read.TLSConfig == "" && !strings.HasSuffix(got, " verified as db.example") {
				t.Errorf("%q says neither host nor TLS, yet goes to %s", text, got)
			}
		} else if named && strings.HasPrefix(got, "tcp db.example:3307 ") {
			t.Errorf("%q names %s, yet goes to %s", text, read.Addr, got)
		}
		if strings.Contains(got, "unverified") != (read.TLSConfig == "skip-verify" || read.TLSConfig == "preferred") {
			t.Errorf("%q says tls=%q, yet goes to %s", text, read.TLSConfig, got)
		}
		host, _, _ := net.SplitHostPort(cfg.Addr)
		local := cfg.Net == "unix" || strings.HasPrefix(cfg.Net, "tcp") && (host == "localhost" || net.ParseIP(host).IsLoopback())
		if strings.HasSuffix(got, " plain") && !local && read.ServerPubKey == "" {
			t.Errorf("%q goes to %s, with a password for whoever answers", text, got)
		}
		if strings.HasSuffix(got, " or plain") && !local {
			t.Errorf("%q goes to %s", text, got)
		}
	})
}
