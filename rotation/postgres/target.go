package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/rotation"
)

// Options are the optional parts of a [Target]. A zero field is its default.
type Options struct {
	// TLS is used, as a copy, for connections that are encrypted: with RootCAs,
	// for a server whose certificate the system's roots do not know. An empty
	// ServerName means the host of the secret. nil: the system's roots.
	TLS *tls.Config

	// ConnectTimeout bounds each attempt to connect and log in. 0: 5 s.
	ConnectTimeout time.Duration

	// DialFunc opens the network connection, through a tunnel for instance. It
	// gets the host as the secret names it, not resolved. nil: a [net.Dialer].
	DialFunc pgconn.DialFunc
}

// Target is a PostgreSQL server whose user changes its own password. Which
// server and which user is said by the secret: one Target serves any number.
type Target struct {
	opts Options
}

var _ rotation.Target = (*Target)(nil)

// NewTarget returns a target for the single-user strategy. opts may be nil.
func NewTarget(opts *Options) *Target {
	t := &Target{}
	if opts != nil {
		t.opts = *opts
	}
	if t.opts.ConnectTimeout <= 0 {
		t.opts.ConnectTimeout = 5 * time.Second
	}
	return t
}

// Next returns current with another password.
func (t *Target) Next(current, password *rotation.Value) (*rotation.Value, error) {
	if _, err := parse(current); err != nil {
		return nil, err
	}
	return current.With("password", password.Text())
}

// Check reports whether the two values name different users, or different
// servers: then changing the password of the one would not be a rotation of the
// other.
func (t *Target) Check(current, pending *rotation.Value) error {
	c, err := parse(current)
	if err != nil {
		return fmt.Errorf("version %s: %w", current.VersionID(), err)
	}
	p, err := parse(pending)
	if err != nil {
		return fmt.Errorf("version %s: %w", pending.VersionID(), err)
	}
	switch {
	case c.user != p.user:
		return fmt.Errorf("another user: %q, not %q", p.user, c.user)
	case c.host != p.host || c.port != p.port:
		return fmt.Errorf("another server: %s, not %s", p.address(), c.address())
	}
	return nil
}

// Test logs in with v and runs a statement.
//
// Logging in counts only if the server has asked for a password. Where it does
// not ("trust" in pg_hba.conf), any password seems to work, and rotating would
// put one into the secret that the server has never heard of.
func (t *Target) Test(ctx context.Context, v *rotation.Value) error {
	return t.with(ctx, v, func(conn *pgx.Conn, c *credential) error {
		_, err := conn.Exec(ctx, "SELECT 1")
		return c.wrap("SELECT 1", err)
	})
}

// Set logs in as c.As and sets the password of c.Pending.
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
		return errors.New("the password of AWSPENDING has characters outside of printable ASCII, which clients normalise " +
			"in different ways: put another one into AWSPENDING")
	}
	// The handler has checked it. This is the last line before the statement.
	if err := t.Check(c.As, c.Pending); err != nil {
		return err
	}
	return t.with(ctx, c.As, func(conn *pgx.Conn, c *credential) error {
		var encryption string
		if err := conn.QueryRow(ctx, "SHOW password_encryption").Scan(&encryption); err != nil {
			return c.wrap("SHOW password_encryption", err)
		}
		verifier, err := newVerifier(encryption, next.user, next.password())
		if err != nil {
			return c.wrap("password_encryption", err)
		}
		// Quotes are all that a verifier needs: it has no character to escape.
		_, err = conn.Exec(ctx, "ALTER ROLE "+pgx.Identifier{next.user}.Sanitize()+" PASSWORD '"+verifier+"'")
		return c.wrap("ALTER ROLE", err)
	})
}

// with runs f on a connection of its own, logged in with v.
func (t *Target) with(ctx context.Context, v *rotation.Value, f func(*pgx.Conn, *credential) error) error {
	c, err := parse(v)
	if err != nil {
		return err
	}
	cfg, err := t.config(c)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return c.connectError(err)
	}
	defer func() { _ = conn.Close(ctx) }() // all that was to be known is known
	return f(conn, c)
}

// config returns a configuration in which nothing is from the environment that
// the secret decides. ParseConfig is the only way to get one at all; its string
// holds no part of the secret, which needs no quoting then.
func (t *Target) config(c *credential) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig("host=localhost port=5432 user=nobody password=none dbname=postgres " +
		"sslmode=disable target_session_attrs=any")
	if err != nil {
		// The service file that PGSERVICE names, say. Not wrapped: it may quote one.
		return nil, errors.New("the environment's PG* variables are no PostgreSQL configuration: unset them")
	}
	cfg.Host, cfg.Port, cfg.Fallbacks = c.host, c.port, nil
	cfg.User, cfg.Password, cfg.Database = c.user, c.password(), c.database
	cfg.RuntimeParams = map[string]string{"application_name": "keyturn-rotation"}
	cfg.ConnectTimeout = t.opts.ConnectTimeout
	// See Test. The methods are those that prove the password.
	cfg.RequireAuth = "scram-sha-256,md5,password"
	if t.opts.DialFunc != nil {
		cfg.DialFunc = t.opts.DialFunc
		cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	}
	cfg.TLSConfig = nil
	if c.encrypted() {
		cfg.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if t.opts.TLS != nil {
			cfg.TLSConfig = t.opts.TLS.Clone()
		}
		if cfg.TLSConfig.ServerName == "" {
			cfg.TLSConfig.ServerName = c.host
		}
	}
	return cfg, nil
}
