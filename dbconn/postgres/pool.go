package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
)

// NewPool returns a pgx pool whose connections log in with the credentials of the
// secret, whichever of its versions the server accepts: it is tried out inside the
// one connect that the pool makes. Options.DSN may have pgxpool's settings
// (pool_max_conns and the like). It opens no connection before it returns; ctx is
// [pgxpool.NewWithConfig]'s. The error is about the parameters. Close the pool
// before the cache.
//
// An error of a connect is pgx's own, in which [errors.As] finds a
// [*pgconn.PgError] and, if every version was refused, a [*retry.Error].
func NewPool(ctx context.Context, c *cache.Cache, secretID string, opts *Options) (*pgxpool.Pool, error) {
	if opts == nil {
		opts = &Options{}
	}
	b, err := newBase(opts)
	if err != nil {
		return nil, err
	}
	// The server is named with every connect; here it is only to be read.
	cfg, err := pgxpool.ParseConfig("host=host.invalid sslmode=disable " + b.poolSettings.text())
	if err != nil {
		return nil, errors.New("postgres: a pool_ setting of Options.DSN cannot be parsed: " + reason(err))
	}
	if err := b.configurePool(cfg, c, secretID); err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, cfg)
}

// ConfigurePool makes a pool's configuration log in as [NewPool] says. Its hooks
// stay and are called as before; BeforeConnect gets the configuration without user
// and password, and what it says of those does not count. What cfg says of host,
// database and TLS goes before the secret, if it is not what pgx makes of nothing.
// Options.DSN must be empty. Give cfg to [pgxpool.NewWithConfig] after that, and do
// not change it any more.
func ConfigurePool(cfg *pgxpool.Config, c *cache.Cache, secretID string, opts *Options) error {
	if opts == nil {
		opts = &Options{}
	}
	switch {
	case cfg == nil:
		return errors.New("postgres: the pool's configuration is nil; make one with pgxpool.ParseConfig")
	case opts.DSN != "":
		return errors.New("postgres: Options.DSN and a pool's configuration are both given; give pgxpool.ParseConfig the DSN")
	}
	b, err := newBaseFrom(cfg.ConnConfig, opts)
	if err != nil {
		return err
	}
	return b.configurePool(cfg, c, secretID)
}

// Connect opens one connection that logs in as [NewPool] says: for LISTEN, for
// replication. The error is as that of the connector's Connect: see [NewConnector],
// which is also what opens several: Connect remembers nothing of the one before.
func Connect(ctx context.Context, c *cache.Cache, secretID string, opts *Options) (*pgx.Conn, error) {
	con, err := NewConnector(c, secretID, opts)
	if err != nil {
		return nil, err
	}
	conn, err := con.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return conn.(*stdlib.Conn).Conn(), nil
}

// configurePool hooks the chain into the pool's configuration.
func (b *base) configurePool(cfg *pgxpool.Config, c *cache.Cache, secretID string) error {
	var source *dbconn.Source
	var err error
	before := cfg.BeforeConnect
	beforeConnect := func(ctx context.Context, cc *pgx.ConnConfig) error {
		return b.beforeConnect(ctx, cc, source, before)
	}
	source, err = dbconn.NewSource(c, secretID, driverFor(), b.options(), func(ctx context.Context) error {
		cc := cfg.ConnConfig.Copy()
		if err := beforeConnect(ctx, cc); err != nil {
			return err
		}
		conn, err := pgx.ConnectConfig(ctx, cc)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		return err
	}
	cfg.BeforeConnect = beforeConnect
	prepare, acquire := cfg.PrepareConn, cfg.BeforeAcquire //nolint:staticcheck // A user's may be there still.
	cfg.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if retired(conn) {
			return false, nil // the pool takes another one
		}
		switch {
		case prepare != nil:
			return prepare(ctx, conn)
		case acquire != nil:
			return acquire(ctx, conn), nil
		}
		return true, nil
	}
	return nil
}

// retired reports whether the connection is to be closed: see
// [dbconn.Credentials.Retired].
func retired(conn *pgx.Conn) bool {
	login, ok := conn.PgConn().CustomData()[connKey].(dbconn.Credentials)
	return ok && login.Retired()
}

// beforeConnect makes cc what a connect to the server takes that the secret names,
// or whoever goes before it.
func (b *base) beforeConnect(ctx context.Context, cc *pgx.ConnConfig, source *dbconn.Source, user func(context.Context, *pgx.ConnConfig) error) error {
	server, err := source.Held(ctx)
	if err != nil {
		return err
	}
	return b.prepare(ctx, cc, source, server, user)
}

// prepare makes cc what a connect to the server takes, and asks for what to log in
// with first. user is a hook of the pool's, or nil.
func (b *base) prepare(ctx context.Context, cc *pgx.ConnConfig, source *dbconn.Source, server dbconn.Credentials, user func(context.Context, *pgx.ConnConfig) error) error {
	prepared, err := b.prepared(server)
	if err != nil {
		return err
	}
	*cc = *prepared // pgx makes a deep copy of it
	if user != nil {
		*cc = *prepared.Copy() // for the hook to do with it what it likes
		if err := user(ctx, cc); err != nil {
			return err
		}
	}
	ch := &chain{source: source, server: server}
	if err := ch.install(ctx, cc); err != nil {
		return err
	}
	return ch.begin(ctx)
}
