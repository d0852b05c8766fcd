// Package opendsn puts Keyturn under a driver that has nothing but Open(dsn). It
// is to be copied and changed. The driver here is github.com/lib/pq, of which
// nothing else is used: it has connectors as well, and takes a configuration.
package opendsn

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
)

// Open returns a pool that logs in with the credentials of the secret, whichever of
// its versions the server accepts. settings are what else the driver is to be
// told: sslmode, connect_timeout.
//
// Nobody can ask such a driver before it takes a connection from the pool, so
// those that were opened with an old password stay until SetConnMaxLifetime ends
// them.
func Open(c *cache.Cache, secretID string, settings url.Values) (*sql.DB, error) {
	connector, err := dbconn.NewConnector(c, secretID, dbconn.Driver{
		Connector: func(credentials dbconn.Credentials) (driver.Connector, error) {
			return &opener{driver: pq.Driver{}, dsn: dsn(credentials, settings)}, nil
		},
		Refused:     func(err error) bool { return code(err) == "28P01" },
		RefusesUser: func(err error) bool { return code(err) == "28000" },
		Code:        code,
		Engines:     []string{"postgres", "aurora-postgresql"},
		Driver:      pq.Driver{},
		DefaultPort: 5432,
	}, nil)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// dsn returns the data source name for the credentials.
//
// It is made by the package that knows the form, never by fmt.Sprintf: a password
// that holds "@" or "?" would end early, and what follows it would be read as the
// host or as settings, sslmode=disable say.
func dsn(credentials dbconn.Credentials, settings url.Values) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(credentials.Username, credentials.Password()),
		Host:     net.JoinHostPort(credentials.Host, strconv.Itoa(credentials.Port)),
		Path:     "/" + credentials.Database,
		RawQuery: settings.Encode(),
	}
	return u.String()
}

// code returns the SQLSTATE of the server's error in err.
func code(err error) string {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return string(e.Code)
	}
	return ""
}

// An opener makes a connector of a driver and a data source name, and gives Open,
// which knows no context, an end: a login that hangs would hold up all others.
type opener struct {
	driver driver.Driver
	dsn    string
}

// Connect implements [driver.Connector].
func (o *opener) Connect(ctx context.Context) (driver.Conn, error) {
	type result struct {
		conn driver.Conn
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		conn, err := o.driver.Open(o.dsn)
		opened <- result{conn, o.withoutDSN(err)}
	}()
	select {
	case r := <-opened:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-opened; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// Driver implements [driver.Connector].
func (o *opener) Driver() driver.Driver { return o.driver }

// withoutDSN keeps the password out of an error. A driver that cannot parse the
// data source name quotes it, and package dbconn, which takes passwords out of
// errors, does not know this one as it is escaped.
func (o *opener) withoutDSN(err error) error {
	if err != nil && strings.Contains(err.Error(), o.dsn) {
		return errors.New("the driver cannot use its data source name: check the host and the database in the secret")
	}
	return err
}
