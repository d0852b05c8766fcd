package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keyturn/keyturn/rotation"
)

// Target is a MySQL or MariaDB server. Which server and which user is said by the
// secret: one Target serves any number that are rotated alike.
type Target struct {
	opts Options
}

var (
	_ rotation.Target     = (*Target)(nil)
	_ rotation.Strategist = (*Target)(nil)
	_ rotation.Verifier   = (*Target)(nil)
	_ rotation.Finisher   = (*Target)(nil)
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
		c, err := parse(current)
		if err != nil {
			return rotation.Strategy{}, err
		}
		superuser = c.master
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
	p, err := t.pairOf(c)
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
		pair, err := t.pairOf(c)
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

// Test logs in with v, to the database that v names, if it names one.
//
// Logging in counts only if the server takes the user for what it says it is, and
// has asked for its password. A server without privileges (--skip-grant-tables),
// an anonymous user or the user of the operating system at the other end of a
// socket lets in whoever comes with any password.
func (t *Target) Test(ctx context.Context, v *rotation.Value) error {
	c, err := parse(v)
	if err != nil {
		return err
	}
	return refused(t.ping(ctx, c))
}

func (t *Target) ping(ctx context.Context, c *credential) error {
	conn, err := t.connect(ctx, c)
	if err != nil {
		return err
	}
	defer conn.close()
	s := &session{conn: conn, credential: c}
	if s.account, err = s.currentUser(ctx); err != nil {
		return err
	}
	if !c.socket() {
		return nil
	}
	definition, err := s.column(ctx, "SHOW CREATE USER CURRENT_USER()")
	if err != nil {
		return s.explain("SHOW CREATE USER", err)
	}
	for _, row := range definition {
		if slices.ContainsFunc(tokens(row), func(t token) bool { return t.unquote() == "unix_socket" || t.unquote() == "auth_socket" }) {
			return rotation.Problem(rotation.ReasonServer, "name an address instead of the socket",
				fmt.Errorf("%q may log in over %s without a password, so that it proves nothing", c.user, c.host))
		}
	}
	return nil
}

// Set makes the password of c.Pending that of its user, as the user of c.As. If
// users alternate it sees to it first that both have the same rights. If not, the
// password of c.Current goes on working beside it, where the server and the
// rights of the user that acts allow for that.
func (t *Target) Set(ctx context.Context, c rotation.Change) error {
	// The handler has checked it. This is the last line before the statement.
	if err := t.Check(c.Current, c.Pending); err != nil {
		return err
	}
	current, err := parse(c.Current)
	if err != nil {
		return err
	}
	next, err := parse(c.Pending)
	if err != nil {
		return err
	}
	s, err := t.acting(ctx, c.As, current)
	if err != nil {
		return err
	}
	defer s.close()
	if t.alternates() {
		return t.setPartner(ctx, s, current, next)
	}
	if err := s.lock(ctx, next.user); err != nil {
		return err
	}
	return s.changer(t).set(ctx, current, next)
}

// Finish removes the password of c.Current, where it works beside that of
// c.Pending.
func (t *Target) Finish(ctx context.Context, c rotation.Change) error {
	if t.alternates() || c.Current == nil {
		return nil
	}
	old, err := parse(c.Current)
	if err != nil {
		return nil // somebody has put it there, and it was never rotated
	}
	is, err := parse(c.Pending)
	if err != nil {
		return err
	}
	if old.user != is.user {
		return nil
	}
	s, err := t.acting(ctx, c.As, is)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.lock(ctx, is.user); err != nil {
		return err
	}
	return s.changer(t).finish(ctx, old, is)
}
