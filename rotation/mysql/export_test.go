package mysql

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
)

// Version reads VERSION() and says what the server can do.
func Version(s string) (mariadb, dualPasswords bool) {
	v := parseVersion(s)
	return v.mariadb, v.dualPasswords()
}
