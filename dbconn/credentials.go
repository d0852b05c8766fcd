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
// by the connector's Options. They print as "[redacted]" wherever they are
// printed.
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

// document is the JSON of a database secret. Source: "JSON structure of AWS
// Secrets Manager secrets" in the AWS Secrets Manager User Guide.
type document struct {
	Username string          `json:"username"`
	Password string          `json:"password"`
	Host     string          `json:"host"`
	Port     json.RawMessage `json:"port"` // a number, or a string that holds one
	DBName   string          `json:"dbname"`
}

// decode reads the credentials out of a version. Its errors name the secret, the
// version and the field, never a value.
func decode(s *cache.Secret) (Credentials, error) {
	var d document
	if err := s.Decode(&d); err != nil {
		return Credentials{}, fmt.Errorf("dbconn: a database secret is a JSON object with the fields username and password: %w", err)
	}
	if d.Username == "" {
		return Credentials{}, lacks(s, "username")
	}
	if d.Password == "" {
		return Credentials{}, lacks(s, "password")
	}
	port, err := parsePort(d.Port)
	if err != nil {
		return Credentials{}, fmt.Errorf("dbconn: secret %q (version %s): field %q is not a number from 1 to 65535", s.Name(), s.VersionID(), "port")
	}
	return Credentials{
		Username: d.Username,
		Host:     d.Host,
		Port:     port,
		Database: d.DBName,
		password: redact.Hide(d.Password),
	}, nil
}

func lacks(s *cache.Secret, field string) error {
	return fmt.Errorf("dbconn: secret %q (version %s): field %q is missing or empty", s.Name(), s.VersionID(), field)
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
