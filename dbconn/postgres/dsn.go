package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A dsn is what a connection string says. pgx's own parser gives no way to tell
// a setting that was said from its default, and here that is all the difference:
// a host that nobody named is the secret's.
//
// So the text is read here, and what pgx gets to read is not the text but a new
// one made of what was found: the two cannot disagree. It is shorter to append
// settings to the user's text, where the last word counts; but then a text that
// ends in "host=", or in a backslash, swallows them.
type dsn map[string]string

// errDSN replaces the parser's own error, which quotes the text: a password that
// was put there against the rules, and broke it, would show.
var errDSN = errors.New("postgres: Options.DSN, or a PG* environment variable, cannot be parsed; the DSN is a URL " +
	"(postgres://host:port/dbname?sslmode=verify-full) or keywords and values (host=… port=… dbname=… sslmode=verify-full)")

// readDSN returns what the text says. A setting without a value is not said.
func readDSN(text string) (dsn, error) {
	d := make(dsn)
	read := d.readKeywords
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		read = d.readURL // as pgx decides it
	}
	if err := read(text); err != nil {
		return nil, err
	}
	// What pgx would not take as it stands is not taken here.
	if _, err := parse(text); err != nil {
		return nil, err
	}
	// To pgx, ssl=true is sslmode=require in a URL, and everything else a
	// parameter for the server, with clear text allowed.
	if value, ok := d["ssl"]; ok {
		if value != "true" {
			return nil, errors.New("postgres: Options.DSN says ssl, which is no setting of PostgreSQL; say sslmode")
		}
		delete(d, "ssl")
		d["sslmode"] = "require"
	}
	if _, ok := d["hostaddr"]; ok {
		return nil, errors.New("postgres: Options.DSN says hostaddr, which pgx does not know; say host")
	}
	for key, value := range d {
		if value == "" {
			delete(d, key)
		}
	}
	for _, key := range []string{"user", "password"} {
		if d[key] != "" {
			return nil, fmt.Errorf("postgres: Options.DSN names a %s; take it out, user and password are the secret's", key)
		}
	}
	switch {
	case d["host"] == "" && d["port"] != "":
		return nil, errors.New("postgres: Options.DSN names a port without a host; host and port come from one place, so name both or neither")
	case d["host"] != "" && emptyHost(d["host"]):
		return nil, errors.New("postgres: Options.DSN names an empty host, which pgx would take for the local machine")
	}
	return d, nil
}

// emptyHost reports whether one of a list of hosts is no name.
func emptyHost(list string) bool { return slices.Contains(strings.Split(list, ","), "") }

// say takes note of a setting. The last word counts.
func (d dsn) say(key, value string) {
	if key == "database" {
		key = "dbname"
	}
	d[key] = value
}

// sayEscaped takes note of a setting as it stands in a URL, where a plus sign is
// no space and spaces at the ends do not count.
func (d dsn) sayEscaped(key, value string) error {
	key, err := url.PathUnescape(strings.Trim(key, " "))
	if err != nil {
		return errDSN
	}
	value, err = url.PathUnescape(strings.Trim(value, " "))
	if err != nil {
		return errDSN
	}
	d.say(key, value)
	return nil
}

// readURL reads a URL. Not by url.Parse: to libpq, whose rules pgx follows, a
// list of hosts with ports is a URL too. Source: "Connection URIs" in the
// PostgreSQL documentation of libpq.
func (d dsn) readURL(text string) error {
	_, rest, _ := strings.Cut(text, "://")
	settings := make([][2]string, 0, 8)
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		user, password, _ := strings.Cut(rest[:i], ":")
		settings = append(settings, [2]string{"user", user}, [2]string{"password", password})
		rest = rest[i+1:]
	}
	rest, query, _ := strings.Cut(rest, "?")
	servers, database, _ := strings.Cut(rest, "/")
	hosts, ports, err := readServers(servers)
	if err != nil {
		return err
	}
	settings = append(settings, [2]string{"host", hosts}, [2]string{"port", ports}, [2]string{"dbname", database})
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || strings.Contains(value, "=") {
			return errDSN
		}
		settings = append(settings, [2]string{key, value})
	}
	for _, setting := range settings {
		if err := d.sayEscaped(setting[0], setting[1]); err != nil {
			return err
		}
	}
	return nil
}

// readServers reads the list of servers in a URL: host or [address], each with or
// without a port.
func readServers(servers string) (hosts, ports string, err error) {
	var h, p []string
	for server := range strings.SplitSeq(servers, ",") {
		host, port, _ := strings.Cut(server, ":")
		if address, ok := strings.CutPrefix(server, "["); ok {
			host, port, ok = strings.Cut(address, "]")
			if !ok || host == "" || port != "" && port[0] != ':' {
				return "", "", errDSN
			}
			port = strings.TrimPrefix(port, ":")
		}
		h, p = append(h, host), append(p, port)
	}
	hosts, ports = strings.Join(h, ","), strings.Join(p, ",")
	if strings.Trim(ports, ",") == "" {
		ports = ""
	}
	return hosts, ports, nil
}

// space is what separates keywords: ASCII's, not Unicode's.
const space = " \t\n\r\v\f"

// readKeywords reads a text of keywords and values: key = value, or key =
// 'value', with a backslash before what would end the value. Source: "Keyword/
// Value Connection Strings" in the PostgreSQL documentation of libpq.
func (d dsn) readKeywords(text string) error {
	for rest := strings.Trim(text, space); rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		key = strings.Trim(key, space)
		if !ok || key == "" || strings.ContainsAny(key, space) {
			return errDSN
		}
		value, left, ok := readValue(strings.TrimLeft(after, space))
		if !ok {
			return errDSN
		}
		d.say(key, value)
		rest = strings.TrimLeft(left, space)
	}
	return nil
}

// readValue reads the value at the start of the text, and returns what is left
// of that. It reports false for a quote that nobody closes.
func readValue(text string) (value, rest string, ok bool) {
	ends := space
	quoted := strings.HasPrefix(text, "'")
	if quoted {
		ends, text = "'", text[1:]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.IndexByte(ends, text[i]) >= 0:
			return b.String(), text[i+1:], true
		case text[i] == '\\':
			if i++; i == len(text) {
				return b.String(), "", !quoted
			}
		}
		b.WriteByte(text[i])
	}
	return b.String(), "", !quoted
}

// parse has pgx parse what was said, and further settings in the place of it.
func (d dsn) parse(further dsn) (*pgx.ConnConfig, error) { return parse(d.text() + further.text()) }

// text returns the settings as keywords and values.
func (d dsn) text() string {
	var text strings.Builder
	for key, value := range d {
		fmt.Fprintf(&text, " %s='%s'", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
	}
	return text.String()
}

// split takes the settings of a pool out: pgx would send them to the server.
func (d dsn) split() (pool dsn) {
	pool = make(dsn)
	for key, value := range d {
		if strings.HasPrefix(key, "pool_") {
			pool[key] = value
			delete(d, key)
		}
	}
	return pool
}

// parse has pgx parse a text, and tells what is wrong with it without quoting it.
func parse(text string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(text)
	if err == nil {
		return cfg, nil
	}
	what := reason(err)
	if what == "" || strings.Contains(text, "`") {
		return nil, errDSN
	}
	return nil, fmt.Errorf("%w: %s", errDSN, what)
}

// reason returns what pgx has against a text, without the text. The error is
// "cannot parse `TEXT`: what is wrong (why)", of which only what is wrong surely
// quotes nothing.
func reason(err error) string {
	_, what, _ := strings.Cut(err.Error(), "`: ")
	// Of TLS it names the mode, or a file.
	if !strings.HasPrefix(what, "failed to configure TLS") {
		what, _, _ = strings.Cut(what, " (")
	}
	return what
}
