package postgres

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A dsn is a connection string, and which settings it says. pgx's own parser
// gives no way to tell a setting that was said from its default, and here that
// is all the difference: a host that nobody named is the secret's.
type dsn struct {
	text string
	said map[string]bool // by keyword
}

// newBase checks the options and decides what is not the secret's to name.
func newBase(opts *Options) (*base, error) {
	b := &base{opts: *opts, configs: make(map[place]*config)}
	var err error
	if b.dsn, err = readDSN(opts.DSN); err != nil {
		return nil, err
	}
	for _, key := range []string{"user", "password"} {
		if b.dsn.said[key] {
			return nil, fmt.Errorf("postgres: Options.DSN names a %s; take it out, user and password are the secret's", key)
		}
	}
	if b.dsn.said["port"] && !b.dsn.said["host"] {
		return nil, errors.New("postgres: Options.DSN names a port without a host; host and port come from one place, so name both or neither")
	}
	if opts.TLS != nil && b.dsn.said["sslmode"] {
		return nil, errors.New("postgres: Options.TLS and sslmode in Options.DSN are both set; set one of them")
	}
	cfg, err := b.dsn.parse(nil)
	if err != nil {
		return nil, err
	}
	switch {
	case opts.Host != "":
		b.host, b.port = opts.Host, opts.Port
	case b.saysHost(cfg):
		b.host, b.port = hosts(cfg), int(cfg.Port)
	}
	return b, nil
}

// saysHost reports whether the DSN or the environment names a host.
func (b *base) saysHost(cfg *pgx.ConnConfig) bool {
	if b.dsn.said["host"] || os.Getenv("PGHOST") != "" {
		return true
	}
	// A service file may, which pgx alone reads. What differs from the default
	// was said.
	none, err := pgx.ParseConfig("")
	return b.saysService() && err == nil && (cfg.Host != none.Host || cfg.Port != none.Port)
}

func (b *base) saysService() bool { return b.dsn.said["service"] || os.Getenv("PGSERVICE") != "" }

// hosts returns a name for the servers of cfg: the one, or the list.
func hosts(cfg *pgx.ConnConfig) string {
	list := []string{cfg.Host}
	for _, next := range cfg.Fallbacks {
		if next.Host != list[len(list)-1] {
			list = append(list, next.Host)
		}
	}
	return strings.Join(list, ",")
}

// settings returns what is to be added to the DSN for a server.
func (b *base) settings(at place) map[string]string {
	settings := make(map[string]string)
	hosts := strings.Split(at.host, ",")
	if b.opts.Host != "" || b.host == "" {
		settings["host"], settings["port"] = at.host, strconv.Itoa(at.port)
	}
	if b.opts.Database != "" || !b.dsn.said["dbname"] && os.Getenv("PGDATABASE") == "" && at.database != "" {
		settings["dbname"] = at.database
	}
	if !b.dsn.said["sslmode"] && os.Getenv("PGSSLMODE") == "" && !b.saysService() {
		// pgx's own default is "prefer": TLS that verifies nothing, and a
		// second attempt in clear text.
		settings["sslmode"] = "disable"
		for _, host := range hosts {
			if !local(host) {
				settings["sslmode"] = "verify-full"
			}
		}
	}
	if b.opts.TLS != nil {
		settings["sslmode"] = "require"
	}
	return settings
}

// local reports whether the host is this machine: a socket or a loopback
// address, where there is nobody on the way.
func local(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// readDSN finds out what the text says. It does not check it: parse does.
func readDSN(text string) (dsn, error) {
	d := dsn{text: text, said: make(map[string]bool)}
	if !d.isURL() {
		return d, d.readKeywords()
	}
	// Not by url.Parse: to libpq, whose rules pgx follows, a list of hosts with
	// ports is a URL, and a plus sign is no space.
	_, rest, _ := strings.Cut(text, "://")
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		user, _, password := strings.Cut(rest[:i], ":")
		d.said["user"], d.said["password"] = user != "", password
		rest = rest[i+1:]
	}
	rest, query, _ := strings.Cut(rest, "?")
	servers, database, _ := strings.Cut(rest, "/")
	d.said["host"], d.said["dbname"] = servers != "", database != ""
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		key, err := url.PathUnescape(key)
		if err != nil {
			return d, errDSN
		}
		d.say(key)
	}
	return d, nil
}

// isURL reports whether the text is a URL: pgx decides in the same way.
func (d dsn) isURL() bool {
	return strings.HasPrefix(d.text, "postgres://") || strings.HasPrefix(d.text, "postgresql://")
}

// readKeywords reads a text of keywords and values: key = value, or key =
// 'value', with a backslash before what would end the value. Source: "Keyword/
// Value Connection Strings" in the PostgreSQL documentation of libpq.
func (d dsn) readKeywords() error {
	rest := strings.TrimSpace(d.text)
	for rest != "" {
		key, value, ok := strings.Cut(rest, "=")
		if !ok {
			return errDSN
		}
		d.say(strings.TrimSpace(key))
		value = strings.TrimSpace(value)
		ends, from := " \t\n\r\v\f", 0
		if strings.HasPrefix(value, "'") {
			ends, from = "'", 1
		}
		i := from
		for i < len(value) && !strings.ContainsRune(ends, rune(value[i])) {
			if value[i] == '\\' {
				i++
			}
			i++
		}
		rest = strings.TrimSpace(value[min(i+from, len(value)):])
	}
	return nil
}

// say takes note of a keyword, under the name that this package knows it by.
func (d dsn) say(key string) {
	switch key {
	case "database":
		key = "dbname"
	case "ssl": // a URL's ssl=true is sslmode=require
		key = "sslmode"
	case "hostaddr":
		key = "host"
	}
	d.said[key] = true
}

// errDSN replaces the parser's own error, which quotes the text: a password that
// was put there against the rules, and broke it, would show.
var errDSN = errors.New("postgres: Options.DSN cannot be parsed; it is a URL (postgres://host:port/dbname?sslmode=verify-full) " +
	"or keywords and values (host=… port=… dbname=… sslmode=verify-full)")

// parse parses the text with further settings, which go before its own.
func (d dsn) parse(further map[string]string) (*pgx.ConnConfig, error) {
	text := d.text
	if d.isURL() {
		text = d.withQuery(further)
	} else {
		for key, value := range further {
			text += " " + key + "=" + quote(value)
		}
	}
	cfg, err := pgx.ParseConfig(text)
	if err == nil {
		return cfg, nil
	}
	// pgx's error is "cannot parse `TEXT`: what is wrong (why)", of which only
	// what is wrong surely quotes nothing.
	_, what, ok := strings.Cut(err.Error(), "`: ")
	if !ok || strings.Contains(d.text, "`") {
		return nil, errDSN
	}
	what, _, _ = strings.Cut(what, " (")
	return nil, fmt.Errorf("%w: %s", errDSN, what)
}

// withQuery returns the URL with further settings at the end of its query, where
// they go before everything else that it says.
func (d dsn) withQuery(further map[string]string) string {
	text, separator := d.text, "?"
	if strings.Contains(text, "?") {
		separator = "&"
	}
	for key, value := range further {
		text += separator + key + "=" + strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
		separator = "&"
	}
	return text
}

// quote quotes a value for a text of keywords and values.
func quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
