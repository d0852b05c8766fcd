// Package redact gives the types that hold a secret one way to print: not at all.
package redact

import (
	"fmt"
	"io"
	"log/slog"
)

// Text is what stands wherever a secret would have been printed.
const Text = "[redacted]"

// Mark is embedded, under an unexported name, by every type that holds a
// secret. Its methods are promoted to the value and to the pointer, and fmt,
// log/slog, encoding/json, encoding/xml and text/template call them before
// they look inside.
//
// They are half of the protection only: nobody calls methods on an unexported
// field, fmt prints such a field by reflection. So the secret itself must lie
// behind a closure ([Hide]), of which reflection sees an address.
type Mark struct{}

// Format writes [Text], whatever the verb and the flags. String alone would not
// do: %d, %t and their like go past it and print the fields.
func (Mark) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, Text) }

// String returns [Text].
func (Mark) String() string { return Text }

// GoString returns [Text].
func (Mark) GoString() string { return Text }

// LogValue returns [Text].
func (Mark) LogValue() slog.Value { return slog.StringValue(Text) }

// MarshalText returns [Text].
func (Mark) MarshalText() ([]byte, error) { return []byte(Text), nil }

// MarshalJSON returns [Text] as a JSON string.
func (Mark) MarshalJSON() ([]byte, error) { return []byte(`"` + Text + `"`), nil }

// Hide returns a function that yields s. What holds the function holds the
// secret, and shows an address to whoever walks it by reflection; a string, a
// byte slice or a pointer to a struct would be printed by some verb.
func Hide(s string) func() string { return func() string { return s } }
