package rotation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keyturn/keyturn/internal/redact"
)

// mark is embedded unexported: a field named Mark would be part of the API.
type mark = redact.Mark

// Value is the value of a version of a secret, or a generated password. It is
// immutable. It never shows what it holds: printed, logged or encoded in any
// way it is "[redacted]".
type Value struct {
	mark

	versionID string
	text      func() string
}

// NewValue returns a value that is not, or not yet, a version of a secret.
func NewValue(text string) *Value { return &Value{text: redact.Hide(text)} }

// VersionID returns the id of the version that has this value, and "" for one
// that is not stored.
func (v *Value) VersionID() string { return v.versionID }

// Text returns the value itself.
func (v *Value) Text() string {
	if v == nil || v.text == nil {
		return ""
	}
	return v.text()
}

// Decode decodes the value, which is JSON, into what p points to. The error
// names field and type at most, since those of encoding/json quote the value;
// it wraps nothing for the same reason.
func (v *Value) Decode(p any) error {
	if err := redact.Decode(v.Text(), p); err != nil {
		return fmt.Errorf("the secret's value: %w", err)
	}
	return nil
}

var (
	errNoJSON   = errors.New("the secret's value is not valid JSON")
	errNoObject = errors.New("the secret's value is not a JSON object")
)

// With returns a new value, not stored yet, in which the key of the JSON object
// has the given string. All else stays as it is, byte for byte: the order of
// the keys, numbers that no float64 holds, and what this library knows nothing
// of. A key that is not there is added at the end.
func (v *Value) With(key, text string) (*Value, error) {
	old := []byte(v.Text())
	if !json.Valid(old) {
		return nil, errNoJSON
	}
	encoded, err := quote(text)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(old))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errNoObject
	}
	var out bytes.Buffer
	copied, keys, found := int64(0), 0, false
	end := dec.InputOffset() // of the opening brace, and later of the last value
	for ; dec.More(); keys++ {
		name, err := dec.Token()
		if err != nil {
			return nil, errNoJSON // not reached, the text is valid
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, errNoJSON
		}
		// A key that is there twice is replaced twice: which of them counts
		// depends on who reads it.
		end = dec.InputOffset()
		if name == key {
			out.Write(old[copied : end-int64(len(raw))])
			out.Write(encoded)
			copied, found = end, true
		}
	}
	if !found {
		name, err := quote(key)
		if err != nil {
			return nil, err
		}
		out.Write(old[copied:end])
		if keys > 0 {
			out.WriteString(", ")
		}
		out.Write(name)
		out.WriteString(": ")
		out.Write(encoded)
		copied = end
	}
	out.Write(old[copied:])
	return NewValue(out.String()), nil
}

// quote returns s as a JSON string, without the escapes for HTML that would
// make it harder to read in the console.
func quote(s string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, errors.New("a string does not encode as JSON")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Unchanged returns an error that names the first key, in order of the alphabet,
// in which the two JSON objects differ, those in except aside. It is for
// [Target.Check]: promoting a pending value that lacks what was put into
// AWSCURRENT after it was made would undo the edit.
func Unchanged(current, pending *Value, except ...string) error {
	var c, p map[string]json.RawMessage
	if err := current.Decode(&c); err != nil {
		return err
	}
	if err := pending.Decode(&p); err != nil {
		return err
	}
	keys := slices.Concat(slices.Collect(maps.Keys(c)), slices.Collect(maps.Keys(p)))
	slices.Sort(keys)
	for _, key := range keys {
		if !slices.Contains(except, key) && !bytes.Equal(compact(c[key]), compact(p[key])) {
			return fmt.Errorf("the key %q is not the same", key)
		}
	}
	return nil
}

func compact(raw json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return nil // it is not there
	}
	return b.Bytes()
}
