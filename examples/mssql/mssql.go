// Package mssql puts Keyturn under github.com/microsoft/go-mssqldb, for SQL
// Server. It is to be copied and changed.
package mssql

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strconv"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn"
)

// settings is a data source name without server, user and password: those are the
// secret's. Without encrypt the driver would encrypt the login for whoever shows a
// certificate.
const settings = "sqlserver://?encrypt=true&dial+timeout=10"

// Open returns a pool that logs in with the credentials of the secret, whichever
// of its versions the server accepts. nil opts are the defaults.
//
// The driver asks nobody before it takes a connection from the pool, so those
// that were opened with an old password stay until SetConnMaxLifetime ends them.
func Open(c *cache.Cache, secretID string, opts *dbconn.Options) (*sql.DB, error) {
	d, err := newDriver()
	if err != nil {
		return nil, err
	}
	connector, err := dbconn.NewConnector(c, secretID, d, opts)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// newDriver returns what package dbconn needs to know of go-mssqldb.
func newDriver() (dbconn.Driver, error) {
	base, err := msdsn.Parse(settings)
	if err != nil {
		return dbconn.Driver{}, err
	}
	if base.FailOverPartner != "" {
		// The driver would try it after a refusal too: two logins for one.
		return dbconn.Driver{}, errors.New("mssql: a failover partner is a server of its own; give it a connector of its own")
	}
	if base.TLSConfig != nil && base.TLSConfig.RootCAs == nil {
		base.TLSConfig.RootCAs = dbconn.RDSRoots() // no certificate= is said
	}
	return dbconn.Driver{
		Connector: func(credentials dbconn.Credentials) (driver.Connector, error) {
			cfg := base
			cfg.Host, cfg.Port = credentials.Host, uint64(credentials.Port)
			cfg.Database = credentials.Database
			cfg.User, cfg.Password = credentials.Username, credentials.Password()
			if cfg.TLSConfig != nil && !cfg.HostInCertificateProvided {
				cfg.TLSConfig = cfg.TLSConfig.Clone() // Parse knew no host
				cfg.TLSConfig.ServerName = credentials.Host
			}
			return mssql.NewConnectorConfig(cfg), nil
		},
		Refused:     refused,
		RefusesUser: refusesUser,
		LockedOut:   lockedOut,
		Code:        code,
		Engines:     []string{"sqlserver"},
		Driver:      &mssql.Driver{},
		DefaultPort: 1433,
	}, nil
}

// What SQL Server says of a login is told by number, never by text: the texts
// follow the server's language. To the client the state of 18456 is always 1.
// Sources: "Database Engine events and errors" (4000 to 4999, 18000 to 18999) and
// "MSSQLSERVER_18456" in Microsoft's documentation of SQL Server.
const (
	cannotOpenDatabase = 4060  // Cannot open database "%.*ls" requested by the login. The login failed.
	cannotOpenDefault  = 4064  // Cannot open user default database. Login failed.
	loginFailed        = 18456 // Login failed for user '%.*ls'.
	accountDisabled    = 18470 // Reason: The account is disabled.
	accountLocked      = 18486 // because the account is currently locked out.
	passwordExpired    = 18487 // Reason: The password of the account has expired.
	mustChange         = 18488 // Reason: The password of the account must be changed.
)

// refused reports whether err is the server refusing the password.
//
// A login that fails for its database ends in 18456 as well, behind a number of
// its own: no other password would help, and trying some would lock the account.
//
// An expired password is right, and yet opens nothing: what does is the version
// that a rotation is bringing in, or one with another user.
func refused(err error) bool {
	return says(err, loginFailed, passwordExpired, mustChange) && !says(err, cannotOpenDatabase, cannotOpenDefault)
}

// refusesUser reports whether err says that the login is disabled. The server says
// so when the password is right; when it is wrong too, it says 18456 (state 7). So
// only a version with another user is worth a try, and nothing is held against
// this one.
func refusesUser(err error) bool { return says(err, accountDisabled) }

// lockedOut reports whether err says that the account is locked, by the policy
// that counts failed logins (CHECK_POLICY). The right password does not open it
// either: it is left alone.
func lockedOut(err error) bool { return says(err, accountLocked) }

// code returns the number of the server's last word in err.
func code(err error) string {
	if e, ok := errors.AsType[mssql.Error](err); ok {
		return strconv.Itoa(int(e.Number))
	}
	return ""
}

// says reports whether one of the numbers is in what the server said.
func says(err error, numbers ...int32) bool {
	e, ok := errors.AsType[mssql.Error](err)
	if !ok {
		return false
	}
	return slices.Contains(numbers, e.Number) ||
		slices.ContainsFunc(e.All, func(e mssql.Error) bool { return slices.Contains(numbers, e.Number) })
}
