package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/rotation"
)

const (
	ownNeeds = "it what is missing"

	superNeeds = "it CREATE USER on *.*, SELECT on mysql.*, UPDATE on mysql.* where MariaDB's default roles are set, and, " +
		"WITH GRANT OPTION or WITH ADMIN OPTION, what its users have"
)

// acting opens a session of the user of the value `as`. A superuser's is opened
// after it has been seen that current logs in on the server on which the superuser
// will act; on its own server that has been seen by the handler.
func (t *Target) acting(ctx context.Context, as *rotation.Value, current *credential) (*session, error) {
	if t.opts.Strategy == SingleUser {
		c, err := parse(as)
		if err != nil {
			return nil, err
		}
		s, err := t.open(ctx, c, ownNeeds)
		return s, refused(err)
	}
	super, err := parseSuperuser(as, current)
	if err != nil {
		return nil, rotation.Problem(rotation.ReasonSuperuser, "see that it names the right secret",
			fmt.Errorf("the superuser's secret is no credential: %w", err))
	}
	if super.address() != current.address() {
		there := *super
		there.user, there.password, there.database = current.user, current.password, ""
		err := t.ping(ctx, &there)
		if _, is := errors.AsType[*refusal](err); is {
			return nil, rotation.Problem(rotation.ReasonServer, "make the host of both secrets the same server, or that of the "+
				"superuser's the one that the other replicates", fmt.Errorf("the superuser's secret is for another server, %s "+
				"instead of %s: %w", super.address(), current.address(), err))
		} else if err != nil {
			return nil, err
		}
	}
	s, err := t.open(ctx, super, superNeeds)
	return s, refused(err)
}

// only returns the account of a user. If there are several, each with passwords
// and rights of its own, changing one of them would lock out those who log in to
// another.
func (s *session) only(ctx context.Context, user string) (account, error) {
	all, err := s.accounts(ctx, user)
	switch {
	case err != nil:
		return account{}, err
	case len(all) == 0:
		return account{}, rotation.Problem(rotation.ReasonServer, "see that the superuser's secret is for the same server",
			fmt.Errorf("there is no user %q at %s", user, s.credential.address()))
	case len(all) > 1:
		return account{}, rotation.Problem(rotation.ReasonUnsuitable, "drop the others, or rotate each with a secret and a name of its own",
			fmt.Errorf("the user %q has several accounts: %s and %s", user, all[0], all[1]))
	}
	return all[0], nil
}

// accounts returns the accounts of a user, whatever their hosts.
func (s *session) accounts(ctx context.Context, user string) ([]account, error) {
	users := "mysql.user WHERE user = " + literal(user)
	if s.server.mariadb {
		users += " AND is_role = 'N'"
	}
	hosts, err := s.column(ctx, "SELECT host FROM "+users+" ORDER BY host")
	if err != nil {
		return nil, s.explain("reading mysql.user", err)
	}
	all := make([]account, len(hosts))
	for i, host := range hosts {
		all[i] = account{user, host}
	}
	return all, nil
}
