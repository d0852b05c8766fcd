package dbconn

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/redact"
)

// withoutPassword returns err, or, if its text quotes the password, an error
// without that. Drivers do: some put what they cannot parse, or the whole data
// source name, into the message, as it is or escaped for where it stood.
func withoutPassword(err error, password string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	clean := text
	for _, form := range []string{password, url.QueryEscape(password), url.PathEscape(password), url.UserPassword("", password).String()[1:], strconv.Quote(password)} {
		clean = strings.ReplaceAll(clean, form, redact.Text)
	}
	if clean == text {
		return err
	}
	return &quoted{text: clean, cause: func() error { return err }}
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
