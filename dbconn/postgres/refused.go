package postgres

import (
	"context"
	"database/sql/driver"

	"github.com/jackc/pgx/v5/pgconn"
)

// refused reports whether err is the server refusing the login.
//
// By code, never by text: the server's texts follow its lc_messages. A pgx
// error may join those of several attempts, and errors.As would show the first
// one only, so the whole tree is looked at. Source of the codes: "PostgreSQL
// Error Codes", Class 28.
func refused(err error) bool {
	return anywhere(err, func(err error) bool {
		pgErr, ok := err.(*pgconn.PgError)
		return ok && (pgErr.Code == "28P01" || // invalid_password; a role that does not exist, too
			pgErr.Code == "28000") // invalid_authorization_specification: a role that may not log in
	})
}

// anywhere reports whether is holds for err or for an error that it wraps.
func anywhere(err error, is func(error) bool) bool {
	if err == nil {
		return false
	}
	if is(err) {
		return true
	}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		return anywhere(wrapper.Unwrap(), is)
	case interface{ Unwrap() []error }:
		for _, err := range wrapper.Unwrap() {
			if anywhere(err, is) {
				return true
			}
		}
	}
	return false
}

// clean is a connector whose errors do not hold the password. Those of pgx hold
// the configuration of the attempt, which some verbs of fmt print, and which
// anybody may take out with errors.As.
type clean struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c clean) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	anywhere(err, func(err error) bool {
		// The configuration is pgx's copy for this attempt, which is over.
		if failed, ok := err.(*pgconn.ConnectError); ok && failed.Config != nil {
			failed.Config.Password = ""
		}
		return false
	})
	return conn, err
}
