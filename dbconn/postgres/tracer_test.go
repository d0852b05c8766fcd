package postgres_test

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/loadtest"
)

// A tracer sees each login of pgx.
type tracer struct{ loadtest.Tracer }

// configure is an Options.Configure that has t see every login. A tracer of pgx
// sees a whole connect, of which they are part.
func (t *tracer) configure(cfg *pgx.ConnConfig) error {
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		t.Begin()
		conn, err := dial(ctx, network, address)
		if err != nil {
			t.End(loadtest.Other)
		}
		return conn, err
	}
	onPgError := cfg.OnPgError
	cfg.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		switch e.Code[:2] { // what ends a login, and no query of these tests
		case "28", "3D", "53":
			how := loadtest.Other
			if e.Code == "28P01" {
				how = loadtest.Refused
			}
			t.End(how)
		}
		return onPgError(conn, e)
	}
	cfg.ValidateConnect = func(context.Context, *pgconn.PgConn) error {
		t.End(loadtest.Other)
		return nil
	}
	return nil
}
