package dbconn

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/redact"
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

	password func() string // a closure: see redact.Hide
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

// decode reads the credentials out of a version. Its errors name the secret, the
// version and the field, never a value. Source of the fields: "JSON structure of
// AWS Secrets Manager secrets" in the AWS Secrets Manager User Guide.
//
// It decodes into a map and not into a struct: to encoding/json "Password" is as
// good as "password", to the other readers of the secret it is not.
func decode(s *cache.Secret) (Credentials, error) {
	var fields map[string]json.RawMessage
	if err := s.Decode(&fields); err != nil {
		return Credentials{}, fmt.Errorf("dbconn: a database secret is a JSON object with the fields username and password: %w", err)
	}
	wrong := func(field, problem string) (Credentials, error) {
		return Credentials{}, fmt.Errorf("dbconn: secret %q (version %s): field %q %s", s.Name(), s.VersionID(), field, problem)
	}
	var c Credentials
	password := ""
	for field, to := range map[string]*string{"username": &c.Username, "password": &password, "host": &c.Host, "dbname": &c.Database} {
		if raw := fields[field]; raw != nil && json.Unmarshal(raw, to) != nil {
			return wrong(field, "is not a string")
		}
	}
	if c.Username == "" {
		return wrong("username", "is missing or empty")
	}
	if password == "" {
		return wrong("password", "is missing or empty")
	}
	port, err := parsePort(fields["port"])
	if err != nil {
		return wrong("port", "is not a number from 1 to 65535")
	}
	c.Port, c.password = port, redact.Hide(password)
	return c, nil
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
