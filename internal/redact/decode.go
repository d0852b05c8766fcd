package redact

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Decode decodes a JSON text into v. Its errors say what is wrong and where, by
// field and type, and wrap nothing: those of encoding/json, strconv and time
// quote the text.
func Decode(text string, v any) error {
	err := json.Unmarshal([]byte(text), v)
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not valid JSON (at byte %d)", syntax.Offset)
	}
	if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		// Value is a kind ("string", "object"), for numbers with the number itself behind it.
		kind, _, _ := strings.Cut(mismatch.Value, " ")
		if mismatch.Field == "" {
			return fmt.Errorf("a JSON %s cannot be decoded into %s", kind, mismatch.Type)
		}
		return fmt.Errorf("field %q: a JSON %s cannot be decoded into %s", mismatch.Field, kind, mismatch.Type)
	}
	if invalid, ok := errors.AsType[*json.InvalidUnmarshalError](err); ok {
		return invalid // speaks of v's type alone
	}
	return fmt.Errorf("a field's own decoding into %T fails (%T)", v, err)
}
