// Package dbsecret is what the targets for databases have in common: it reads the
// secret of a database user, and finds the read replicas that are named there.
package dbsecret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/rotation"
)

// Fields are those of a secret, under the names that AWS's own functions give them.
// The errors of its methods name fields, never what is in them.
//
// It is a map, not a struct: for encoding/json "Password" is as good as "password",
// for the other readers of the secret it is not.
type Fields map[string]json.RawMessage

// Of returns the fields of a value, which the caller may change.
func Of(v *rotation.Value) (Fields, error) {
	var f Fields
	if err := v.Decode(&f); err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errors.New("the secret's value is not a JSON object")
	}
	return f, nil
}

// Text reads a string. One that is missing, or null, leaves to as it is.
func (f Fields) Text(key string, to *string) error {
	raw := f[key]
	if raw == nil || string(raw) == "null" {
		return nil
	}
	if json.Unmarshal(raw, to) != nil {
		return fmt.Errorf("the secret's %q is not a string", key)
	}
	// The servers end strings there: "app\x00x" would be the user app.
	if strings.ContainsRune(*to, 0) {
		return fmt.Errorf("the secret's %q has a NUL character", key)
	}
	return nil
}

// Need reads a string that must be there, and not empty.
func (f Fields) Need(key string, to *string) error {
	if f[key] == nil {
		return fmt.Errorf("the secret has no %q: add it", key)
	}
	if err := f.Text(key, to); err != nil {
		return err
	}
	if *to == "" {
		return fmt.Errorf("the secret's %q is empty: fill it", key)
	}
	return nil
}

// Port reads the port, a number or a string. One that is missing, or null, leaves
// to as it is.
func (f Fields) Port(to *uint16) error {
	raw := f["port"]
	if raw == nil || string(raw) == "null" {
		return nil
	}
	port, err := parsePort(strings.Trim(string(raw), `" `))
	if err != nil {
		return fmt.Errorf(`the secret's "port" %w`, err)
	}
	*to = port
	return nil
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, errors.New("is not a number from 1 to 65535") // and not err, which quotes it
	}
	return uint16(port), nil
}

// TLS reads "ssl": true and false, as booleans and as strings in any case, like AWS's
// functions. What is neither says nothing, and is nil; there that means an attempt
// without TLS after one with it, and here TLS.
func (f Fields) TLS() *bool {
	switch strings.ToLower(string(bytes.Trim(f["ssl"], `"`))) {
	case "true":
		return new(true)
	case "false":
		return new(false)
	}
	return nil
}

// Replicas reads the names of read replicas.
func (f Fields) Replicas() (names []string, err error) {
	if f["replicas"] == nil {
		return nil, nil
	}
	if json.Unmarshal(f["replicas"], &names) != nil {
		return nil, errors.New(`the secret's "replicas" is not a list of strings`)
	}
	if slices.Contains(names, "") {
		return nil, errors.New(`the secret's "replicas" has an empty string`)
	}
	return names, nil
}

// IsLoopback reports whether a host is this machine's loopback address.
func IsLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}
