package mysql

import (
	"crypto/tls"

	"github.com/keyturn/keyturn/rotation"
)

// Rights reads rows of SHOW GRANTS, for servers that are not there to be asked.
func Rights(user, host string, rows ...string) ([]string, error) {
	rs := rights{}
	for _, row := range rows {
		if err := rs.add(row, account{user, host}); err != nil {
			return nil, err
		}
	}
	return texts(without(rs, nil)), nil
}

// Authentication reads a row of SHOW CREATE USER and writes it as ALTER USER takes it.
func Authentication(row string) (string, error) {
	a, err := parseAuthentication(row)
	return a.String(), err
}

var (
	NewVerifier = newVerifier
	Verifies    = verifies

	LockFunction = lockFunction
)

// Version reads VERSION() and says what the server can do.
func Version(s string) (mariadb, dualPasswords bool) {
	v := parseVersion(s)
	return v.mariadb, v.dualPasswords()
}

// SuperuserTLS returns how the superuser's connection is encrypted; nil: not at all.
func (t *Target) SuperuserTLS(superuser, current *rotation.Value) (*tls.Config, error) {
	c, err := parse(current)
	if err != nil {
		return nil, err
	}
	s, err := parseSuperuser(superuser, c)
	if err != nil {
		return nil, err
	}
	return t.config(s).TLS, nil
}
