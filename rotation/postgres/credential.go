package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/redact"
	"github.com/keyturn/keyturn/rotation"
)

// credential is what a value says.
type credential struct {
	host     string
	port     uint16
	user     string
	database string
	ssl      *bool         // nil: not said
	password func() string // see redact.Hide

	superuser bool // acts for others
	unproven  bool // where it logs in is said by the secret that is rotated
}

// parse reads a value. Its errors name keys, never what is in them.
func parse(v *rotation.Value) (*credential, error) {
	m, err := object(v)
	if err != nil {
		return nil, err
	}
	return parseObject(m)
}

// parseSuperuser reads the superuser's value. If Amazon RDS manages it, it says
// nothing about the server, which is that of the other secret then. The database
// is always that secret's: what is granted is granted there.
func parseSuperuser(v *rotation.Value, current *credential) (*credential, error) {
	m, err := object(v)
	if err != nil {
		return nil, superuserProblem(err)
	}
	elsewhere := m["host"] != nil
	if !elsewhere {
		m["host"] = json.RawMessage(strconv.Quote("replaced"))
		delete(m, "port")
	}
	c, err := parseObject(m)
	if err != nil {
		return nil, superuserProblem(err)
	}
	c.database, c.superuser = current.database, true
	if !elsewhere {
		c.host, c.port, c.ssl, c.unproven = current.host, current.port, current.ssl, true
	}
	return c, nil
}

func superuserProblem(err error) error {
	return rotation.Problem(rotation.ReasonSuperuser, "see that it names the right secret",
		fmt.Errorf("the superuser's secret is no credential: %w", err))
}

// object reads into a map, not a struct: for encoding/json "Password" is as good
// as "password", for the other readers of the secret it is not.
func object(v *rotation.Value) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := v.Decode(&m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("the secret's value is not a JSON object")
	}
	return m, nil
}

// masterARN returns the superuser's secret, "" if the value names none.
func masterARN(v *rotation.Value) (arn string, err error) {
	m, err := object(v)
	if err != nil {
		return "", err
	}
	return arn, text(m, "masterarn", &arn)
}

// replicaNames returns the read replicas that the value names.
func replicaNames(v *rotation.Value) (names []string, err error) {
	m, err := object(v)
	if err != nil || m["replicas"] == nil {
		return nil, err
	}
	if json.Unmarshal(m["replicas"], &names) != nil {
		return nil, errors.New(`the secret's "replicas" is not a list of strings`)
	}
	if slices.Contains(names, "") {
		return nil, errors.New(`the secret's "replicas" has an empty string`)
	}
	return names, nil
}

func parseObject(m map[string]json.RawMessage) (*credential, error) {
	c := &credential{port: 5432, database: "postgres"}
	password := ""
	for _, f := range []struct {
		key string
		to  *string
	}{{"host", &c.host}, {"username", &c.user}, {"password", &password}} {
		if m[f.key] == nil {
			return nil, fmt.Errorf("the secret has no %q: add it", f.key)
		}
		if err := text(m, f.key, f.to); err != nil {
			return nil, err
		}
		if *f.to == "" {
			return nil, fmt.Errorf("the secret's %q is empty: fill it", f.key)
		}
	}
	c.password = redact.Hide(password)
	if err := text(m, "dbname", &c.database); err != nil {
		return nil, err
	}
	// A list would be several servers, of which pgx takes whichever answers.
	if strings.Contains(c.host, ",") {
		return nil, errors.New(`the secret's "host" is a list: name one host`)
	}
	if raw := m["port"]; raw != nil && string(raw) != "null" {
		port, err := strconv.ParseUint(strings.Trim(string(raw), `" `), 10, 16)
		if err != nil || port == 0 {
			return nil, errors.New(`the secret's "port" is not a number from 1 to 65535`)
		}
		c.port = uint16(port)
	}
	c.ssl = ssl(m["ssl"])
	return c, nil
}

// text reads a string, which may be missing.
func text(m map[string]json.RawMessage, key string, to *string) error {
	raw := m[key]
	if raw == nil || string(raw) == "null" {
		return nil
	}
	if json.Unmarshal(raw, to) != nil {
		return fmt.Errorf("the secret's %q is not a string", key)
	}
	// PostgreSQL ends strings there: "app\x00x" would be the user app.
	if strings.ContainsRune(*to, 0) {
		return fmt.Errorf("the secret's %q has a NUL character", key)
	}
	return nil
}

// ssl reads true and false, as booleans and as strings in any case, like AWS's
// functions. What is neither says nothing, which there means an attempt without
// TLS after one with it, and here means TLS.
func ssl(raw json.RawMessage) *bool {
	switch strings.ToLower(string(bytes.Trim(raw, `"`))) {
	case "true":
		return new(true)
	case "false":
		return new(false)
	}
	return nil
}

// encrypted decides on TLS.
func (c *credential) encrypted() bool {
	if c.socket() {
		return false // PostgreSQL has none there
	}
	if c.ssl != nil && !c.unproven {
		return *c.ssl
	}
	return !c.loopback()
}

func (c *credential) loopback() bool {
	addr, err := netip.ParseAddr(c.host)
	return strings.EqualFold(c.host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// socket reports whether the host is a Unix socket's folder.
func (c *credential) socket() bool { return c.host[0] == '/' }

func (c *credential) address() string {
	return net.JoinHostPort(c.host, strconv.Itoa(int(c.port)))
}
