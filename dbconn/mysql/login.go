package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn"
)

// loginTimeout is what a login may take if nobody says a longer timeout. The
// driver's own timeout is for dialling alone: a server that takes the connection
// and says nothing would be waited for as long as the caller does.
const loginTimeout = 10 * time.Second

// A prepared is the driver's connector for a server and a version of the secret, which
// is made once: to make one is as dear as all else that a login costs beside the
// driver's own work.
//
// One for all versions would need the driver's hook BeforeConnect, which may be the
// user's already, and a configuration does not tell.
type prepared struct {
	credentials dbconn.Credentials // of the first login
	connector   driver.Connector
	timeout     time.Duration
	encrypted   bool
	guarded     bool
}

// prepared returns what a login with the credentials is made with.
func (b *base) prepared(credentials dbconn.Credentials) (*prepared, error) {
	if p := b.latest.Load(); p != nil && p.fits(credentials) {
		return p, nil
	}
	cfg, guarded, err := b.configure(place{credentials.Host, credentials.Port, credentials.Database})
	if err != nil {
		return nil, err
	}
	b.trustRDS(cfg.TLS)
	cfg.User, cfg.Passwd = credentials.Username, credentials.Password()
	inner, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	p := &prepared{
		credentials: credentials,
		connector:   inner,
		timeout:     max(loginTimeout, cfg.Timeout),
		encrypted:   cfg.TLS != nil,
		guarded:     guarded,
	}
	// One that falls back to plain text takes TLS out of its configuration, for all
	// of its logins.
	if !cfg.AllowFallbackToPlaintext {
		b.latest.Store(p)
	}
	return p, nil
}

// fits reports whether p is for these credentials.
func (p *prepared) fits(credentials dbconn.Credentials) bool {
	made := &p.credentials
	return made.Host == credentials.Host && made.Port == credentials.Port && made.Database == credentials.Database &&
		made.Username == credentials.Username && made.Password() == credentials.Password()
}

// connector returns the driver's connector for one login with the credentials.
func (b *base) connector(credentials dbconn.Credentials) (driver.Connector, error) {
	p, err := b.prepared(credentials)
	if err != nil {
		return nil, err
	}
	w := &wire{credentials: credentials}
	if p.guarded {
		w.guard = &guard{}
	}
	return &login{p, &b.limits, w}, nil
}

// A login is a connector of the driver for one login.
type login struct {
	*prepared
	limits *limits
	wire   *wire
}

// Connect implements [driver.Connector].
func (l *login) Connect(ctx context.Context) (driver.Conn, error) {
	bounded, cancel := l.limits.withTimeout(ctx, l.timeout)
	defer cancel()
	conn, err := l.connector.Connect(context.WithValue(bounded, wireKey{}, l.wire))
	switch {
	case err == nil:
		return conn, nil
	case l.guarded && l.wire.guard.offered:
		return nil, errOffered // the driver's is "invalid connection"
	case err.Error() == noKeyText():
		return nil, errNoKey
	case errors.Is(err, context.DeadlineExceeded) && bounded.Err() != nil && ctx.Err() == nil:
		// Whose deadline that was is not to be seen in the error.
		return nil, fmt.Errorf("%w: the login took longer than %v, which a longer timeout in the DSN extends", err, l.timeout)
	case !l.encrypted && number(err) == accessDenied:
		return nil, fmt.Errorf("%w (the same is said to a user that must log in over TLS, which this connection is without)", err)
	}
	return nil, err
}

// Driver implements [driver.Connector].
func (l *login) Driver() driver.Driver { return l.connector.Driver() }
