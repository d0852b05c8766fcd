package mysql

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"

	"github.com/keyturn/keyturn/rotation"
)

// changer changes the password of one user, so that the old one goes on working
// until finish, if the server can do that.
type changer interface {
	set(ctx context.Context, current, next *credential) error
	finish(ctx context.Context, old, is *credential) error
}

func (s *session) changer(t *Target) changer {
	switch self := t.opts.Strategy == SingleUser; {
	case s.server.mariadb:
		return &mariadbUser{s, t, self}
	case self:
		return &ownUser{s, t}
	}
	return &mysqlUser{s, t}
}

// ownUser is a user of MySQL that changes its own password. It may not send a
// verifier, which takes CREATE USER. The server keeps what it sends out of all of
// its logs.
//
// MySQL has room for two passwords. IDENTIFIED BY replaces the first, RETAIN
// CURRENT PASSWORD moves it to the second place before, and overwrites what is
// there. Done twice for one rotation, that would lose the old password. So the
// first one is said with REPLACE, without which the statement fails: then it
// takes effect once.
type ownUser struct {
	*session

	target *Target
}

const changeOwn = "ALTER USER USER() IDENTIFIED BY "

func (u *ownUser) set(ctx context.Context, current, next *credential) error {
	if !u.server.dualPasswords() {
		u.target.warnOfWindow(ctx, u.session, "the server holds one password per user")
		return u.execSecret(ctx, "ALTER USER", changeOwn+literal(next.password()))
	}
	err := u.replace(ctx, current, next)
	switch number(err) {
	case wrongReplaced, historyViolated:
	default:
		return err
	}
	// The first password is another one: the pending, if somebody was faster, or
	// that of a rotation which was given up after setSecret.
	if loginErr := u.target.ping(ctx, next); loginErr == nil {
		return nil
	} else if _, is := errors.AsType[*refusal](loginErr); !is {
		return loginErr
	}
	if err := u.execSecret(ctx, "ALTER USER, to the password of AWSCURRENT", changeOwn+literal(current.password())); err != nil {
		return u.historyProblem(err)
	}
	return u.historyProblem(u.replace(ctx, current, next))
}

func (u *ownUser) replace(ctx context.Context, current, next *credential) error {
	statement := changeOwn + literal(next.password()) + " REPLACE " + literal(current.password())
	err := u.execSecret(ctx, "ALTER USER ... RETAIN CURRENT PASSWORD", statement+" RETAIN CURRENT PASSWORD")
	if number(err) != privilegeMissing {
		return err
	}
	u.target.warnOfWindow(ctx, u.session, "the user lacks APPLICATION_PASSWORD_ADMIN")
	return u.execSecret(ctx, "ALTER USER", statement)
}

func (u *ownUser) historyProblem(err error) error {
	if number(err) != historyViolated && number(err) != noReplaced {
		return err
	}
	return rotation.Problem(rotation.ReasonLockedOut, "give the user the password of AWSCURRENT as an administrator, and repeat the rotation", err)
}

// finish removes the second password if the first one is the new one, which again
// REPLACE finds out. If it is not, another rotation is at work.
func (u *ownUser) finish(ctx context.Context, old, is *credential) error {
	if !u.server.dualPasswords() {
		return nil
	}
	password := literal(is.password())
	err := u.execSecret(ctx, "ALTER USER, to the same password", changeOwn+password+" REPLACE "+password)
	switch number(err) {
	case wrongReplaced:
		return nil
	case historyViolated, policyViolated:
		// Said before REPLACE is looked at. If the old one works, it is the other.
		err = u.target.ping(ctx, old)
		if _, is := errors.AsType[*refusal](err); is {
			return nil
		}
	}
	if err != nil {
		return err
	}
	const discard = "ALTER USER USER() DISCARD OLD PASSWORD"
	if err = u.exec(ctx, discard); number(err) == privilegeMissing {
		return nil // nor could it retain one
	}
	return err
}

// mysqlUser is a user of MySQL whose password a superuser changes. Nothing but
// verifiers is sent.
type mysqlUser struct {
	*session

	target *Target
}

func (u *mysqlUser) set(ctx context.Context, current, next *credential) error {
	at, err := u.only(ctx, next.user)
	if err != nil {
		return err
	}
	is, err := u.stored(ctx, at)
	if err != nil {
		return err
	}
	if set, err := is.verifies(next); set || err != nil {
		return err
	}
	retain := ""
	if u.server.dualPasswords() {
		retain = " RETAIN CURRENT PASSWORD"
		first, err := is.verifies(current)
		if err != nil {
			return err
		}
		// See ownUser. There is no REPLACE for others, but the lock.
		if !first {
			if err := u.identify(ctx, at, is.plugin, current, ""); err != nil {
				return err
			}
		}
	} else {
		u.target.warnOfWindow(ctx, u.session, "the server holds one password per user")
	}
	return u.identify(ctx, at, is.plugin, next, retain)
}

func (u *mysqlUser) finish(ctx context.Context, _, is *credential) error {
	at, err := u.only(ctx, is.user)
	if err != nil {
		return err
	}
	stored, err := u.stored(ctx, at)
	if err != nil {
		return err
	}
	first, err := stored.verifies(is)
	if err != nil || !first || !stored.second {
		return err // another rotation is at work, or all is done
	}
	return u.exec(ctx, "ALTER USER "+at.String()+" DISCARD OLD PASSWORD")
}

// identify gives an account of MySQL the verifier of a password.
func (s *session) identify(ctx context.Context, at account, plugin string, c *credential, option string) error {
	verifier, err := s.verifier(ctx, plugin, c.password())
	if err != nil {
		return err
	}
	return s.execSecret(ctx, "ALTER USER "+at.String()+option,
		"ALTER USER "+at.String()+" IDENTIFIED WITH "+literal(plugin)+" AS "+literal(verifier)+option)
}

// verifier asks the server how many rounds it wants; the answer is empty before
// 8.0.24.
func (s *session) verifier(ctx context.Context, plugin, password string) (string, error) {
	var name string
	var rounds int
	err := s.row(ctx, "SHOW GLOBAL VARIABLES LIKE 'caching_sha2_password_digest_rounds'").Scan(&name, &rounds)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", s.explain("SHOW VARIABLES", err)
	}
	return newVerifier(plugin, password, rounds)
}

// stored is what MySQL knows of a user's passwords.
type stored struct {
	plugin string
	first  []byte
	second bool // there is one
}

func (s *session) stored(ctx context.Context, of account) (v stored, err error) {
	second := "0"
	if s.server.dualPasswords() {
		second = "IFNULL(JSON_CONTAINS_PATH(user_attributes, 'one', '$.additional_password'), 0)"
	}
	err = s.row(ctx, "SELECT plugin, authentication_string, "+second+
		" FROM mysql.user WHERE user = "+literal(of.user)+" AND host = "+literal(of.host)).
		Scan(&v.plugin, &v.first, &v.second)
	return v, s.explain("reading mysql.user", err)
}

func (v stored) verifies(c *credential) (bool, error) {
	return verifies(v.plugin, string(v.first), c.password())
}

func (t *Target) warnOfWindow(ctx context.Context, s *session, why string) {
	t.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "AWSCURRENT is refused until the rotation is over",
		slog.String("server", s.credential.address()),
		slog.String("user", s.credential.user),
		slog.String("reason", why))
}
