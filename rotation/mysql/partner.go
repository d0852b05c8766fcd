package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keyturn/keyturn/rotation"
)

// The longest names, in characters.
const (
	maxNameMySQL   = 32
	maxNameMariaDB = 128
)

// pair is the two users that alternate, and are given the same rights.
type pair struct{ base, clone string }

func (p pair) other(user string) string {
	if user == p.base {
		return p.clone
	}
	return p.base
}

func (t *Target) pairOf(c *credential) (pair, error) {
	base := strings.TrimSuffix(c.user, t.opts.Suffix)
	p := pair{base: base, clone: base + t.opts.Suffix}
	longest := maxNameMySQL
	if c.engine == "mariadb" || c.engine == "" { // the server will say what it thinks of it
		longest = maxNameMariaDB
	}
	switch {
	case base == "":
		return p, rotation.Problem(rotation.ReasonBadValue, "use another user, or another Options.Suffix",
			fmt.Errorf("the user %q has no name besides the suffix of a partner", c.user))
	case utf8.RuneCountInString(p.clone) > longest:
		return p, rotation.Problem(rotation.ReasonBadValue, "use a shorter user name, or a shorter Options.Suffix",
			fmt.Errorf("the partner's name %q is longer than the server's %d characters", p.clone, longest))
	}
	return p, nil
}

// A clone is known to be one by a record that it gets in the statement which
// creates it. On MySQL that is an attribute. MariaDB has none, nor comments; there
// it is a role without rights.

const recordKey = "keyturn_partner_of"

func (p pair) attribute() string {
	b, _ := json.Marshal(map[string]string{recordKey: p.base}) // it never fails
	return string(b)
}

func (p pair) role() string { return identifier("keyturn partner of " + p.base) }

// record returns the right that the clone has and the base has not.
func (p pair) record(on server) right {
	if on.mariadb {
		return right{kind: role, name: p.role()}
	}
	return right{}
}

func (s *session) isRecorded(ctx context.Context, p pair, clone account) (bool, error) {
	if s.server.mariadb {
		rows, err := s.column(ctx, "SHOW GRANTS FOR "+clone.String())
		if err != nil {
			return false, s.explain("SHOW GRANTS FOR "+clone.String(), err)
		}
		for _, row := range rows {
			rs := rights{}
			if err := rs.add(row, clone); err == nil && rs[p.record(s.server)] {
				return true, nil
			}
		}
		return false, nil
	}
	var of string
	err := s.row(ctx, "SELECT IFNULL(user_attributes->>'$.metadata."+recordKey+"', '') FROM mysql.user WHERE user = "+
		literal(clone.user)+" AND host = "+literal(clone.host)).Scan(&of)
	return of == p.base, s.explain("reading mysql.user", err)
}

// setPartner gives the partner of current its rights, and then the password. In
// this order a cut leaves one that nobody logs in as yet, or whose password is
// that of the rotation before.
func (t *Target) setPartner(ctx context.Context, s *session, current, next *credential) error {
	p, err := t.pairOf(current)
	if err != nil {
		return err
	}
	if !s.server.since(8, 0, 21) {
		return rotation.Problem(rotation.ReasonUnsuitable, "use another strategy, or a newer server",
			errors.New("alternating users take MySQL 8.0.21 or MariaDB 10.4"))
	}
	if err := s.lock(ctx, p.base); err != nil {
		return err
	}
	from, to, exists, err := s.accountsOf(ctx, p, current.user)
	if err != nil {
		return err
	}
	if !exists {
		if err := s.create(ctx, p, from, to); err != nil {
			return err
		}
	}
	granted, revoked, err := s.converge(ctx, to, from, p.record(s.server))
	if err != nil {
		return err
	}
	if len(granted)+len(revoked) > 0 {
		t.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "the rights of alternating users were made the same",
			slog.String("server", s.credential.address()),
			slog.String("user", to.String()),
			slog.Any("granted", texts(granted)),
			slog.Any("revoked", texts(revoked)))
	}
	return s.setPassword(ctx, to, from, next)
}

// accountsOf returns the account of the user of AWSCURRENT and that of its
// partner, which is at the same host. It changes nothing; a partner that is
// somebody else's is an error.
func (s *session) accountsOf(ctx context.Context, p pair, user string) (from, to account, exists bool, err error) {
	from, err = s.only(ctx, user)
	if err != nil {
		return from, to, false, err
	}
	to = account{p.other(user), from.host}
	there, err := s.accounts(ctx, to.user)
	if err != nil {
		return from, to, false, err
	}
	exists = slices.Contains(there, to)
	if len(there) > 1 || len(there) == 1 && !exists {
		return from, to, false, s.foreign(p, there[0], fmt.Errorf("there is a user %s, while AWSCURRENT is that of %s", there[0], from))
	}
	// The clone it is that has the record, whoever's turn it is.
	clone := account{p.clone, from.host}
	if clone == to && !exists {
		return from, to, false, nil
	}
	recorded, err := s.isRecorded(ctx, p, clone)
	if err == nil && !recorded {
		err = s.foreign(p, clone, fmt.Errorf("the user %s was not made by this function as the partner of %q", clone, p.base))
	}
	return from, to, exists, err
}

func (s *session) foreign(p pair, clone account, err error) error {
	say := "ALTER USER " + clone.String() + " ATTRIBUTE " + literal(p.attribute())
	if s.server.mariadb {
		say = "CREATE ROLE " + p.role() + "; GRANT " + p.role() + " TO " + clone.String()
	}
	return rotation.Problem(rotation.ReasonPartner, "nothing was changed; choose another Options.Suffix or another user, or, "+
		"if it is the partner and was made by another rotation function, say so: "+say, err)
}

// create makes the partner, with a password that nobody has. Locking it would do
// too, but a lock may be an administrator's, and then stays.
func (s *session) create(ctx context.Context, p pair, from, to account) error {
	what := "CREATE USER " + to.String()
	if s.server.mariadb {
		identified := " IDENTIFIED BY PASSWORD " + literal(nativeVerifier(newSalt()+newSalt()))
		if to.user == p.base {
			return s.execSecret(ctx, what, "CREATE USER "+to.String()+identified)
		}
		// If there is such a role, it is that of a partner that is no more.
		if err := s.exec(ctx, "CREATE OR REPLACE ROLE "+p.role()); err != nil {
			return err
		}
		return s.execSecret(ctx, what, "GRANT "+p.role()+" TO "+to.String()+identified)
	}
	like, err := s.stored(ctx, from)
	if err != nil {
		return err
	}
	verifier, err := s.verifier(ctx, like.plugin, newSalt()+newSalt())
	if err != nil {
		return err
	}
	statement := "CREATE USER " + to.String() + " IDENTIFIED WITH " + literal(like.plugin) + " AS " + literal(verifier)
	if to.user == p.clone {
		statement += " ATTRIBUTE " + literal(p.attribute())
	}
	return s.execSecret(ctx, what, statement)
}

// setPassword gives an account a password in the form that its partner's has. An
// old one does not go on working.
func (s *session) setPassword(ctx context.Context, to, from account, next *credential) error {
	if s.server.mariadb {
		a, err := s.authentication(ctx, to)
		if err != nil {
			return err
		}
		others, _, err := a.split()
		if err != nil {
			return err
		}
		return s.identifyVia(ctx, to, append(others, nativeMethod(next)))
	}
	like, err := s.stored(ctx, from)
	if err != nil {
		return err
	}
	if err := s.identify(ctx, to, like.plugin, next, ""); err != nil {
		return err
	}
	is, err := s.stored(ctx, to)
	if err != nil || !is.second {
		return err
	}
	return s.exec(ctx, "ALTER USER "+to.String()+" DISCARD OLD PASSWORD")
}

// Verify reports what the users of c.Current and c.Pending may not both do.
func (t *Target) Verify(ctx context.Context, c rotation.Change) error {
	if !t.alternates() {
		return nil
	}
	current, err := parse(c.Current)
	if err != nil {
		return err
	}
	p, err := t.pairOf(current)
	if err != nil {
		return err
	}
	s, err := t.acting(ctx, c.As, current)
	if err != nil {
		return err
	}
	defer s.close()
	from, to, exists, err := s.accountsOf(ctx, p, current.user)
	if err != nil {
		return err
	}
	if !exists {
		return rotation.Problem(rotation.ReasonPrivileges, "repeat the rotation from its first step", fmt.Errorf("there is no user %s", to))
	}
	want, err := s.profile(ctx, from, p.record(s.server))
	if err != nil {
		return err
	}
	is, err := s.profile(ctx, to, p.record(s.server))
	if err != nil {
		return err
	}
	missing, extra, err := s.differences(ctx, want, is)
	if err != nil {
		return err
	}
	var all []string
	for _, text := range texts(missing) {
		all = append(all, "it lacks "+text)
	}
	for _, text := range texts(extra) {
		all = append(all, "it has "+text)
	}
	if want.attributes != is.attributes {
		all = append(all, "REQUIRE, limits or password options differ")
	}
	if len(all) == 0 {
		return nil
	}
	const most = 10
	if n := len(all); n > most {
		all = append(all[:most], fmt.Sprintf("and %d more", n-most))
	}
	return rotation.Problem(rotation.ReasonPrivileges, "repeat the rotation from its first step, or give both the same rights by hand",
		fmt.Errorf("%s may not do the same as %s: %s", to, from, strings.Join(all, "; ")))
}

func texts(rs []right) []string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.String()
	}
	return out
}
