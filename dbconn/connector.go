package dbconn

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

// A Driver is what this package needs to know of a database/sql driver.
type Driver struct {
	// Connector returns a connector of the driver for the credentials, of which
	// Host is never empty. It is called for every login and must do no I/O.
	// Its Connect is one attempt.
	Connector func(Credentials) (driver.Connector, error)

	// Addresses returns the addresses of the server that the credentials name, in
	// the order in which to try them, if there is more than one place where a login
	// may end up: the nodes behind a reader endpoint, of which some lag. What each
	// of them accepts is remembered by itself, and the next is tried if one cannot
	// be dialled ([net.OpError] tells). It is called for every connect and may look
	// a name up, and may name an address more than once. None, and the default: the
	// server is one place.
	Addresses func(context.Context, Credentials) ([]Address, error)

	// Refused reports whether an error of that Connect is the server refusing
	// the login, as opposed to the network failing or the server being full.
	Refused func(error) bool

	// LockedOut reports whether an error of that Connect says that the server
	// has locked the user out: then nothing is tried with that user for a while.
	// It is asked first, and such an error need not be one for Refused too.
	// Default: none does.
	LockedOut func(error) bool

	// RefusesUser reports whether such an error says that the server does not
	// want this user, whatever the password: then only versions with another
	// user are tried. It is asked after LockedOut and before Refused. Default:
	// none does.
	RefusesUser func(error) bool

	// Accepts reports whether such an error says that the login was good, and
	// something else is not, the database say. Default: none does.
	Accepts func(error) bool

	// Code returns the code in such an error, for events: an SQLSTATE, an error
	// number. Default: none.
	Code func(error) string

	// Engines are the values of the secret's field "engine" that the driver is
	// for, in lower case. A secret without that field is for any. Default: the
	// field is not looked at.
	Engines []string

	// Driver is what the connector's Driver method returns. Default: a driver
	// that opens nothing.
	Driver driver.Driver

	// DefaultPort is the port where nobody names one.
	DefaultPort int
}

// An Address is one of those that a server has.
type Address struct {
	// Addr is the address as the driver dials it.
	Addr string

	// Wait is how long the driver waits for an answer to its dial before the next
	// address is tried. Zero: as long as it waits for one that has no others beside it.
	Wait time.Duration
}

// Options are the settings of a connector. The zero value of each field is its
// documented default.
type Options struct {
	// Host and Port, one unit, go before the secret's. Default: the secret's
	// host, and its port or else the driver's default.
	Host string
	Port int

	// Database goes before the secret's dbname.
	Database string

	// Keys are the names of the secret's fields, where they are not AWS's own.
	Keys Keys

	// Patience is how long a Connect waits for a rotation to end when the
	// server refuses every version of the secret. Default 60 seconds. Negative:
	// not at all.
	Patience time.Duration

	// MaxConcurrentLogins bounds the logins in flight. Zero or less: no limit.
	// See [retry.Options].
	MaxConcurrentLogins int

	// KeepOld keeps connections that were opened with an older version of the
	// secret. Default: once a login has proven the newer version, they retire
	// when they are next checked out of the pool, within ten seconds and evenly
	// spread. That takes a driver that asks [Credentials.Retired]; with another
	// one set SetConnMaxLifetime to less than half of the rotation's period.
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

// Keys are the names of the fields of a database secret. An empty one stands for
// AWS's own name.
type Keys struct {
	Username string // username
	Password string // password
	Host     string // host
	Port     string // port
	Database string // dbname
	Engine   string // engine
}

// connector logs in with whichever version of the secret its server accepts.
// It returns the driver's own connections and wraps nothing but the act of
// opening them: every optional interface of database/sql, and what
// sql.Conn.Raw yields, stay the driver's.
type connector struct {
	source *Source
	driver Driver
}

// NewConnector returns a connector for [sql.OpenDB] that logs in through d with
// the credentials of the secret, whichever of its versions the server accepts.
// It does no I/O. The error is about its parameters.
//
// Connect returns [*retry.Error] if the server refuses every version there is
// to try ([IsRefused] tells), the driver's own error, wrapped with the names of
// the server and the secret, if the login fails for another reason, and the
// cache's own if the secret cannot be read. It may wait as [retry.Retrier.Do]
// does, never longer than its context.
func NewConnector(c *cache.Cache, secretID string, d Driver, opts *Options) (driver.Connector, error) {
	if d.Connector == nil {
		return nil, errors.New("dbconn: Driver.Connector and Driver.Refused must be set")
	}
	con := &connector{driver: d}
	var err error
	con.source, err = NewSource(c, secretID, d, opts, con.prove)
	if err != nil {
		return nil, err
	}
	return con, nil
}

// prove opens a connection and closes it.
func (c *connector) prove(ctx context.Context) error {
	conn, err := c.Connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// IsRefused reports whether err says that a server refused the credential, and
// that no other version of the secret was accepted in its place. [*retry.Error]
// has the details: which versions were tried, and whether there may be more.
func IsRefused(err error) bool {
	_, ok := errors.AsType[*retry.Error](err)
	return ok
}

// Connect implements [driver.Connector].
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	server, err := c.source.Held(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.login(ctx, server)
	if err == nil {
		return conn, nil
	}
	// The secret may have been found to name another server meanwhile, by this
	// caller or by another: the database has moved, and whatever is wrong where it
	// used to be, a refusal or nobody there any more, is not what is asked.
	if moved, ok := c.source.Moved(server); ok && ctx.Err() == nil {
		return c.login(ctx, moved)
	}
	return nil, err
}

// login opens a connection to the server, at the first of its addresses that can be
// reached.
func (c *connector) login(ctx context.Context, server Credentials) (driver.Conn, error) {
	var addresses []Address
	if c.driver.Addresses != nil {
		var err error
		if addresses, err = c.driver.Addresses(ctx, server); err != nil {
			return nil, c.failure(server, err)
		}
	}
	if len(addresses) == 0 {
		return c.loginAt(ctx, server, Address{})
	}
	var first error
	for _, address := range addresses {
		conn, err := c.loginAt(ctx, server, address)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err // as a Dialer has it, too
		}
		if !undialled(err) || ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, first
}

// undialled reports whether err says that there was no connection to log in over.
func undialled(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return ok && failed.Op == "dial"
}

// loginAt opens a connection to one address of the server with a version that it
// accepts.
func (c *connector) loginAt(ctx context.Context, server Credentials, address Address) (driver.Conn, error) {
	w := c.source.Walk(server, address.Addr)
	for {
		credentials, err := w.Next(ctx)
		if err != nil {
			return nil, err
		}
		credentials.Address = address
		conn, again, err := c.attempt(ctx, w, credentials)
		switch {
		case again:
		case err == nil:
			return conn, nil
		default:
			return nil, c.failure(server, err)
		}
	}
}

// failure returns an error of the driver with the names of the server and the secret:
// it has the server's at best, and a program may have many secrets.
func (c *connector) failure(server Credentials, err error) error {
	return fmt.Errorf("dbconn: logging in to %s with secret %q: %w", server.Server(), c.source.secretID, err)
}

// attempt makes one login, and lets the others go on should the driver panic.
func (c *connector) attempt(ctx context.Context, w *Walk, credentials Credentials) (conn driver.Conn, again bool, err error) {
	ended := false
	defer func() {
		if !ended {
			w.walk.NoVerdict(ctx)
		}
	}()
	inner, err := c.driver.Connector(credentials)
	switch {
	case err != nil:
	case inner == nil:
		err = errors.New("Driver.Connector returned neither a connector nor an error")
	default:
		conn, err = inner.Connect(ctx)
	}
	err = withoutPassword(err, credentials.Password())
	again = w.Done(ctx, err)
	ended = true
	return conn, again, err
}

// Driver implements [driver.Connector].
func (c *connector) Driver() driver.Driver {
	if c.driver.Driver != nil {
		return c.driver.Driver
	}
	return closedDriver{}
}

// closedDriver stands for a driver that was not named.
type closedDriver struct{}

func (closedDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("dbconn: this driver opens no data source name; give the connector to sql.OpenDB")
}
