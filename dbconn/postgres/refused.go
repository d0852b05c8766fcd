package postgres

import (
	"iter"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What the server says of a login is told by code, never by text: the texts follow
// its lc_messages. Source: "PostgreSQL Error Codes".
const (
	invalidPassword      = "28P01" // wrong; also of a role that does not exist, or whose password has expired
	invalidAuthorization = "28000" // the role may not log in, whatever the password
	protocolViolation    = "08P01" // PgBouncer's word for everything
	noSuchDatabase       = "3D000"
	noPrivilege          = "42501" // to connect to the database
	notAcceptingLogins   = "55000" // the database is not
)

// refused reports whether err is the server refusing the password.
func refused(err error) bool {
	return says(err, func(e *pgconn.PgError) bool {
		// PgBouncer has one code for a wrong password and for a database that it
		// does not know. Its texts are in English alone.
		return e.Code == invalidPassword || e.Code == protocolViolation && strings.Contains(e.Message, "authentication failed")
	})
}

// refusesUser reports whether err is the server refusing the user. Of RDS Proxy and
// PgBouncer it is what comes of a user that they have not been told of yet, when two
// alternate.
func refusesUser(err error) bool {
	return !refused(err) && says(err, func(e *pgconn.PgError) bool {
		return e.Code == invalidAuthorization || e.Code == protocolViolation && strings.Contains(e.Message, "no such user")
	})
}

// accepts reports whether err says that the login was good, and the database is
// not: passwords are checked before that.
func accepts(err error) bool {
	return says(err, func(e *pgconn.PgError) bool {
		return e.Code == noSuchDatabase || e.Code == noPrivilege || e.Code == notAcceptingLogins
	})
}

// code returns the SQLSTATE of the last word that the server had in err.
func code(err error) string {
	last := ""
	says(err, func(e *pgconn.PgError) bool { last = e.Code; return false })
	return last
}

// says reports whether one of the errors of the server that err wraps is such a
// one. A pgx error may join those of several attempts, of which errors.AsType
// shows the first alone.
func says(err error, such func(*pgconn.PgError) bool) bool {
	for part := range parts(err) {
		if e, ok := part.(*pgconn.PgError); ok && such(e) { //nolint:errorlint // each by itself
			return true
		}
	}
	return false
}

// parts yields err and every error that it wraps.
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
