package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// loginTimeout is what a login may take if nobody says a longer timeout. The
// driver's own timeout is for dialling alone: a server that takes the connection
// and says nothing would be waited for as long as the caller does.
const loginTimeout = 10 * time.Second

// A login is a connector of the driver for one login.
type login struct {
	inner     driver.Connector
	timeout   time.Duration
	encrypted bool
	guard     *guard // nil: none
}

// Connect implements [driver.Connector].
func (l *login) Connect(ctx context.Context) (driver.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	conn, err := l.inner.Connect(bounded)
	switch {
	case err == nil:
		return conn, nil
	case l.guard != nil && l.guard.offered:
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
func (l *login) Driver() driver.Driver { return l.inner.Driver() }
