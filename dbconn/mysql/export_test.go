package mysql

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
)

// Spread is how the addresses of a server are tried.
var Spread = spread

// NewLimits returns the function that bounds logins, with a timer of its own.
func NewLimits() func(context.Context, time.Duration) (context.Context, context.CancelFunc) {
	return new(limits).withTimeout
}

// They tell the errors of a login apart.
var (
	Refused     = refused
	RefusesUser = refusesUser
	LockedOut   = lockedOut
	Accepts     = accepts
)

// NewMergedConnector returns a connector whose connects end in see, which gets the
// configuration that the driver would have used.
func NewMergedConnector(c *cache.Cache, secretID string, opts *Options, see func(*mysql.Config) error) (driver.Connector, error) {
	b, err := newBase(opts)
	if err != nil {
		return nil, err
	}
	if err := b.cfg.Apply(mysql.BeforeConnect(func(_ context.Context, cfg *mysql.Config) error { return see(cfg) })); err != nil {
		return nil, err
	}
	d := b.driver()
	d.Addresses = nil // the hosts of these tests are nowhere
	return dbconn.NewConnector(c, secretID, d, b.options())
}

// NewTracedConnector returns a connector that calls begin before each login, and
// what that returns with its outcome.
func NewTracedConnector(c *cache.Cache, secretID string, opts *Options, begin func() func(error)) (driver.Connector, error) {
	b, err := newBase(opts)
	if err != nil {
		return nil, err
	}
	d := b.driver()
	own := d.Connector
	d.Connector = func(credentials dbconn.Credentials) (driver.Connector, error) {
		connector, err := own(credentials)
		return traced{connector, begin}, err
	}
	return dbconn.NewConnector(c, secretID, d, b.options())
}

// NewSpreadConnector returns a connector to a server that has these addresses.
func NewSpreadConnector(c *cache.Cache, secretID string, opts *Options, addresses func() []dbconn.Address) (driver.Connector, error) {
	b, err := newBase(opts)
	if err != nil {
		return nil, err
	}
	d := b.driver()
	d.Addresses = func(context.Context, dbconn.Credentials) ([]dbconn.Address, error) { return addresses(), nil }
	return dbconn.NewConnector(c, secretID, d, b.options())
}

type traced struct {
	driver.Connector
	begin func() func(error)
}

func (t traced) Connect(ctx context.Context) (driver.Conn, error) {
	end := t.begin()
	conn, err := t.Connector.Connect(ctx)
	end(err)
	return conn, err
}
