package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// scope is what to compare: roles are the whole server's, objects a database's.
type scope int

const (
	objects scope = iota
	rolesAndObjects
)

// role is what pg_roles says.
type role struct {
	oid        uint32
	name       string
	attributes []string // as CREATE ROLE writes them
	inherit    bool
	comment    string
}

func readRole(ctx context.Context, q querier, name string) (*role, error) {
	r := &role{name: name}
	var super, createrole, createdb, login, replication, bypassrls bool
	var limit int
	var until string
	err := q.QueryRow(ctx, `
		SELECT oid, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolinherit,
			rolconnlimit, coalesce(rolvaliduntil, 'infinity')::text, coalesce(shobj_description(oid, 'pg_authid'), '')
		FROM pg_roles WHERE rolname = $1`, name).
		Scan(&r.oid, &super, &createrole, &createdb, &login, &replication, &bypassrls, &r.inherit, &limit, &until, &r.comment)
	if err != nil {
		return nil, err
	}
	for _, a := range []struct {
		is   bool
		name string
	}{
		{super, "SUPERUSER"},
		{createrole, "CREATEROLE"},
		{createdb, "CREATEDB"},
		{login, "LOGIN"},
		{replication, "REPLICATION"},
		{bypassrls, "BYPASSRLS"},
	} {
		if !a.is {
			a.name = "NO" + a.name
		}
		r.attributes = append(r.attributes, a.name)
	}
	r.attributes = append(r.attributes, fmt.Sprintf("CONNECTION LIMIT %d", limit), "VALID UNTIL "+literal(until))
	return r, nil
}

// missing returns the statements that make the user whose turn is next able to do
// what the other may, and no more. For the clone that is: what the base may. For
// the base it is: what the clone was given since, beside the base.
func (p pair) missing(ctx context.Context, q querier, next string, scope scope) (*comparison, error) {
	base, err := readRole(ctx, q, p.base)
	if err != nil {
		return nil, fmt.Errorf("the role %q: %w", p.base, err)
	}
	clone, err := readRole(ctx, q, p.clone)
	if err != nil {
		return nil, fmt.Errorf("the role %q: %w", p.clone, err)
	}
	c := &comparison{q: q, base: base, clone: clone, toClone: next == p.clone}
	if err := q.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&c.version); err != nil {
		return nil, err
	}
	if scope == rolesAndObjects {
		if c.toClone {
			c.compareAttributes()
			if err := c.settings(ctx); err != nil {
				return nil, err
			}
		}
		if err := c.memberships(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.ownership(ctx); err != nil {
		return nil, err
	}
	return c, c.grants(ctx)
}

// comparison collects statements.
type comparison struct {
	q           querier
	base, clone *role
	toClone     bool // the clone is next
	version     int  // of the server: 160004

	ofRoles   []string
	ofObjects []string // for their owners to run
}

func (c *comparison) statements() []string { return slices.Concat(c.ofRoles, c.ofObjects) }

func (c *comparison) add(format string, args ...any) {
	c.ofRoles = append(c.ofRoles, fmt.Sprintf(format, args...))
}

func (c *comparison) addObject(format string, args ...any) {
	c.ofObjects = append(c.ofObjects, fmt.Sprintf(format, args...))
}

// compareAttributes leaves out those that are the same: a superuser that is none,
// as on Amazon RDS, may not write SUPERUSER down, not even to take it away.
func (c *comparison) compareAttributes() {
	var clauses []string
	for i, a := range c.base.attributes {
		if a != c.clone.attributes[i] {
			clauses = append(clauses, a)
		}
	}
	if !c.clone.inherit { // whatever the base is: it is through the base that it may do anything
		clauses = append(clauses, "INHERIT")
	}
	if len(clauses) > 0 {
		c.add("ALTER ROLE %s %s", ident(c.clone.name), strings.Join(clauses, " "))
	}
}

// membership is one that the catalog has. From PostgreSQL 16 on there may be
// several for two roles, by different grantors and with options of their own.
type membership struct {
	role, grantor       string
	admin, inherit, set bool
}

func (c *comparison) readMemberships(ctx context.Context, of *role) ([]membership, error) {
	rows, err := c.q.Query(ctx, `
		SELECT r.rolname::text, coalesce(g.rolname::text, ''), m.admin_option,
			coalesce((to_jsonb(m)->>'inherit_option')::bool, true), coalesce((to_jsonb(m)->>'set_option')::bool, true)
		FROM pg_auth_members m
		JOIN pg_roles r ON r.oid = m.roleid
		LEFT JOIN pg_roles g ON g.oid = m.grantor
		WHERE m.member = $1 ORDER BY 1, 2`, of.oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m membership, err error) {
		return m, row.Scan(&m.role, &m.grantor, &m.admin, &m.inherit, &m.set)
	})
}

func (c *comparison) memberships(ctx context.Context) error {
	clones, err := c.readMemberships(ctx, c.clone)
	if err != nil {
		return err
	}
	bases, err := c.readMemberships(ctx, c.base)
	if err != nil {
		return err
	}
	inherits, sets := false, false
	for _, m := range clones {
		switch {
		case m.role == c.base.name:
			inherits, sets = inherits || m.inherit, sets || m.set
			if m.admin && c.toClone {
				c.add("REVOKE ADMIN OPTION FOR %s FROM %s%s", ident(m.role), ident(c.clone.name), c.grantedBy(m))
			}
		case c.toClone:
			c.add("REVOKE %s FROM %s%s", ident(m.role), ident(c.clone.name), c.grantedBy(m))
		case !includes(bases, m):
			c.add("GRANT %s TO %s%s", ident(m.role), ident(c.base.name), c.options(m))
		}
	}
	if c.toClone && (!inherits || !sets) {
		c.add("GRANT %s TO %s%s", ident(c.base.name), ident(c.clone.name), c.options(membership{inherit: true, set: true}))
	}
	return nil
}

// includes reports whether m adds nothing to what is there.
func includes(all []membership, m membership) bool {
	for _, have := range all {
		if have.role == m.role && (have.admin || !m.admin) && (have.inherit || !m.inherit) && (have.set || !m.set) {
			return true
		}
	}
	return false
}

const v16 = 160000

func (c *comparison) grantedBy(m membership) string {
	if c.version < v16 || m.grantor == "" {
		return "" // a membership has but one grantor, and it does not matter who that is
	}
	return " GRANTED BY " + ident(m.grantor)
}

func (c *comparison) options(m membership) string {
	switch {
	case c.version >= v16:
		return fmt.Sprintf(" WITH ADMIN %t, INHERIT %t, SET %t", m.admin, m.inherit, m.set)
	case m.admin:
		return " WITH ADMIN OPTION"
	}
	return ""
}
