package mysql

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

// engines are the values of "engine" that belong to this package.
var engines = []string{"mysql", "mariadb", "aurora-mysql", "aurora"}

// credential is what a value says.
type credential struct {
	host     string
	port     uint16
	user     string
	database string        // "": none
	engine   string        // in lower case; the server is asked where it matters
	ssl      *bool         // nil: not said
	master   string        // id of the superuser's secret
	password func() string // see redact.Hide

	dialled  string // where host is, if that was resolved before
	unproven bool   // the host is another secret's
}

// maxPassword is where the servers stop, in bytes: a longer password could be set
// here, and be used by nobody.
const maxPassword = 255

// parse reads a value. Its errors name keys, never what is in them.
func parse(v *rotation.Value) (*credential, error) {
	m, err := object(v)
	if err != nil {
		return nil, err
	}
	return parseObject(m)
}

// parseSuperuser reads the superuser's value. If Amazon RDS manages it, it says
// nothing about the server, which is that of the other secret then.
func parseSuperuser(v *rotation.Value, current *credential) (*credential, error) {
	m, err := object(v)
	if err != nil {
		return nil, err
	}
	elsewhere := m["host"] != nil
	if !elsewhere {
		m["host"] = json.RawMessage(strconv.Quote("replaced"))
		delete(m, "port")
	}
	c, err := parseObject(m)
	if err != nil {
		return nil, err
	}
	c.database = ""
	if !elsewhere {
		c.host, c.port, c.unproven = current.host, current.port, true
	}
	return c, nil
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
	c := &credential{port: 3306}
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
	if len(password) > maxPassword {
		return nil, fmt.Errorf(`the secret's "password" has more than %d bytes: shorten it`, maxPassword)
	}
	c.password = redact.Hide(password)
	for key, to := range map[string]*string{"dbname": &c.database, "engine": &c.engine, "masterarn": &c.master} {
		if err := text(m, key, to); err != nil {
			return nil, err
		}
	}
	c.engine = strings.ToLower(c.engine)
	if c.engine != "" && !slices.Contains(engines, c.engine) {
		return nil, errors.New(`the secret's "engine" is not mysql, aurora-mysql or mariadb: use the package for it`)
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
	// The protocol ends strings there: "app\x00x" would be the user app.
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
		return false // nobody is on the way
	}
	if c.ssl != nil {
		return *c.ssl
	}
	return !c.local()
}

// local reports whether the server is on this machine.
func (c *credential) local() bool {
	if c.socket() || strings.EqualFold(c.host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(c.host)
	return err == nil && addr.Unmap().IsLoopback()
}

// socket reports whether the host is the path of a Unix socket.
func (c *credential) socket() bool { return c.host[0] == '/' }

func (c *credential) address() string {
	if c.socket() {
		return c.host
	}
	return net.JoinHostPort(c.host, strconv.Itoa(int(c.port)))
}
