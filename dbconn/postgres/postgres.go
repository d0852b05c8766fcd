package postgres

import (
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/retry"
)

// connectTimeout is what a login may take if nobody says connect_timeout: pgx
// alone would wait as long as the operating system does, for minutes.
const connectTimeout = 10 * time.Second

// Options are the settings of a connector. The zero value of each field is its
// documented default.
//
// What they do not say the DSN may say, then the PG* environment variables,
// then the secret.
type Options struct {
	// DSN is a connection string as [pgx.ParseConfig] takes it, as a URL or as
	// keywords and values. It names no user and no password: those are the
	// secret's, and PGUSER, PGPASSWORD and a password file do not count. A list
	// of hosts counts as one server, of which what each address accepts is
	// remembered by itself.
	DSN string

	// Host and Port, one unit, name the server. Default: see [Options]. A host that
	// nobody names is an error, not the local machine.
	Host string
	Port int

	// Database is the database's name. Default: see [Options], or else the user's
	// name, as PostgreSQL has it.
	Database string

	// Keys are the names of the secret's fields, where they are not AWS's own.
	Keys dbconn.Keys

	// TLS is the configuration of the connection; its ServerName, if empty, is
	// the host. Default: what sslmode says, and where nobody says sslmode, TLS
	// with the certificate verified against the host's name and the system's
	// roots or Amazon RDS's, which are built in, or no TLS to a loopback address
	// or a socket. There is no second attempt without TLS unless sslmode asks for
	// one.
	TLS *tls.Config

	// Configure changes what the connector made of all this: tracers, dial
	// functions, run-time parameters. It is called once for each server, before
	// the first login there; user and password are not in it. An error of it
	// is the error of every Connect.
	Configure func(*pgx.ConnConfig) error

	// Patience is how long a Connect waits for a rotation to end when the
	// server refuses every version of the secret: so long may a query wait that
	// has no deadline. Default 60 seconds. Negative: not at all.
	Patience time.Duration

	// MaxConcurrentLogins bounds the logins in flight. Zero or less: no limit.
	MaxConcurrentLogins int

	// KeepOld keeps connections that were opened with an older version of the
	// secret. Default: once a login has proven the newer version, they retire
	// when they are next taken from the pool, a tenth of them a second.
	KeepOld bool

	// OnEvent is called for what happens to the versions of the secret. See
	// [retry.Options].
	OnEvent func(retry.Event)

	// Stats counts what happens; several pools may share one. Default: nothing
	// does.
	Stats *retry.Stats

	// Logger gets refusals and waits at Warn, never a value. Default: silent.
	Logger *slog.Logger
}

// OpenDB returns a pool whose connections log in with the credentials of the
// secret, whichever of its versions the server accepts. It opens none yet. The
// error is about its parameters. Close the pool before the cache.
func OpenDB(c *cache.Cache, secretID string, opts *Options) (*sql.DB, error) {
	connector, err := NewConnector(c, secretID, opts)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// NewConnector returns what [OpenDB] opens its pool with. Its connections are
// pgx's own: sql.Conn.Raw yields a [*stdlib.Conn]. What the server accepts is
// remembered for each of its addresses by itself, as some may lag behind others.
//
// Connect returns [*retry.Error] if the server refuses every version there is to try
// ([dbconn.IsRefused] tells), pgx's error, wrapped with the names of the server and the
// secret, if the login fails for another reason, and the cache's own if the secret
// cannot be read; [errors.As] finds a [*pgconn.PgError] in there. It may wait as
// [retry.Retrier.Do] does, never longer than its context.
func NewConnector(c *cache.Cache, secretID string, opts *Options) (driver.Connector, error) {
	if opts == nil {
		opts = &Options{}
	}
	base, err := newBase(opts)
	if err != nil {
		return nil, err
	}
	if len(base.poolSettings) > 0 {
		return nil, errors.New("postgres: Options.DSN has settings of pgxpool (pool_…); use NewPool, or take them out")
	}
	con, err := newConnector(base, c, secretID)
	if err != nil {
		return nil, err // not a driver.Connector that holds a nil
	}
	return con, nil
}

// driverFor returns what package dbconn needs to know of pgx.
func driverFor() dbconn.Driver {
	return dbconn.Driver{
		Refused:     refused,
		RefusesUser: refusesUser,
		Accepts:     accepts,
		Code:        code,
		Engines:     []string{"postgres", "aurora-postgresql", "postgresql", "aurora-postgres"},
		DefaultPort: 5432,
	}
}

// options returns the options that package dbconn sees to.
func (b *base) options() *dbconn.Options {
	return &dbconn.Options{
		Host:                b.host,
		Port:                b.port,
		Database:            b.opts.Database,
		Keys:                b.opts.Keys,
		Patience:            b.opts.Patience,
		MaxConcurrentLogins: b.opts.MaxConcurrentLogins,
		KeepOld:             b.opts.KeepOld,
		OnEvent:             b.opts.OnEvent,
		Stats:               b.opts.Stats,
		Logger:              b.opts.Logger,
	}
}
