package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/rotation"
)

// session is a connection for statements about users.
type session struct {
	conn       *connection
	credential *credential
	needs      string // privileges, for errors

	account account // whom the server takes us for
	server  server
}

// server is what kind of server it is.
type server struct {
	mariadb bool
	version [3]int
}

func (s server) since(major, minor, patch int) bool {
	for i, n := range []int{major, minor, patch} {
		if s.version[i] != n {
			return s.version[i] > n
		}
	}
	return true
}

// dualPasswords reports whether the server may hold two passwords of a user.
func (s server) dualPasswords() bool {
	if s.mariadb {
		return s.since(10, 4, 0)
	}
	return s.since(8, 0, 14)
}

// Bounds of the server's, in seconds.
const (
	// A process that is frozen, as Lambda does, keeps its connection and with it
	// the lock. The server lets go of both when it has heard nothing for so long.
	idleTimeout = 60

	// The default of MySQL is a year.
	lockTimeout = 10
)

// open logs in and makes the session one in which statements mean what this
// package means by them. It is to be closed.
func (t *Target) open(ctx context.Context, c *credential, needs string) (_ *session, err error) {
	conn, err := t.connect(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, credential: c, needs: needs}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.account, err = s.currentUser(ctx); err != nil {
		return nil, err
	}
	var version, readOnly, innodbReadOnly string
	err = s.row(ctx, "SELECT VERSION(), @@global.read_only, @@global.innodb_read_only").Scan(&version, &readOnly, &innodbReadOnly)
	if err != nil {
		return nil, s.explain("SELECT VERSION()", err)
	}
	s.server = parseVersion(version)
	// A user with enough privileges may write to a replica nevertheless, whose
	// users would be others from then on.
	if on(readOnly) || on(innodbReadOnly) {
		return nil, s.readOnlyProblem(fmt.Errorf("%s is read-only: a replica", c.address()))
	}
	mode := "NO_BACKSLASH_ESCAPES"
	if s.server.mariadb {
		mode += ",NO_AUTO_CREATE_USER" // GRANT to nobody makes a user without a password
	}
	_, err = s.conn.ExecContext(ctx, fmt.Sprintf("SET SESSION sql_mode = '%s', sql_quote_show_create = 1, autocommit = 1, "+
		"wait_timeout = %d, lock_wait_timeout = %d", mode, idleTimeout, lockTimeout))
	if err != nil {
		return nil, s.explain("SET SESSION", err)
	}
	return s, nil
}

// currentUser asks whom the server takes the user for. It is an error if that is
// another one, which MySQL has several ways to arrange: anonymous users, proxies,
// --skip-grant-tables.
func (s *session) currentUser(ctx context.Context) (account, error) {
	var is string
	if err := s.row(ctx, "SELECT CURRENT_USER()").Scan(&is); err != nil {
		return account{}, s.explain("SELECT CURRENT_USER()", err)
	}
	name, host := is, ""
	if at := strings.LastIndexByte(is, '@'); at >= 0 { // there may be one in the name, but not in the host
		name, host = is[:at], is[at+1:]
	}
	if name == s.credential.user {
		return account{name, host}, nil
	}
	return account{}, rotation.Problem(rotation.ReasonServer, "drop anonymous users, and let the user log in as itself",
		fmt.Errorf("the server at %s takes %q for %q, so that the login proves nothing", s.credential.address(), s.credential.user, is))
}

func on(variable string) bool { return variable != "0" && !strings.EqualFold(variable, "OFF") }

var versionPattern = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)`)

func parseVersion(s string) (v server) {
	v.mariadb = strings.Contains(s, "MariaDB")
	for i, n := range versionPattern.FindStringSubmatch(s) {
		if i > 0 {
			v.version[i-1], _ = strconv.Atoi(n) // digits
		}
	}
	return v
}

// close ends the connection, and with it the lock.
func (s *session) close() { s.conn.close() }

// lockWait is how long another call may take, in seconds.
const lockWait = 10

// lock waits until no other call is at work on the user, or on its partner. It
// is the server's, so it does not know of other servers that are written to.
func (s *session) lock(ctx context.Context, base string) error {
	var got sql.NullInt64
	err := s.row(ctx, "SELECT "+lockFunction(base)).Scan(&got)
	if err != nil {
		return s.explain("GET_LOCK", err)
	}
	if got.Int64 != 1 {
		return s.explain("GET_LOCK", errors.New("another call is at work on this user: repeat the rotation in a minute"))
	}
	return nil
}

// lockFunction has a digest of the name, which may be longer than that of a lock.
func lockFunction(base string) string {
	sum := sha256.Sum256([]byte(base))
	return fmt.Sprintf("GET_LOCK('keyturn %s', %d)", hex.EncodeToString(sum[:16]), lockWait)
}

// exec runs a statement that holds nothing secret.
func (s *session) exec(ctx context.Context, statement string) error {
	_, err := s.conn.ExecContext(ctx, statement)
	return s.explain(statement, err)
}

// execSecret runs a statement with a password, or a verifier. what stands for it
// in errors.
func (s *session) execSecret(ctx context.Context, what, statement string) error {
	_, err := s.conn.ExecContext(ctx, statement)
	return s.explain(what, hide(err))
}

func (s *session) row(ctx context.Context, query string) *sql.Row {
	return s.conn.QueryRowContext(ctx, query)
}

// column returns the first column of the result.
func (s *session) column(ctx context.Context, query string) (values []string, err error) {
	rows, err := s.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	all := make([]any, len(columns))
	var first string
	for i := range all {
		all[i] = new(sql.RawBytes)
	}
	all[0] = &first
	for rows.Next() {
		if err := rows.Scan(all...); err != nil {
			return nil, err
		}
		values = append(values, first)
	}
	return values, rows.Err()
}
