package mysql

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// mariadbUser is a user of MariaDB, which may have any number of ways to be
// identified: so two passwords are two of them. That takes CREATE USER, also for
// oneself.
type mariadbUser struct {
	*session

	target *Target
	self   bool
}

func (u *mariadbUser) set(ctx context.Context, current, next *credential) error {
	at, methods, err := u.methods(ctx, next.user)
	if err != nil {
		return err
	}
	others, natives, err := methods.split()
	if err != nil {
		return err
	}
	old, pending := nativeMethod(current), nativeMethod(next)
	why := "the server holds one password per user"
	if u.server.dualPasswords() {
		if slices.Equal(natives, authentication{old, pending}) {
			return nil
		}
		// The first must be a password: drivers begin with one, and not all of
		// them let the server change its mind twice. The last must be one, too:
		// by it goes what the server says of a wrong password.
		err := u.identifyVia(ctx, at, slices.Concat(authentication{old}, others, authentication{pending}))
		if number(err) != privilegeMissing || !u.self {
			return err
		}
		why = "the user lacks CREATE USER"
	}
	u.target.warnOfWindow(ctx, u.session, why)
	of := ""
	if !u.self {
		of = " FOR " + at.String()
	}
	return u.execSecret(ctx, "SET PASSWORD", "SET PASSWORD"+of+" = "+literal(pending.verifier))
}

// finish takes the old password out, if the new one is there. If it is not,
// another rotation is at work.
func (u *mariadbUser) finish(ctx context.Context, old, is *credential) error {
	at, methods, err := u.methods(ctx, is.user)
	if err != nil {
		return err
	}
	if !slices.Contains(methods, nativeMethod(is)) || !slices.Contains(methods, nativeMethod(old)) {
		return nil
	}
	return u.identifyVia(ctx, at, slices.DeleteFunc(methods, func(m method) bool { return m == nativeMethod(old) }))
}

// methods returns how the user is identified, and its account.
func (u *mariadbUser) methods(ctx context.Context, user string) (at account, a authentication, err error) {
	// Not CURRENT_USER(): for that, ALTER USER sets the first method and drops
	// the others without a word.
	at = u.account
	if !u.self {
		if at, err = u.only(ctx, user); err != nil {
			return at, nil, err
		}
	}
	a, err = u.authentication(ctx, at)
	return at, a, err
}

// authentication is how a user of MariaDB is identified: one of them is enough.
// The server tries one after the other.
type authentication []method

type method struct{ plugin, verifier string }

func nativeMethod(c *credential) method { return method{native, nativeVerifier(c.password())} }

// String returns it as ALTER USER takes it.
func (a authentication) String() string {
	var all []string
	for _, m := range a {
		s := m.plugin
		if m.verifier != "" {
			s += " USING " + literal(m.verifier)
		}
		all = append(all, s)
	}
	return strings.Join(all, " OR ")
}

// split returns those that are passwords, which are this package's to change, and
// the others, sockets and the like.
func (a authentication) split() (others, natives authentication, err error) {
	for _, m := range a {
		if m.plugin == native {
			natives = append(natives, m)
		} else {
			others = append(others, m)
		}
	}
	if len(natives) == 0 && len(others) > 0 {
		return nil, nil, errPlugin(others[0].plugin)
	}
	return others, natives, nil
}

var errDefinition = errors.New("SHOW CREATE USER is not what this version can read")

// authentication asks the server.
func (s *session) authentication(ctx context.Context, of account) (authentication, error) {
	what := "SHOW CREATE USER " + of.String()
	rows, err := s.column(ctx, what)
	if err != nil {
		return nil, s.explain(what, err)
	}
	if len(rows) == 0 {
		return nil, s.explain(what, errDefinition)
	}
	a, err := parseAuthentication(rows[0])
	return a, s.explain(what, err)
}

// identifyVia is how an account is to be identified from now on.
func (s *session) identifyVia(ctx context.Context, at account, a authentication) error {
	what := "ALTER USER " + at.String()
	return s.execSecret(ctx, what, what+" IDENTIFIED VIA "+a.String())
}

func parseAuthentication(definition string) (a authentication, err error) {
	r := reader(tokens(definition))
	if !r.take("CREATE", "USER") {
		return nil, errDefinition
	}
	if _, ok := r.user(); !ok {
		return nil, errDefinition
	}
	switch {
	case r.take("IDENTIFIED", "BY", "PASSWORD"):
		return authentication{{native, r.next().unquote()}}, nil
	case !r.take("IDENTIFIED", "VIA"):
		return authentication{{native, ""}}, nil // without a password
	}
	for {
		m := method{plugin: r.next().text}
		if r.take("USING") {
			m.verifier = r.next().unquote()
		}
		if !isWord(m.plugin[0]) {
			return nil, errDefinition
		}
		if a = append(a, m); !r.take("OR") {
			return a, nil
		}
	}
}
