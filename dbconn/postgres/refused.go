package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"iter"

	"github.com/jackc/pgx/v5/pgconn"
)

// refused reports whether err is the server refusing the login.
//
// By code, never by text: the server's texts follow its lc_messages. Source:
// "PostgreSQL Error Codes", Class 28.
func refused(err error) bool {
	for part := range parts(err) {
		if pgErr, ok := errors.AsType[*pgconn.PgError](part); ok {
			switch pgErr.Code {
			case "28P01", // invalid_password; a role that does not exist, too
				"28000": // invalid_authorization_specification: a role that may not log in
				return true
			}
		}
	}
	return false
}

// parts yields err and every error that it wraps. A pgx error may join those of
// several attempts, of which errors.AsType shows the first alone.
func parts(err error) iter.Seq[error] {
	return func(yield func(error) bool) { walk(err, yield) }
}

func walk(err error, yield func(error) bool) bool {
	if err == nil {
		return true
	}
	if !yield(err) {
		return false
	}
	switch wrapper := err.(type) { //nolint:errorlint // the tree itself is wanted
	case interface{ Unwrap() error }:
		return walk(wrapper.Unwrap(), yield)
	case interface{ Unwrap() []error }:
		for _, part := range wrapper.Unwrap() {
			if !walk(part, yield) {
				return false
			}
		}
	}
	return true
}

// clean is a connector whose errors do not hold the password. Those of pgx hold
// the configuration of the attempt, which some verbs of fmt print, and which
// anybody may take out with errors.As.
type clean struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c clean) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	for part := range parts(err) {
		// The configuration is pgx's copy for this attempt, which is over.
		if failed, ok := errors.AsType[*pgconn.ConnectError](part); ok && failed.Config != nil {
			failed.Config.Password = ""
		}
	}
	return conn, err
}
