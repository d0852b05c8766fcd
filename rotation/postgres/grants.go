package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// otherDatabases returns those besides the connection's own in which the clone
// has something that may have to be seen to. The server keeps track of that.
func (p pair) otherDatabases(ctx context.Context, q querier) ([]string, error) {
	rows, err := q.Query(ctx, `
		SELECT DISTINCT d.datname::text
		FROM pg_shdepend s
		JOIN pg_database d ON d.oid = s.dbid
		WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype IN ('a', 'o')
			AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1)
			AND d.datname <> current_database() AND d.datallowconn
		ORDER BY 1`, p.clone)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// ownership gives the base what the clone owns: that of a clone that was not made
// here, or had its settings changed. For the clone it makes no difference, for
// the base it is the difference between all and nothing.
func (c *comparison) ownership(ctx context.Context) error {
	var owns bool
	// Default privileges do not count. They are for what a role creates, and the
	// clone does not create anything as itself.
	err := c.q.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM pg_shdepend d WHERE `+here+` AND d.deptype = 'o' AND d.classid <> 'pg_default_acl'::regclass)`,
		c.clone.oid).Scan(&owns)
	if err == nil && owns {
		c.addObject("REASSIGN OWNED BY %s TO %s", ident(c.clone.name), ident(c.base.name))
	}
	return err
}

// here are the dependencies of a role that belong to this database, or to none.
const here = `d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1
	AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))`

// asOwner returns the statements about objects with what makes that who runs them
// may: a superuser that is none has to be a member of both, for as long as it takes.
func (c *comparison) asOwner(ctx context.Context) ([]string, error) {
	if len(c.ofObjects) == 0 {
		return nil, nil
	}
	var before, after []string
	for _, r := range []*role{c.base, c.clone} {
		var may, member bool
		err := c.q.QueryRow(ctx, `
			SELECT pg_has_role($1::oid, 'USAGE'), EXISTS (
				SELECT FROM pg_auth_members m, pg_roles me
				WHERE me.rolname = current_user AND m.roleid = $1 AND m.member = me.oid AND ($2 < 160000 OR m.grantor = me.oid))`,
			r.oid, c.version).Scan(&may, &member)
		switch {
		case err != nil:
			return nil, err
		case may:
		case !member:
			before = append(before, "GRANT "+ident(r.name)+" TO CURRENT_USER")
			after = append(after, "REVOKE "+ident(r.name)+" FROM CURRENT_USER")
		case c.version >= v16:
			before = append(before, "GRANT "+ident(r.name)+" TO CURRENT_USER WITH INHERIT TRUE")
			after = append(after, "REVOKE INHERIT OPTION FOR "+ident(r.name)+" FROM CURRENT_USER")
		}
	}
	return slices.Concat(before, c.ofObjects, after), nil
}

// catalog is one that has privileges in it.
type catalog struct {
	since  int    // version of the server
	from   string // o is the object, d the dependency
	acl    string
	object string // what GRANT has behind ON
	prefix string // what a statement begins with
	column string // what is granted on
}

// catalogs are all of them. What is left out of pg_shdepend, PUBLIC's and those of
// roles that come with the server, is no matter of the two users.
var catalogs = []catalog{
	{
		from:   "pg_class o ON d.classid = 'pg_class'::regclass AND d.objid = o.oid AND d.objsubid = 0",
		acl:    "o.relacl",
		object: "CASE o.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || o.oid::regclass::text",
	},
	{
		from: "pg_attribute o ON d.classid = 'pg_class'::regclass AND d.objid = o.attrelid AND d.objsubid = o.attnum",
		acl:  "o.attacl", object: "'TABLE ' || o.attrelid::regclass::text", column: "' (' || quote_ident(o.attname) || ')'",
	},
	{
		from: "pg_namespace o ON d.classid = 'pg_namespace'::regclass AND d.objid = o.oid",
		acl:  "o.nspacl", object: "'SCHEMA ' || quote_ident(o.nspname)",
	},
	{
		from: "pg_proc o ON d.classid = 'pg_proc'::regclass AND d.objid = o.oid",
		acl:  "o.proacl", object: "'ROUTINE ' || o.oid::regprocedure::text",
	},
	{
		from: "pg_type o ON d.classid = 'pg_type'::regclass AND d.objid = o.oid",
		acl:  "o.typacl", object: "'TYPE ' || o.oid::regtype::text",
	},
	{
		from: "pg_database o ON d.classid = 'pg_database'::regclass AND d.objid = o.oid",
		acl:  "o.datacl", object: "'DATABASE ' || quote_ident(o.datname)",
	},
	{
		from: "pg_tablespace o ON d.classid = 'pg_tablespace'::regclass AND d.objid = o.oid",
		acl:  "o.spcacl", object: "'TABLESPACE ' || quote_ident(o.spcname)",
	},
	{
		from: "pg_language o ON d.classid = 'pg_language'::regclass AND d.objid = o.oid",
		acl:  "o.lanacl", object: "'LANGUAGE ' || quote_ident(o.lanname)",
	},
	{
		from: "pg_largeobject_metadata o ON d.classid = 'pg_largeobject'::regclass AND d.objid = o.oid",
		acl:  "o.lomacl", object: "'LARGE OBJECT ' || o.oid",
	},
	{
		from: "pg_foreign_data_wrapper o ON d.classid = 'pg_foreign_data_wrapper'::regclass AND d.objid = o.oid",
		acl:  "o.fdwacl", object: "'FOREIGN DATA WRAPPER ' || quote_ident(o.fdwname)",
	},
	{
		from: "pg_foreign_server o ON d.classid = 'pg_foreign_server'::regclass AND d.objid = o.oid",
		acl:  "o.srvacl", object: "'FOREIGN SERVER ' || quote_ident(o.srvname)",
	},
	{
		since: 150000,
		from:  "pg_parameter_acl o ON d.classid = 'pg_parameter_acl'::regclass AND d.objid = o.oid",
		acl:   "o.paracl", object: "'PARAMETER ' || o.parname",
	},
	{
		from: "pg_default_acl o ON d.classid = 'pg_default_acl'::regclass AND d.objid = o.oid",
		acl:  "o.defaclacl",
		object: "CASE o.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' " +
			"WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END",
		prefix: "'ALTER DEFAULT PRIVILEGES FOR ROLE ' || quote_ident(pg_get_userbyid(o.defaclrole)) || " +
			"CASE WHEN o.defaclnamespace = 0 THEN ' ' ELSE ' IN SCHEMA ' || o.defaclnamespace::regnamespace::text || ' ' END",
	},
}

// query returns prefix, privilege, object, whether it may be granted on, and
// whether the base has it too. Names are qualified where they have to be, as
// nothing but pg_catalog is searched.
func (c catalog) query() string {
	or := func(s string) string {
		if s == "" {
			return "''"
		}
		return s
	}
	return `SELECT ` + or(c.prefix) + `, x.privilege_type || ` + or(c.column) + `, ` + c.object + `, x.is_grantable,
			EXISTS (SELECT FROM aclexplode(` + c.acl + `) y WHERE y.grantee = $2
				AND y.privilege_type = x.privilege_type AND (y.is_grantable OR NOT x.is_grantable))
		FROM pg_shdepend d JOIN ` + c.from + `, aclexplode(` + c.acl + `) x
		WHERE ` + here + ` AND d.deptype = 'a' AND x.grantee = $1`
}

// grants takes from the clone what it was given beside the base, or gives it to
// the base.
func (c *comparison) grants(ctx context.Context) error {
	var queries []string
	for _, catalog := range catalogs {
		if c.version >= catalog.since {
			queries = append(queries, catalog.query())
		}
	}
	rows, err := c.q.Query(ctx, strings.Join(queries, " UNION ALL ")+" ORDER BY 1, 3, 2", c.clone.oid, c.base.oid)
	if err != nil {
		return err
	}
	var prefix, privilege, object string
	var grantable, has bool
	_, err = pgx.ForEachRow(rows, []any{&prefix, &privilege, &object, &grantable, &has}, func() error {
		switch {
		case c.toClone:
			c.addObject("%sREVOKE %s ON %s FROM %s", prefix, privilege, object, ident(c.clone.name))
		case has:
		case grantable:
			c.addObject("%sGRANT %s ON %s TO %s WITH GRANT OPTION", prefix, privilege, object, ident(c.base.name))
		default:
			c.addObject("%sGRANT %s ON %s TO %s", prefix, privilege, object, ident(c.base.name))
		}
		return nil
	})
	return err
}
