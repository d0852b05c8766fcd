package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
}

// parse reads a value. Its errors name keys, never what is in them.
//
// It reads into a map, not a struct: for encoding/json "Password" is as good as
// "password", for the other readers of the secret it is not.
func parse(v *rotation.Value) (*credential, error) {
	var m map[string]json.RawMessage
	if err := v.Decode(&m); err != nil {
		return nil, err
	}
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
	if c.ssl != nil {
		return *c.ssl
	}
	if strings.EqualFold(c.host, "localhost") {
		return false
	}
	addr, err := netip.ParseAddr(c.host)
	return err != nil || !addr.Unmap().IsLoopback()
}

// socket reports whether the host is a Unix socket's folder.
func (c *credential) socket() bool { return c.host[0] == '/' }

func (c *credential) address() string {
	return net.JoinHostPort(c.host, strconv.Itoa(int(c.port)))
}
