package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/rotation"
)

// SQLSTATEs that are treated in a way of their own.
const (
	invalidPassword       = "28P01"
	invalidAuthorization  = "28000" // no login right, no line in pg_hba.conf
	unknownDatabase       = "3D000"
	insufficientPrivilege = "42501"
	readOnlyTransaction   = "25006"
)

// connectError rebuilds a pgx error without the configuration that it carries,
// in which the password is. What the error wraps is kept: the server's answer,
// the network's error, the context's.
func (c *credential) connectError(err error) error {
	if e, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = e.Unwrap()
	}
	err = fmt.Errorf("logging in to %s as %q: %w", c.address(), c.user, err)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code {
		case invalidPassword, invalidAuthorization:
			return rotation.Refused(err)
		case unknownDatabase:
			return rotation.Problem(rotation.ReasonBadValue, `put the name of a database that is there into "dbname"`, err)
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && c.unproven {
		return rotation.Problem(rotation.ReasonSuperuser, `put its "host" into the superuser's secret, or the root into Options.TLS`,
			fmt.Errorf("the superuser's secret names no server, and that of the other secret is not one that Amazon RDS vouches for: %w", err))
	}
	return err
}

// wrap adds what was done, and what to do about it where that is known. pgx's
// errors after the login hold no configuration, and the statements hold no
// password.
func (c *credential) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s on %s as %q: %w", what, c.address(), c.user, err)
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && e.Code == readOnlyTransaction:
		return rotation.Problem(rotation.ReasonServer, "name the host that takes writes, this one is a read replica", err)
	case ok && e.Code == insufficientPrivilege && c.superuser:
		return rotation.Problem(rotation.ReasonPermission, fmt.Sprintf("give %q CREATEROLE and, from PostgreSQL 16 on, both users "+
			"WITH ADMIN OPTION (GRANT app TO %s WITH ADMIN OPTION); attributes and settings that it may not give, a superuser has to",
			c.user, ident(c.user)), err)
	}
	return err
}
