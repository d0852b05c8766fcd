package mysql

import (
	"errors"
	"strconv"

	"github.com/go-sql-driver/mysql"
)

// What the servers say of a login is told by number, never by text: the texts follow
// their lc_messages. Source: the MySQL Error Message Reference, "MariaDB Error
// Codes", and both servers.
const (
	accessDenied = 1045 // a wrong password; an unknown user, too, and one that must log in over TLS

	accessDeniedNoPassword = 1698 // a user that is known by its socket, say
	mustChangePassword     = 1820 // an expired password, once a statement is sent
	passwordExpired        = 1862 // the same, at the login

	accountLocked        = 3118 // MySQL: ACCOUNT LOCK
	accountLockedMariaDB = 4151
	blocked              = 3955 // MySQL: FAILED_LOGIN_ATTEMPTS
	blockedMariaDB       = 4150 // max_password_errors

	noSuchDatabase   = 1049
	noPrivilege      = 1044 // for the database; said of one that is not there, too
	tooManyOfTheUser = 1203 // connections
	limitOfTheUser   = 1226 // of connections in an hour, say
)

// number returns the number of the server's error in err, or 0.
func number(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// refused reports whether err is the server refusing the password.
func refused(err error) bool { return number(err) == accessDenied }

// refusesUser reports whether err is the server refusing the user, whatever the
// password, as it does when the right one has expired.
func refusesUser(err error) bool {
	switch number(err) {
	case accessDeniedNoPassword, mustChangePassword, passwordExpired:
		return true
	}
	return false
}

// lockedOut reports whether err says that the user may not log in with any
// password, be it right or wrong: each further try is one in vain, or locks the
// account for longer.
func lockedOut(err error) bool {
	switch number(err) {
	case accountLocked, accountLockedMariaDB, blocked, blockedMariaDB:
		return true
	}
	return false
}

// accepts reports whether err says that the login was good, and something else is
// not: the servers check passwords before that.
func accepts(err error) bool {
	switch number(err) {
	case noSuchDatabase, noPrivilege, tooManyOfTheUser, limitOfTheUser:
		return true
	}
	return false
}

// code returns the number of the server's error in err, for events.
func code(err error) string {
	if n := number(err); n != 0 {
		return strconv.Itoa(int(n))
	}
	return ""
}
