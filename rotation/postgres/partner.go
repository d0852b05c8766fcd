package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/rotation"
)

// maxName is the length of a name in bytes beyond which PostgreSQL cuts it off.
const maxName = 63

// pair is the two users that alternate. Grants are the base's; the clone is a
// member of it, and sessions of the clone act as the base: what they create is
// the base's too. So a grant to the base is the clone's at once, and nothing has
// to be copied that could be forgotten.
type pair struct{ base, clone string }

func (p pair) other(user string) string {
	if user == p.base {
		return p.clone
	}
	return p.base
}

func (t *Target) pairOf(user string) (pair, error) {
	base := strings.TrimSuffix(user, t.opts.Suffix)
	p := pair{base: base, clone: base + t.opts.Suffix}
	switch {
	case base == "":
		return p, rotation.Problem(rotation.ReasonBadValue, "use another user, or another Options.Suffix",
			fmt.Errorf("the user %q has no name besides the suffix of a partner", user))
	case len(p.clone) > maxName:
		return p, rotation.Problem(rotation.ReasonBadValue, "use a shorter user name, or a shorter Options.Suffix",
			fmt.Errorf("the partner's name %q is longer than PostgreSQL's %d bytes", p.clone, maxName))
	}
	return p, nil
}

// record is the comment by which a clone is known to be one.
func (p pair) record() string { return "keyturn: partner of " + ident(p.base) }

// lock is the number of an advisory lock: two calls for one pair do not meet in
// the server's catalogs, where the second would fail.
func (p pair) lock() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("keyturn rotation " + p.base)) // it never fails
	return int64(h.Sum64())                              //nolint:gosec // any number will do
}

// setPartner is Set if users alternate. All of it is one transaction, apart from
// what has to be done in other databases, which comes first: a password that is
// set is the last thing to happen.
func (t *Target) setPartner(ctx context.Context, c rotation.Change, next *credential) error {
	p, err := t.pairOf(next.user)
	if err != nil {
		return err
	}
	return t.withSuperuser(ctx, c, func(ctx context.Context, conn *pgx.Conn, super *credential) error {
		others, err := p.otherDatabases(ctx, conn)
		if err != nil {
			return super.wrap("reading the catalogs", err)
		}
		for _, database := range others {
			if err := t.inDatabase(ctx, super, database, func(ctx context.Context, conn *pgx.Conn, super *credential) error {
				return p.converge(ctx, conn, super, next.user, objects, nil)
			}); err != nil {
				return err
			}
		}
		return p.converge(ctx, conn, super, next.user, rolesAndObjects, func(tx pgx.Tx) error {
			return setPassword(ctx, tx, next)
		})
	})
}

func (t *Target) inDatabase(ctx context.Context, super *credential, database string, f session) error {
	there := *super
	there.database = database
	return t.with(ctx, &there, f)
}

// Verify reports what is still missing before both users may do the same. It
// changes nothing.
func (t *Target) Verify(ctx context.Context, c rotation.Change) error {
	if !t.alternates() {
		return nil
	}
	next, err := parse(c.Pending)
	if err != nil {
		return err
	}
	p, err := t.pairOf(next.user)
	if err != nil {
		return err
	}
	return t.withSuperuser(ctx, c, func(ctx context.Context, conn *pgx.Conn, super *credential) error {
		here, err := p.missing(ctx, conn, next.user, rolesAndObjects)
		if err != nil {
			return super.wrap("comparing privileges", err)
		}
		missing := here.statements()
		others, err := p.otherDatabases(ctx, conn)
		if err != nil {
			return super.wrap("comparing privileges", err)
		}
		for _, database := range others {
			if err := t.inDatabase(ctx, super, database, func(ctx context.Context, conn *pgx.Conn, super *credential) error {
				there, err := p.missing(ctx, conn, next.user, objects)
				if err != nil {
					return super.wrap("comparing privileges", err)
				}
				for _, statement := range there.statements() {
					missing = append(missing, "in "+ident(database)+": "+statement)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return p.difference(missing)
	})
}

func (p pair) difference(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	const most = 10
	list := missing[:min(len(missing), most)]
	if len(missing) > most {
		list = append(list[:most:most], fmt.Sprintf("and %d more", len(missing)-most))
	}
	return rotation.Problem(rotation.ReasonPrivileges, "run them as a superuser, or as the owner of the objects, and repeat the rotation",
		fmt.Errorf("%q and %q may not do the same; these statements would change that, and did not when the rotation "+
			"tried: %s", p.base, p.clone, strings.Join(list, "; ")))
}

// converge runs what missing returns, and then what comes last.
func (p pair) converge(ctx context.Context, conn *pgx.Conn, super *credential, next string, scope scope, last func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return super.wrap("BEGIN", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // the connection ends with it anyway
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", p.lock()); err != nil {
		return super.wrap("waiting for another call", err)
	}
	if err := p.create(ctx, tx, next); err != nil {
		return super.wrap("creating the partner", err)
	}
	c, err := p.missing(ctx, tx, next, scope)
	if err != nil {
		return super.wrap("comparing privileges", err)
	}
	objects, err := c.asOwner(ctx)
	if err != nil {
		return super.wrap("comparing privileges", err)
	}
	for _, statement := range append(c.ofRoles, objects...) {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return super.wrap(statement, err)
		}
	}
	if last != nil {
		if err := last(tx); err != nil {
			return super.wrap("setting the password", err)
		}
	}
	return super.wrap("COMMIT", tx.Commit(ctx))
}

// create creates the clone, if it is its turn and it is not there. One that is
// there and not known to be ours is an unrelated user of that name, and left alone.
func (p pair) create(ctx context.Context, tx pgx.Tx, next string) error {
	clone, err := readRole(ctx, tx, p.clone)
	switch {
	case err == nil && !strings.Contains(clone.comment, p.record()):
		return rotation.Problem(rotation.ReasonPartner, fmt.Sprintf("nothing was changed; choose another Options.Suffix or another "+
			"user, or, if it is the partner and was made by another rotation function, say so: COMMENT ON ROLE %s IS %s",
			ident(p.clone), literal(p.record())),
			fmt.Errorf("the role %q was not made by this function as the partner of %q", p.clone, p.base))
	case err == nil:
		return nil
	case !errors.Is(err, pgx.ErrNoRows):
		return err
	case next != p.clone:
		return fmt.Errorf("the role %q is not there any more", p.clone) // it has logged in a moment ago
	}
	// Without a password nobody logs in as it; that comes last.
	if _, err := tx.Exec(ctx, "CREATE ROLE "+ident(p.clone)+" LOGIN"); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "COMMENT ON ROLE "+ident(p.clone)+" IS "+literal(p.record()))
	return err
}
