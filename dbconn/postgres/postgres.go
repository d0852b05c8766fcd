package postgres

import (
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
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
	// of hosts counts as one server: what it accepts is remembered for the list.
	DSN string

	// Host and Port, one unit, name the server. Default: as above. A host that
	// nobody names is an error, not the local machine.
	Host string
	Port int

	// Database is the database's name. Default: as above, or else the user's
	// name, as PostgreSQL has it.
	Database string

	// TLS is the configuration of the connection; its ServerName, if empty, is
	// the host. Default: what sslmode says, and where nobody says sslmode, TLS
	// with the certificate verified against the system's roots and the host's
	// name, or no TLS to a loopback address or a socket. There is no second
	// attempt without TLS unless sslmode asks for one.
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
// pgx's own: sql.Conn.Raw yields a [*stdlib.Conn]. Connect returns what
// [dbconn.NewConnector] says; a [*pgconn.PgError] in there is found by
// [errors.As].
func NewConnector(c *cache.Cache, secretID string, opts *Options) (driver.Connector, error) {
	if opts == nil {
		opts = &Options{}
	}
	base, err := newBase(opts)
	if err != nil {
		return nil, err
	}
	return dbconn.NewConnector(c, secretID, dbconn.Driver{
		Connector:   base.connector,
		Refused:     refused,
		Driver:      stdlib.GetDefaultDriver(),
		DefaultPort: 5432,
	}, &dbconn.Options{
		Host:                base.host,
		Port:                base.port,
		Database:            opts.Database,
		Patience:            opts.Patience,
		MaxConcurrentLogins: opts.MaxConcurrentLogins,
		Logger:              opts.Logger,
	})
}
