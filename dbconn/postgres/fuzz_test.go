package postgres_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/dbconn/postgres"
)

// pgxReads reports whether pgx reads a setting out of the text.
func pgxReads(text, key string) bool {
	// pgx refuses keys that are not allowed, one at a time: allow what it
	// objects to until it objects to nothing, or to the key.
	allowed := []string{"application_name"}
	for range 30 {
		_, err := pgconn.ParseConfigWithOptions(text, pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowed})
		if err == nil || !strings.Contains(err.Error(), "is not in ConnStringAllowedKeys") {
			return false
		}
		_, rest, _ := strings.Cut(err.Error(), `: connection string key `)
		quoted, _ := strconv.QuotedPrefix(rest)
		found, err := strconv.Unquote(quoted)
		if err != nil {
			return true // not to be told from here
		}
		if found == key {
			return true
		}
		allowed = append(allowed, found)
	}
	return false
}

// Whatever the text, what it does not say is the secret's, and TLS is verified.
func FuzzDSN(f *testing.F) {
	for _, seed := range []string{
		"", "host=d port=7 dbname=e", "postgres://d:7/e?sslmode=require", "host=", `application_name=x\`, "sslmode=''", "host='a b' user=x",
		"postgres://u:p@h/d", "postgres://[::1]:7,b/d?host=x&%68ost=y", "postgres://?", "service=x", "ssl=true", "postgres:///?ssl=true", "dbname=app\u00a0sslmode=disable",
		"host=@x", "host=,", "hostaddr=1", "port=1", "a=b c='d\\'e' f = g", "postgres://d,/app", "postgres:// /", "host=d sslmode=prefer",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Files are the machine's, not the text's.
		if strings.Contains(text, "`") || strings.Contains(text, "service") || strings.Contains(text, "file") || strings.Contains(text, "ssl") && !strings.Contains(text, "sslmode") {
			return
		}
		cfg, err := merged(t, `{"username":"u","password":"p","host":"db.example","port":5433,"dbname":"app"}`, postgres.Options{DSN: text})
		if err != nil {
			return
		}
		got := attempts(cfg)
		none, err := pgx.ParseConfig("")
		if err != nil {
			t.Fatal(err)
		}
		if read, err := pgx.ParseConfig(text); err == nil && (read.User != "" && read.User != none.User || read.Password != none.Password) {
			t.Errorf("%q was taken with a user or a password in it", text)
		}
		if !pgxReads(text, "host") && !strings.HasPrefix(got, "db.example:5433 ") {
			t.Errorf("%q names no host, yet goes to %s", text, got)
		}
		if !pgxReads(text, "sslmode") && !strings.Contains(text, "ssl=") && strings.Contains(got, "unverified") {
			t.Errorf("%q says nothing of TLS, yet goes to %s", text, got)
		}
		if !pgxReads(text, "host") && !pgxReads(text, "sslmode") && !strings.Contains(got, "verified as db.example") {
			t.Errorf("%q says neither host nor TLS, yet goes to %s", text, got)
		}
	})
}
