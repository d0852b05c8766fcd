package mysqlserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// login opens the connections of [Server.Admin]. The driver's own connector holds
// its password in a plain field, which whoever prints the pool would find.
type login struct{ s *Server }

// Connect implements [driver.Connector].
func (l login) Connect(ctx context.Context) (driver.Conn, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(host, strconv.Itoa(l.s.port))
	cfg.User, cfg.Passwd = superuser, l.s.password()
	cfg.InterpolateParams = true // statements about users take no parameters
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

// Driver implements [driver.Connector].
func (l login) Driver() driver.Driver { return &mysql.MySQLDriver{} }

// Admin returns a pool of connections of an administrator, closed by
// [Server.Stop]. Parameters are put into the statement by the driver, so that any
// statement takes them.
func (s *Server) Admin() *sql.DB { return s.admin }

// CreateUser creates a user, to log in from anywhere, and a database of the same
// name, in which it may do everything.
func (s *Server) CreateUser(ctx context.Context, name, password string) error {
	if _, err := s.admin.ExecContext(ctx, "CREATE USER ?@'%' IDENTIFIED BY ?", name, password); err != nil {
		return fmt.Errorf("mysqlserver: %w", err)
	}
	id := strings.ReplaceAll(name, "`", "``")
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE `"+id+"`"); err != nil {
		return fmt.Errorf("mysqlserver: %w", err)
	}
	// The name of a database is a pattern there.
	pattern := strings.NewReplacer("_", `\_`, "%", `\%`).Replace(id)
	if _, err := s.admin.ExecContext(ctx, "GRANT ALL ON `"+pattern+"`.* TO ?@'%'", name); err != nil {
		return fmt.Errorf("mysqlserver: %w", err)
	}
	return nil
}

// SetPassword gives a user another password, as an administrator would.
func (s *Server) SetPassword(ctx context.Context, name, password string) error {
	if _, err := s.admin.ExecContext(ctx, "ALTER USER ?@'%' IDENTIFIED BY ?", name, password); err != nil {
		return fmt.Errorf("mysqlserver: %w", err)
	}
	return nil
}

// Log returns what the server has logged so far. The server writes of a refusal
// before it sends it to the client, so one that a client has seen is in it.
func (s *Server) Log() (string, error) {
	b, err := os.ReadFile(s.LogFile())
	if err != nil {
		return "", fmt.Errorf("mysqlserver: %w", err)
	}
	return string(b), nil
}

// FailedLogins returns how many logins of user the server has refused with error
// 1045, that is because of the credential, since it was first started. It counts
// attempts, not calls. Where accounts are locked after n failures, MySQL answers
// the n-th with 3955 already, which is not counted.
func (s *Server) FailedLogins(user string) (int, error) {
	log, err := s.Log()
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(log) {
		// A user that may not use a database is denied access in other words.
		if strings.Contains(line, "Access denied for user '"+user+"'@") && strings.Contains(line, "(using password: ") {
			n++
		}
	}
	return n, nil
}
