package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/internal/rdsroots"
	"github.com/keyturn/keyturn/rotation"
)

type session func(context.Context, *pgx.Conn, *credential) error

// with runs f on a connection of its own, logged in with c.
func (t *Target) with(ctx context.Context, c *credential, f session) error {
	cfg, err := t.config(c)
	if err != nil {
		return err
	}
	return connected(ctx, cfg, c, f)
}

func connected(ctx context.Context, cfg *pgx.ConnConfig, c *credential, f session) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return c.connectError(err)
	}
	defer func() { _ = conn.Close(ctx) }() // all that was to be known is known
	if c.superuser {
		// The owner of a database may set it a search_path in which functions and
		// operators of its own stand before those of pg_catalog.
		if _, err := conn.Exec(ctx, "SET search_path TO pg_catalog, pg_temp"); err != nil {
			return c.wrap("SET search_path", err)
		}
	}
	return f(ctx, conn, c)
}

// withSuperuser runs f as the superuser, after it has seen that the user of
// c.Current logs in on the server on which the superuser will act. On its own
// server that has been seen by the handler.
func (t *Target) withSuperuser(ctx context.Context, c rotation.Change, f session) error {
	current, err := parse(c.Current)
	if err != nil {
		return err
	}
	super, err := parseSuperuser(c.As, current)
	if err != nil {
		return err
	}
	if super.address() != current.address() {
		there := *current
		there.host, there.port, there.ssl = super.host, super.port, super.ssl
		if err := t.with(ctx, &there, ping); errors.Is(err, rotation.ErrRefused) {
			// Not wrapped: it is not the superuser who is refused.
			return rotation.Problem(rotation.ReasonServer, "make the host of both secrets the same server, or that of the "+
				"superuser's the one that the other replicates", fmt.Errorf("the superuser's secret is for another server, %s "+
				"instead of %s, where the user of AWSCURRENT does not log in", super.address(), current.address()))
		} else if err != nil {
			return err
		}
	}
	return t.with(ctx, super, f)
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
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // no statement is run twice
	// See Test. The methods are those that prove the password.
	cfg.RequireAuth = "scram-sha-256,md5,password"
	if c.superuser {
		// Its password is not sent to a server because the other secret names that.
		cfg.RequireAuth = "scram-sha-256,md5"
	}
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
		switch {
		case cfg.TLSConfig.RootCAs != nil:
		case c.unproven:
			// Whoever may write that secret could put a server of theirs in between,
			// which has a certificate, but not RDS's.
			cfg.TLSConfig.RootCAs = rdsroots.Only()
		default:
			cfg.TLSConfig.RootCAs = rdsroots.Pool()
		}
		if cfg.TLSConfig.ServerName == "" {
			cfg.TLSConfig.ServerName = c.host
		}
	}
	return cfg, nil
}

// ident quotes a name, which has no NUL.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal quotes a string so that it means the same whatever
// standard_conforming_strings is.
func literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return "E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}
