package dbconn

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/redact"
	"github.com/keyturn/keyturn/internal/retire"
)

// mark is embedded under this name so that only its methods show, not a field.
type mark = redact.Mark

// Credentials are what one version of a secret says about logging in, completed
// by the connector's Options. They print as "[redacted]". In an unexported field,
// where fmt calls no methods, it prints the fields, and an address in the place of
// the password.
type Credentials struct {
	mark

	Username string
	Host     string // never empty when a [Driver] gets it
	Port     int    // 0: the driver's default
	Database string // "": the driver's default

	// Address is the one of the server's addresses to log in at, as
	// [Driver.Addresses] has it. Its Addr is empty: whichever.
	Address Address

	password func() string // a closure: see redact.Hide
	conn     *retire.Conn  // of the connection that is opened with them
}

// Password returns the password. It goes into a field of the driver's
// configuration, never into a connection string: any password must work, also
// one with a quote or a space in it.
func (c Credentials) Password() string {
	if c.password == nil {
		return ""
	}
	return c.password()
}

// Server returns host and port, as errors name the server.
func (c Credentials) Server() string { return c.endpoint().String() }

func (c Credentials) endpoint() endpoint { return endpoint{c.Host, c.Port} }

// Retired reports whether the connection that was opened with these credentials
// is to make room for one with a newer version: see Options.KeepOld. A driver's
// hook asks when the connection is checked out of the pool, and discards it if so.
// It never waits.
func (c Credentials) Retired() bool { return c.conn != nil && c.conn.Retired() }

// decode reads the credentials out of a version. Its errors name the secret, the
// version and the field, never a value. Source of the fields: "JSON structure of
// AWS Secrets Manager secrets" in the AWS Secrets Manager User Guide.
//
// It decodes into a map and not into a struct: to encoding/json "Password" is as
// good as "password", to the other readers of the secret it is not.
func decode(s *cache.Secret, keys Keys, engines []string) (Credentials, error) {
	keys.Username = cmp.Or(keys.Username, "username")
	keys.Password = cmp.Or(keys.Password, "password")
	keys.Host = cmp.Or(keys.Host, "host")
	keys.Port = cmp.Or(keys.Port, "port")
	keys.Database = cmp.Or(keys.Database, "dbname")
	keys.Engine = cmp.Or(keys.Engine, "engine")
	var fields map[string]json.RawMessage
	if err := s.Decode(&fields); err != nil {
		return Credentials{}, fmt.Errorf("dbconn: a database secret is a JSON object with the fields %s and %s: %w", keys.Username, keys.Password, err)
	}
	wrong := func(field, problem string) (Credentials, error) {
		return Credentials{}, fmt.Errorf("dbconn: secret %q (version %s): field %q %s", s.Name(), s.VersionID(), field, problem)
	}
	var c Credentials
	password, engine := "", ""
	texts := map[string]*string{keys.Username: &c.Username, keys.Password: &password, keys.Host: &c.Host, keys.Database: &c.Database}
	if engines != nil {
		texts[keys.Engine] = &engine
	}
	for field, to := range texts {
		if raw := fields[field]; raw != nil && json.Unmarshal(raw, to) != nil {
			return wrong(field, "is not a string")
		}
	}
	if c.Username == "" {
		return wrong(keys.Username, "is missing or empty")
	}
	if password == "" {
		return wrong(keys.Password, "is missing or empty")
	}
	if engine = strings.ToLower(engine); engine != "" && !slices.Contains(engines, engine) {
		return wrong(keys.Engine, fmt.Sprintf("names %s, and this connector is for %s; use the package for that, or another secret", known(engine), engines[0]))
	}
	port, err := parsePort(fields[keys.Port])
	if err != nil {
		return wrong(keys.Port, "is not a number from 1 to 65535")
	}
	c.Port, c.password = port, redact.Hide(password)
	return c, nil
}

// known returns an engine that AWS writes into secrets, and of others, which may
// be anything, only that they are others.
func known(engine string) string {
	switch engine {
	case "postgres", "aurora-postgresql", "mysql", "mariadb", "aurora-mysql", "oracle", "sqlserver", "db2", "redshift", "mongo":
		return engine
	}
	return "another engine"
}

// parsePort takes a port as AWS writes it, which is either way. Absent is 0.
func parsePort(raw json.RawMessage) (int, error) {
	text := string(raw)
	if text == "" || text == "null" || text == `""` {
		return 0, nil
	}
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, strconv.ErrRange
	}
	return int(port), nil
}
