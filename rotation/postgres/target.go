package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/rotation"
)

// Target is a PostgreSQL server. Which server and which user is said by the
// secret: one Target serves any number that are rotated alike.
type Target struct {
	opts Options
}

var (
	_ rotation.Target     = (*Target)(nil)
	_ rotation.Strategist = (*Target)(nil)
	_ rotation.Verifier   = (*Target)(nil)
	_ rotation.Replicated = (*Target)(nil)
)

// NewTarget returns a Target. It does no I/O; a nil opts means all defaults.
func NewTarget(opts *Options) *Target { return &Target{opts: opts.withDefaults()} }

func (t *Target) alternates() bool { return t.opts.Strategy == AlternatingUsers }

// Strategy returns how the secret is rotated: as the Options say, by the
// superuser whom they or the secret name.
func (t *Target) Strategy(current *rotation.Value) (rotation.Strategy, error) {
	if t.opts.Strategy == SingleUser {
		return rotation.Strategy{}, nil
	}
	superuser := t.opts.Superuser
	if superuser == "" {
		var err error
		if superuser, err = masterARN(current); err != nil {
			return rotation.Strategy{}, err
		}
	}
	if superuser == "" {
		return rotation.Strategy{}, rotation.Problem(rotation.ReasonSuperuser,
			`put the ARN of the superuser's secret into "masterarn", or into Options.Superuser`,
			errors.New("the strategy needs a superuser, and nobody names one"))
	}
	return rotation.Strategy{Superuser: superuser, Alternating: t.alternates()}, nil
}

// Next returns current with another password, and with the partner's name if the
// users alternate.
func (t *Target) Next(current, password *rotation.Value) (*rotation.Value, error) {
	c, err := parse(current)
	if err != nil {
		return nil, err
	}
	next, err := current.With("password", password.Text())
	if err != nil || !t.alternates() {
		return next, err
	}
	p, err := t.pairOf(c.user)
	if err != nil {
		return nil, err
	}
	return next.With("username", p.other(c.user))
}

// Check reports whether the two values name users that do not follow each other,
// or different servers: then changing the password of the one would not be a
// rotation of the other. It reports other keys that differ too, "replicas" aside:
// that is edited to get a rotation going on.
func (t *Target) Check(current, pending *rotation.Value) error {
	c, err := parse(current)
	if err != nil {
		return fmt.Errorf("version %s: %w", current.VersionID(), err)
	}
	p, err := parse(pending)
	if err != nil {
		return fmt.Errorf("version %s: %w", pending.VersionID(), err)
	}
	want := c.user
	if t.alternates() {
		pair, err := t.pairOf(c.user)
		if err != nil {
			return err
		}
		want = pair.other(c.user)
	}
	switch {
	case want != p.user:
		return fmt.Errorf("another user: %q, not %q", p.user, want)
	case c.host != p.host || c.port != p.port:
		return fmt.Errorf("another server: %s, not %s", p.address(), c.address())
	}
	return rotation.Unchanged(current, pending, "password", "username", "host", "port", "replicas")
}

// Test logs in with v and runs a statement.
//
// Logging in counts only if the server has asked for a password. Where it does
// not ("trust" in pg_hba.conf), any password seems to work, and rotating would
// put one into the secret that the server has never heard of.
func (t *Target) Test(ctx context.Context, v *rotation.Value) error {
	c, err := parse(v)
	if err != nil {
		return err
	}
	return t.with(ctx, c, ping)
}

func ping(ctx context.Context, conn *pgx.Conn, c *credential) error {
	_, err := conn.Exec(ctx, "SELECT 1")
	return c.wrap("SELECT 1", err)
}

// Set makes the password of c.Pending that of its user, as the user of c.As. If
// users alternate it sees to it first that both have the same rights.
//
// A password with characters outside of printable ASCII is an error, before
// anything is changed. SCRAM normalises passwords, by rules on which clients
// disagree (SASLprep in libpq, a PRECIS profile in pgx): the verifier would let
// in some clients and lock out others. Only generated passwords come here, and
// those that somebody has put into AWSPENDING by hand.
func (t *Target) Set(ctx context.Context, c rotation.Change) error {
	next, err := parse(c.Pending)
	if err != nil {
		return err
	}
	if !printableASCII(next.password()) {
		return rotation.Problem(rotation.ReasonBadValue, "put another one into AWSPENDING", errors.New(
			"the password of AWSPENDING has characters outside of printable ASCII, which clients normalise in different ways"))
	}
	// The handler has checked it. This is the last line before the statement.
	if err := t.Check(c.Current, c.Pending); err != nil {
		return err
	}
	switch t.opts.Strategy {
	case AlternatingUsers:
		return t.setPartner(ctx, c, next)
	case SingleUserBySuperuser:
		return t.withSuperuser(ctx, c, func(ctx context.Context, conn *pgx.Conn, super *credential) error {
			return super.wrap("setting the password", setPassword(ctx, conn, next))
		})
	default:
		as, err := parse(c.As)
		if err != nil {
			return err
		}
		return t.with(ctx, as, func(ctx context.Context, conn *pgx.Conn, as *credential) error {
			return as.wrap("setting the password", setPassword(ctx, conn, next))
		})
	}
}

// executor is a connection, or a transaction on one.
type executor interface {
	querier
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// setPassword sends the verifier of a password, not the password.
func setPassword(ctx context.Context, conn executor, next *credential) error {
	var encryption string
	var iterations int
	// scram_iterations is there from PostgreSQL 16 on.
	if err := conn.QueryRow(ctx, `SELECT current_setting('password_encryption'),
		coalesce(nullif(current_setting('scram_iterations', true), '')::int, $1)`, scramIterations).Scan(&encryption, &iterations); err != nil {
		return err
	}
	verifier, err := newVerifier(encryption, iterations, next.user, next.password())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER ROLE "+ident(next.user)+" PASSWORD "+literal(verifier))
	return err
}
