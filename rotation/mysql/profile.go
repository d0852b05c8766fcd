package mysql

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/rotation"
)

// profile is what two users must have in common to be exchanged for each other.
type profile struct {
	rights     rights
	attributes attributes
}

// attributes are what a user has besides its rights: how it must log in, how much
// it may do, how long its password lives. The texts are the servers' own, "" for
// what follows a setting of the server's.
type attributes struct {
	tls, cipher, issuer, subject string // tls: "", ANY, X509, SPECIFIED

	queries, updates, connections, atOnce uint64 // per hour, but for the last

	statementTime string // MariaDB, in seconds

	lifetime       string // in days, 0: for ever
	history        string // MySQL from here on
	reuse          string // in days
	requireCurrent string // Y, N
	attempts       string // FAILED_LOGIN_ATTEMPTS
	lockTime       string // in days, -1: for ever
}

// profile reads what an account has. mark is left out: it is what tells the two
// users apart.
func (s *session) profile(ctx context.Context, of account, mark right) (*profile, error) {
	p := &profile{rights: rights{}}
	rows, err := s.column(ctx, "SHOW GRANTS FOR "+of.String())
	if err != nil {
		return nil, s.explain("SHOW GRANTS FOR "+of.String(), err)
	}
	for _, row := range rows {
		if err := p.rights.add(row, of); err != nil {
			return nil, rotation.Problem(rotation.ReasonUnsuitable, "use the single-user strategy for it",
				fmt.Errorf("SHOW GRANTS FOR %s: %w", of, err))
		}
	}
	delete(p.rights, mark)
	if !s.server.mariadb {
		if err := s.addDefaultRoles(ctx, p.rights, of); err != nil {
			return nil, err
		}
	}
	p.attributes, err = s.attributes(ctx, of)
	return p, err
}

// addDefaultRoles adds those of MySQL, which are in no row of SHOW GRANTS.
func (s *session) addDefaultRoles(ctx context.Context, rs rights, of account) error {
	const where = "mysql.default_roles"
	rows, err := s.conn.QueryContext(ctx, "SELECT default_role_user, default_role_host FROM "+where+
		" WHERE user = "+literal(of.user)+" AND host = "+literal(of.host))
	if err != nil {
		return s.explain("reading "+where, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r account
		if err := rows.Scan(&r.user, &r.host); err != nil {
			return s.explain("reading "+where, err)
		}
		rs[right{kind: defaultRole, name: r.String()}] = true
	}
	return s.explain("reading "+where, rows.Err())
}

// attributes reads them from the tables: in what SHOW CREATE USER writes, MySQL
// does not escape the texts of REQUIRE.
func (s *session) attributes(ctx context.Context, of account) (a attributes, err error) {
	further := "'', IFNULL(password_lifetime, ''), IFNULL(password_reuse_history, ''), IFNULL(password_reuse_time, ''), " +
		"IFNULL(password_require_current, ''), " +
		"IFNULL(user_attributes->>'$.Password_locking.failed_login_attempts', ''), " +
		"IFNULL(user_attributes->>'$.Password_locking.password_lock_time_days', '')"
	if s.server.mariadb {
		further = "max_statement_time, (SELECT IFNULL(JSON_VALUE(priv, '$.password_lifetime'), '-1') FROM mysql.global_priv AS g " +
			"WHERE g.user = u.user AND g.host = u.host), '', '', '', '', ''"
	}
	err = s.row(ctx, "SELECT ssl_type, ssl_cipher, x509_issuer, x509_subject, "+
		"max_questions, max_updates, max_connections, max_user_connections, "+further+
		" FROM mysql.user AS u WHERE user = "+literal(of.user)+" AND host = "+literal(of.host)).
		Scan(&a.tls, &a.cipher, &a.issuer, &a.subject, &a.queries, &a.updates, &a.connections, &a.atOnce,
			&a.statementTime, &a.lifetime, &a.history, &a.reuse, &a.requireCurrent, &a.attempts, &a.lockTime)
	if a.lifetime == "-1" {
		a.lifetime = "" // MariaDB's word for it
	}
	return a, s.explain("reading mysql.user", err)
}

// options returns the attributes as ALTER USER takes them, after what it says of
// the password.
func (a attributes) options(of server) string {
	var b strings.Builder
	b.WriteString("REQUIRE ")
	switch a.tls {
	case "ANY":
		b.WriteString("SSL")
	case "X509":
		b.WriteString("X509")
	case "SPECIFIED":
		var all []string
		for _, one := range []struct{ word, text string }{{"CIPHER", a.cipher}, {"ISSUER", a.issuer}, {"SUBJECT", a.subject}} {
			if one.text != "" {
				all = append(all, one.word+" "+literal(one.text))
			}
		}
		b.WriteString(strings.Join(all, " AND "))
	default:
		b.WriteString("NONE")
	}
	fmt.Fprintf(&b, " WITH MAX_QUERIES_PER_HOUR %d MAX_UPDATES_PER_HOUR %d MAX_CONNECTIONS_PER_HOUR %d MAX_USER_CONNECTIONS %d",
		a.queries, a.updates, a.connections, a.atOnce)
	if of.mariadb {
		b.WriteString(" MAX_STATEMENT_TIME " + a.statementTime)
	}
	switch a.lifetime {
	case "":
		b.WriteString(" PASSWORD EXPIRE DEFAULT")
	case "0":
		b.WriteString(" PASSWORD EXPIRE NEVER")
	default:
		b.WriteString(" PASSWORD EXPIRE INTERVAL " + a.lifetime + " DAY")
	}
	if of.mariadb {
		return b.String()
	}
	b.WriteString(" PASSWORD HISTORY " + or(a.history, "DEFAULT"))
	if a.reuse == "" {
		b.WriteString(" PASSWORD REUSE INTERVAL DEFAULT")
	} else {
		b.WriteString(" PASSWORD REUSE INTERVAL " + a.reuse + " DAY")
	}
	b.WriteString(map[string]string{
		"Y": " PASSWORD REQUIRE CURRENT", "N": " PASSWORD REQUIRE CURRENT OPTIONAL", "": " PASSWORD REQUIRE CURRENT DEFAULT",
	}[a.requireCurrent])
	b.WriteString(" FAILED_LOGIN_ATTEMPTS " + or(a.attempts, "0"))
	if a.lockTime == "-1" {
		a.lockTime = "UNBOUNDED"
	}
	b.WriteString(" PASSWORD_LOCK_TIME " + or(a.lockTime, "0"))
	return b.String()
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
