package mysql

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/rotation"
)

// Numbers of the servers' errors that are treated in a way of their own. Source:
// the MySQL Error Message Reference, "MariaDB Error Codes", and both servers.
const (
	accessDenied           = 1045 // at the login; statements are refused with it too
	accessDeniedNoPassword = 1698
	accountLocked          = 3118
	accountLockedMariaDB   = 4151
	blocked                = 3955
	blockedMariaDB         = 4150
	mustChangePassword     = 1820
	passwordExpired        = 1862

	readOnlyOption      = 1290
	readOnlyTransaction = 1792
	readOnlyMode        = 1836

	databaseDenied   = 1044
	tableDenied      = 1142
	syntaxError      = 1064
	privilegeMissing = 1227
	policyViolated   = 1819 // validate_password, and MariaDB's plugins
	historyViolated  = 3638
	wrongReplaced    = 3891 // the password after REPLACE
	noReplaced       = 3892 // PASSWORD REQUIRE CURRENT

	lockWaitTimeout = 1205
	noSuchDatabase  = 1049
	noSuchTable     = 1146
	noSuchRoutine   = 1305
)

// number returns the number of the server's error in err, or 0.
func number(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// refusal is an error of a login by which the server refuses the credential. It
// is the caller's to say whether that is a [rotation.Refused].
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// connectError says where it happened, and what to do. The driver's errors hold no
// password.
func (c *credential) connectError(err error) error {
	if !c.encrypted() && err.Error() == noKeyText() {
		err = errNoKey
	}
	err = fmt.Errorf("logging in to %s as %q: %w", c.address(), c.user, err)
	switch number(err) {
	case accessDenied:
		if !c.encrypted() && !c.socket() {
			err = fmt.Errorf("%w (the same is said to a user that must log in over TLS, which this connection is without)", err)
		}
		return &refusal{err}
	case accessDeniedNoPassword:
		return &refusal{err}
	case accountLocked, accountLockedMariaDB:
		return rotation.Problem(rotation.ReasonLockedOut, "ALTER USER ... ACCOUNT UNLOCK, and repeat the rotation", err)
	case blocked:
		return rotation.Problem(rotation.ReasonLockedOut, "find out who tried wrong passwords, ALTER USER ... ACCOUNT UNLOCK, and repeat the rotation", err)
	case blockedMariaDB:
		return rotation.Problem(rotation.ReasonLockedOut, "find out who tried wrong passwords, FLUSH PRIVILEGES, and repeat the rotation", err)
	case noSuchDatabase, databaseDenied:
		return rotation.Problem(rotation.ReasonBadValue, `put a database that the user may use into "dbname", or take it out`, err)
	case mustChangePassword, passwordExpired:
		return expiredProblem(err)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && c.unproven {
		return rotation.Problem(rotation.ReasonSuperuser, `put its "host" into the superuser's secret, or the root into Options.TLS`,
			fmt.Errorf("the superuser's secret names no server, and that of the other secret is not one that Amazon RDS vouches for: %w", err))
	}
	return err
}

func expiredProblem(err error) error {
	return rotation.Problem(rotation.ReasonLockedOut, "give the user the same password again as an administrator, "+
		"let passwords live longer than a rotation interval, and repeat the rotation", err)
}

// refused has the refusal of a login count as the target's refusal of the value
// that it was made with.
func refused(err error) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		return rotation.Refused(r.error)
	}
	return err
}

// notShown replaces the text of a server's error. Servers quote statements, or
// parts of them.
const notShown = "its text may quote the statement and is not shown"

// hide returns err without a text that may quote the statement, which has a
// password in it, or what stands for one.
func hide(err error) error {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return err
	}
	switch e.Number {
	case privilegeMissing, policyViolated, historyViolated, wrongReplaced, noReplaced, accessDenied, databaseDenied,
		readOnlyOption, readOnlyTransaction, readOnlyMode, lockWaitTimeout, mustChangePassword:
		return err // fixed texts, with names at most
	}
	return &mysql.MySQLError{Number: e.Number, SQLState: e.SQLState, Message: notShown}
}

// explain adds what was done, where, and what can be done about it.
func (s *session) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s on %s as %q: %w", what, s.credential.address(), s.credential.user, err)
	switch number(err) {
	case readOnlyOption, readOnlyTransaction, readOnlyMode:
		return s.readOnlyProblem(err)
	case mustChangePassword: // MariaDB lets it log in, and do nothing else
		return expiredProblem(err)
	case accessDenied, accessDeniedNoPassword, databaseDenied, tableDenied, privilegeMissing:
		return rotation.Problem(rotation.ReasonPermission, "grant "+s.needs+", and repeat the rotation", err)
	case lockWaitTimeout:
		return rotation.Problem(rotation.ReasonUnreachable, "see what holds the lock (a backup, FLUSH TABLES WITH READ LOCK), "+
			"and repeat the rotation", err)
	case policyViolated:
		return rotation.Problem(rotation.ReasonBadValue, "have passwords generated that satisfy the server (rotation.Options.Password), "+
			"and start a new rotation", err)
	}
	return err
}

func (s *session) readOnlyProblem(err error) error {
	return rotation.Problem(rotation.ReasonServer, "name the host that takes writes, in the secret or in the superuser's", err)
}

func errPlugin(plugin string) error {
	return rotation.Problem(rotation.ReasonUnsuitable, "have the user identified by "+cachingSHA2+" or, on MariaDB, "+native,
		fmt.Errorf("the user is identified by the plugin %q, whose passwords this version cannot set", plugin))
}
