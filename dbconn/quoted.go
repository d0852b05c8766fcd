package dbconn

import (
	"strings"

	"github.com/keyturn/keyturn/internal/redact"
)

// withoutPassword returns err, or, if its text quotes the password, an error
// without that. Drivers do: some put what they cannot parse, or the whole data
// source name, into the message.
func withoutPassword(err error, password string) error {
	if err == nil || !strings.Contains(err.Error(), password) {
		return err
	}
	return &quoted{
		text:  strings.ReplaceAll(err.Error(), password, redact.Text),
		cause: func() error { return err },
	}
}

// quoted is an error whose driver has quoted the password. What it wraps still
// does, for those who take it out; it lies behind a function because fmt would
// walk into it.
type quoted struct {
	text  string
	cause func() error
}

func (e *quoted) Error() string { return e.text }
func (e *quoted) Unwrap() error { return e.cause() }
