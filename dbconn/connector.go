package dbconn

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
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

	// Refused reports whether an error of that Connect is the server refusing
	// the login, as opposed to the network failing or the server being full.
	Refused func(error) bool

	// Driver is what the connector's Driver method returns. Default: a driver
	// that opens nothing.
	Driver driver.Driver

	// DefaultPort is the port where nobody names one.
	DefaultPort int
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

	// Patience is how long a Connect waits for a rotation to end when the
	// server refuses every version of the secret. Default 60 seconds. Negative:
	// not at all.
	Patience time.Duration

	// MaxConcurrentLogins bounds the logins in flight. Zero or less: no limit.
	// See [retry.Options].
	MaxConcurrentLogins int

	// Logger gets refusals and waits at Warn, never a value. Default: silent.
	Logger *slog.Logger
}

// connector logs in with whichever version of the secret its server accepts.
// It returns the driver's own connections and wraps nothing but the act of
// opening them: every optional interface of database/sql, and what
// sql.Conn.Raw yields, stay the driver's.
type connector struct {
	cache    *cache.Cache
	secretID string
	handle   *cache.Handle
	driver   Driver
	opts     Options

	mu       sync.Mutex                  // protects following; never held during a login
	retriers map[endpoint]*retry.Retrier // what each server accepts is its own affair
	decoded  map[string]Credentials      // by version: its contents never change
}

// An endpoint is a server that logins go to.
type endpoint struct {
	host string
	port int
}

func (e endpoint) String() string {
	if e.port == 0 {
		return e.host
	}
	return net.JoinHostPort(e.host, strconv.Itoa(e.port))
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
	switch {
	case c == nil:
		return nil, errors.New("dbconn: the cache is nil; make one with cache.New")
	case secretID == "":
		return nil, errors.New("dbconn: the secret ID is empty; give the name or the ARN of a secret")
	case d.Connector == nil || d.Refused == nil:
		return nil, errors.New("dbconn: Driver.Connector and Driver.Refused must be set")
	}
	con := &connector{
		cache:    c,
		secretID: secretID,
		handle:   c.Handle(secretID),
		driver:   d,
		retriers: make(map[endpoint]*retry.Retrier),
		decoded:  make(map[string]Credentials),
	}
	if opts != nil {
		con.opts = *opts
	}
	if con.opts.Port != 0 && con.opts.Host == "" {
		return nil, errors.New("dbconn: Options.Port is set without Options.Host; host and port come from one place, so set both or neither")
	}
	if con.opts.Port < 0 || con.opts.Port > 65535 {
		return nil, fmt.Errorf("dbconn: Options.Port is %d; a port is a number from 1 to 65535", con.opts.Port)
	}
	return con, nil
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
	s, err := c.handle.Get(ctx)
	if err != nil {
		return nil, err
	}
	server, err := c.endpoint(s)
	if err != nil {
		return nil, err
	}
	conn, err := c.login(ctx, server)
	if err == nil {
		return conn, nil
	}
	// The secret may have been found to name another server meanwhile: the
	// database has moved, and the login was refused where it used to be.
	if s, ok := c.handle.Peek(); ok && IsRefused(err) {
		if moved, moveErr := c.endpoint(s); moveErr == nil && moved != server {
			return c.login(ctx, moved)
		}
	}
	return nil, err
}

// login opens a connection to the server with a version that it accepts.
func (c *connector) login(ctx context.Context, server endpoint) (driver.Conn, error) {
	var conn driver.Conn
	var own error // the driver's, of the last login
	err := c.retrier(server).Do(ctx, func(ctx context.Context, s *cache.Secret) error {
		credentials, err := c.credentials(s)
		if err != nil {
			return err
		}
		inner, err := c.driver.Connector(credentials)
		switch {
		case err != nil:
		case inner == nil:
			err = errors.New("Driver.Connector returned neither a connector nor an error")
		default:
			conn, err = inner.Connect(ctx)
		}
		own = withoutPassword(err, credentials.Password())
		return own
	})
	switch {
	case err == nil:
		return conn, nil
	case own != nil && !IsRefused(err):
		// It names the server at best, and a program may have many secrets.
		return nil, fmt.Errorf("dbconn: logging in to %s with secret %q: %w", server, c.secretID, own)
	}
	return nil, err
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

// retrier returns the memory of what the server accepts.
func (c *connector) retrier(server endpoint) *retry.Retrier {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.retriers[server]
	if r == nil {
		r = retry.New(c.cache, c.secretID, c.driver.Refused, &retry.Options{
			Target: server.String(),
			// A version that does not say what is needed, or names another
			// server, is not for this one.
			Usable: func(s *cache.Secret) bool {
				of, err := c.endpoint(s)
				return err == nil && of == server
			},
			Patience:            c.opts.Patience,
			MaxConcurrentLogins: c.opts.MaxConcurrentLogins,
			Logger:              c.opts.Logger,
		})
		c.retriers[server] = r
	}
	return r
}

// endpoint returns the server that the version is for.
func (c *connector) endpoint(s *cache.Secret) (endpoint, error) {
	credentials, err := c.credentials(s)
	return endpoint{credentials.Host, credentials.Port}, err
}

// credentials returns what the version says, completed by the Options.
func (c *connector) credentials(s *cache.Secret) (Credentials, error) {
	c.mu.Lock()
	credentials, ok := c.decoded[s.VersionID()]
	c.mu.Unlock()
	if ok {
		return credentials, nil
	}
	credentials, err := decode(s)
	if err != nil {
		return Credentials{}, err
	}
	if c.opts.Host != "" {
		credentials.Host, credentials.Port = c.opts.Host, c.opts.Port
	}
	if credentials.Host == "" {
		return Credentials{}, fmt.Errorf("dbconn: secret %q (version %s) has no field %q, and no option names a host; "+
			"set Options.Host, or name the host in the DSN or in the secret", s.Name(), s.VersionID(), "host")
	}
	if credentials.Port == 0 {
		credentials.Port = c.driver.DefaultPort
	}
	if c.opts.Database != "" {
		credentials.Database = c.opts.Database
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// A handful of versions is alive at a time; the rest need not be kept.
	if len(c.decoded) >= 8 {
		clear(c.decoded)
	}
	c.decoded[s.VersionID()] = credentials
	return credentials, nil
}
