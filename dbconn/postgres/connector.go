package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
	"github.com/keyturn/keyturn/retry"
)

// A connector is database/sql's way into the chain. [dbconn.NewConnector] would
// make one of it too, and does for other drivers; but pgx itself goes through hosts,
// their addresses, and attempts with and without TLS, and what each of them accepts
// is remembered by itself only from within.
type connector struct {
	base   *base
	source *dbconn.Source
}

// newConnector returns a connector for the secret.
func newConnector(b *base, c *cache.Cache, secretID string) (*connector, error) {
	con := &connector{base: b}
	var err error
	con.source, err = dbconn.NewSource(c, secretID, driverFor(), b.options(), func(ctx context.Context) error {
		conn, err := con.Connect(ctx)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return nil, err
	}
	return con, nil
}

// Connect implements [driver.Connector].
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err // not a driver.Conn that holds a nil
	}
	return conn, nil
}

// connect is Connect with the type that the connection has.
func (c *connector) connect(ctx context.Context) (*stdlib.Conn, error) {
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

// login opens a connection to the server with a version that it accepts.
func (c *connector) login(ctx context.Context, server dbconn.Credentials) (*stdlib.Conn, error) {
	var cfg pgx.ConnConfig
	if err := c.base.prepare(ctx, &cfg, c.source, server, nil); err != nil {
		return nil, err
	}
	conn, err := stdlib.GetConnector(cfg, stdlib.OptionResetSession(resetSession)).Connect(ctx)
	if err != nil {
		return nil, c.failure(server, err)
	}
	return conn.(*stdlib.Conn), nil
}

// resetSession keeps database/sql from handing out a connection that has retired.
func resetSession(_ context.Context, conn *pgx.Conn) error {
	if retired(conn) {
		return driver.ErrBadConn
	}
	return nil
}

// failure returns what the caller gets to know of an error of pgx: if that is ours,
// as it is.
func (c *connector) failure(server dbconn.Credentials, err error) error {
	if refused, ok := errors.AsType[*retry.Error](err); ok {
		return refused
	}
	if unread, ok := errors.AsType[*cache.Error](err); ok {
		return unread
	}
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = newConnectError(failed)
	}
	// It names the server at best, and a program may have many secrets.
	return fmt.Errorf("postgres: logging in to %s with secret %q: %w", server.Server(), c.source.SecretID(), err)
}

// A connectError is an error of pgx without a line for each attempt that was not made.
type connectError struct {
	text string
	pgx  *pgconn.ConnectError
}

func newConnectError(failed *pgconn.ConnectError) *connectError {
	texts := []string{}
	attempts := []error{failed.Unwrap()}
	if joined, ok := attempts[0].(interface{ Unwrap() []error }); ok {
		attempts = joined.Unwrap()
	}
	for _, attempt := range attempts {
		if !errors.Is(attempt, errSpent) {
			texts = append(texts, attempt.Error())
		}
	}
	return &connectError{strings.Join(texts, "; "), failed}
}

func (e *connectError) Error() string { return e.text }

func (e *connectError) Unwrap() error { return e.pgx }

// Is reports true for [context.DeadlineExceeded] where connect_timeout was over: with
// pgx alone it is a context's too, in the chain the connection's.
func (e *connectError) Is(target error) bool {
	return target == context.DeadlineExceeded && pgconn.Timeout(e.pgx)
}

// Driver implements [driver.Connector].
func (*connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }
