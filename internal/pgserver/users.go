package pgserver

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

// CreateUser creates a login role and a database of the same name that it owns.
func (s *Server) CreateUser(ctx context.Context, name, password string) error {
	return s.admin(ctx, func(conn *pgx.Conn) error {
		if err := roleStatement(ctx, conn, "CREATE ROLE %I LOGIN PASSWORD %L", name, password); err != nil {
			return err
		}
		id := pgx.Identifier{name}.Sanitize()
		_, err := conn.Exec(ctx, "CREATE DATABASE "+id+" OWNER "+id)
		return err
	})
}

// SetPassword gives a role another password, as an administrator would.
func (s *Server) SetPassword(ctx context.Context, name, password string) error {
	return s.admin(ctx, func(conn *pgx.Conn) error {
		return roleStatement(ctx, conn, "ALTER ROLE %I PASSWORD %L", name, password)
	})
}

// admin runs f as superuser, with the statements kept out of the log: the
// passwords in them would hide one that a test wants to find there.
func (s *Server) admin(ctx context.Context, f func(*pgx.Conn) error) error {
	cfg := s.ConnConfig()
	cfg.RuntimeParams["log_statement"] = "none"
	cfg.RuntimeParams["log_min_error_statement"] = "panic"
	cfg.RuntimeParams["log_min_duration_statement"] = "-1"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		// The error holds the configuration, with the password in it.
		return fmt.Errorf("pgserver: superuser login: %s", err.Error())
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := f(conn); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	return nil
}

// roleStatement has the server quote name and password: statements about roles
// take no parameters.
func roleStatement(ctx context.Context, conn *pgx.Conn, format, name, password string) error {
	var sql string
	err := conn.QueryRow(ctx, "SELECT format($1::text, $2::text, $3::text)", format, name, password).Scan(&sql)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return err
}

// Log returns what the server has logged so far. The server writes a line
// before it sends the message of that line to the client, so a failure that a
// client has seen is in it.
func (s *Server) Log() (string, error) {
	b, err := os.ReadFile(s.LogFile())
	if err != nil {
		return "", fmt.Errorf("pgserver: %w", err)
	}
	return string(b), nil
}

// FailedLogins returns how many logins of user the server has refused because
// of the credential (SQLSTATE 28P01 or 28000) since it started. It counts
// attempts, not calls: a client that tries twice, as with sslmode=prefer, shows.
func (s *Server) FailedLogins(user string) (int, error) {
	log, err := s.Log()
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(log) {
		// See logPrefix. The time has spaces of its own; the bracket after it is the pid's.
		_, rest, _ := strings.Cut(line, "] ")
		for _, state := range []string{"28P01", "28000"} {
			if strings.HasPrefix(rest, state+" "+user+" FATAL:") {
				n++
			}
		}
	}
	return n, nil
}
