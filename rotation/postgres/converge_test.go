package postgres_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// names puts the fixture's own into statements.
func (f *fixture) names(statements ...string) []string {
	out := slices.Clone(statements)
	for i := range out {
		out[i] = strings.NewReplacer("$base", quoted(f.user), "$clone", quoted(f.user+"_clone"), "$db", quoted(f.database),
			"$other", quoted(f.database+"_other"), "$role", quoted(f.user+"_role"), "$master", quoted(f.user+"_master")).Replace(out[i])
	}
	return out
}

// everything that a user may do in a database, as the server sees it, and not as
// the target compares it.
func (f *fixture) everything(t *testing.T, database, user string) map[string]bool {
	t.Helper()
	rows, err := f.admin(database).Query(t.Context(), `
		WITH u AS (SELECT oid FROM pg_roles WHERE rolname = $1),
		p AS (SELECT p || g AS p FROM unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE','TRUNCATE','REFERENCES','TRIGGER','USAGE',
			'EXECUTE','CREATE','CONNECT','TEMPORARY','SET','ALTER SYSTEM']) p, unnest(ARRAY['', ' WITH GRANT OPTION']) g)
		SELECT c.relname || ' ' || p FROM pg_class c, p, u WHERE c.oid >= 16384 AND c.relkind = 'r'
			AND p ~ '^(SEL|INS|UPD|DEL|TRU|REF|TRI)' AND has_table_privilege(u.oid, c.oid, p)
		UNION ALL SELECT c.relname || '.' || attname || ' ' || p FROM pg_class c, pg_attribute a, p, u WHERE c.oid >= 16384
			AND c.relkind = 'r' AND attrelid = c.oid AND attnum > 0 AND p ~ '^(SEL|INS|UPD|REF)' AND has_column_privilege(u.oid, c.oid, attnum, p)
		UNION ALL SELECT c.relname || ' ' || p FROM pg_class c, p, u WHERE c.oid >= 16384 AND c.relkind = 'S'
			AND p ~ '^(SEL|UPD|USA)' AND has_sequence_privilege(u.oid, c.oid, p)
		UNION ALL SELECT c.relname || ' owner' FROM pg_class c, u WHERE c.oid >= 16384 AND pg_has_role(u.oid, c.relowner, 'USAGE')
		UNION ALL SELECT proname || ' ' || p FROM pg_proc c, p, u WHERE c.oid >= 16384 AND p ~ '^EXE' AND has_function_privilege(u.oid, c.oid, p)
		UNION ALL SELECT nspname || ' ' || p FROM pg_namespace c, p, u WHERE p ~ '^(USA|CRE)' AND has_schema_privilege(u.oid, c.oid, p)
		UNION ALL SELECT datname || ' ' || p FROM pg_database c, p, u WHERE datname ~ ('^(postgres|' || current_database() || ')') AND p ~ '^(CON|CRE|TEM)' AND has_database_privilege(u.oid, c.oid, p)
		UNION ALL SELECT typname || ' ' || p FROM pg_type c, p, u WHERE c.oid >= 16384 AND p ~ '^USA' AND has_type_privilege(u.oid, c.oid, p)
		UNION ALL SELECT lanname || ' ' || p FROM pg_language c, p, u WHERE p ~ '^USA' AND has_language_privilege(u.oid, c.oid, p)
		UNION ALL SELECT 'large object ' || p FROM pg_largeobject_metadata c, p, u, aclexplode(c.lomacl) x
			WHERE pg_has_role(u.oid, x.grantee, 'USAGE') AND x.privilege_type = p
		UNION ALL SELECT parname || ' ' || p FROM pg_parameter_acl, p, u WHERE p ~ '^(SET|ALTER)' AND has_parameter_privilege(u.oid, parname, p)
		UNION ALL SELECT 'default ' || defaclobjtype::text || x.privilege_type FROM pg_default_acl, aclexplode(defaclacl) x, u
			WHERE pg_has_role(u.oid, x.grantee, 'USAGE')
		UNION ALL SELECT 'role ' || r.rolname || ' ' || m FROM pg_roles r, u, unnest(ARRAY['USAGE', 'MEMBER WITH ADMIN OPTION']) m
			WHERE r.rolname ~ '_role$' AND pg_has_role(u.oid, r.oid, m)
		UNION ALL SELECT CASE a WHEN 1 THEN 'superuser ' || rolsuper WHEN 2 THEN 'createrole ' || rolcreaterole WHEN 3 THEN 'createdb ' || rolcreatedb
			WHEN 4 THEN 'login ' || rolcanlogin WHEN 5 THEN 'replication ' || rolreplication WHEN 6 THEN 'bypassrls ' || rolbypassrls
			WHEN 7 THEN 'limit ' || rolconnlimit ELSE 'until ' || coalesce(rolvaliduntil, 'infinity') END
			FROM pg_roles r, u, generate_series(1, 8) a WHERE r.oid = u.oid`, user)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	var what string
	if _, err := pgx.ForEachRow(rows, []any{&what}, func() error { all[what] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// sessions returns what the settings come to in a session of the user.
func (f *fixture) session(t *testing.T, database, user, password string) map[string]string {
	t.Helper()
	cfg := server.ConnConfig()
	cfg.User, cfg.Password, cfg.Database = user, password, database
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	rows, err := conn.Query(t.Context(), `SELECT name, setting FROM pg_settings WHERE source IN ('user', 'database user')
		UNION ALL SELECT 'current_user', current_user UNION ALL SELECT 'my.tenant', coalesce(current_setting('my.tenant', true), '') UNION ALL SELECT 'schemas', current_schemas(false)::text`)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { all[name] = value; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// What is changed between two rotations, at either of the users, is the same for
// both after the next one. Whose turn it is decides: the user of AWSCURRENT keeps
// what it has.
func TestConverge(t *testing.T) {
	type row struct {
		name      string
		superuser bool     // the master has to be one
		before    []string // in the database, both users there, two rotations before the end
		between   []string // before the last rotation
		has, not  []string // of everything, what both have in the end, and what neither has
		settings  map[string]string
		other     bool // the statements are run, and looked at, in another database
	}
	direct := []string{ // all there is to be granted
		"GRANT SELECT ON t TO $to WITH GRANT OPTION", "GRANT UPDATE (x) ON t TO $to", "GRANT USAGE ON SEQUENCE s TO $to",
		"GRANT EXECUTE ON FUNCTION f(int) TO $to", "GRANT EXECUTE ON PROCEDURE pr(int) TO $to", "GRANT USAGE, CREATE ON SCHEMA sc TO $to",
		"GRANT USAGE ON TYPE ty TO $to", "GRANT USAGE ON TYPE dom TO $to", "GRANT CREATE ON DATABASE $other TO $to",
		"GRANT USAGE ON LANGUAGE plpgsql TO $to", "GRANT SELECT ON LARGE OBJECT 4711 TO $to", `GRANT SELECT ON TABLE sc."it's" TO $to`,
		"GRANT SET ON PARAMETER my.$role TO $to",
		"ALTER DEFAULT PRIVILEGES FOR ROLE $role IN SCHEMA sc GRANT SELECT ON TABLES TO $to",
		"ALTER DEFAULT PRIVILEGES FOR ROLE $role GRANT USAGE ON SCHEMAS TO $to",
	}
	directly := []string{
		"t SELECT", "t SELECT WITH GRANT OPTION", "t.x UPDATE", "s USAGE", "f EXECUTE", "pr EXECUTE", "sc USAGE", "sc CREATE", "ty USAGE", "dom USAGE",
		"$other CREATE", "plpgsql USAGE", "large object SELECT", "it's SELECT", "my.$role SET", "default rSELECT", "default nUSAGE",
	}
	to := func(who string, statements []string) (out []string) {
		for _, s := range statements {
			out = append(out, strings.ReplaceAll(s, "$to", who))
		}
		return out
	}
	revoke := strings.NewReplacer("GRANT SELECT ON t TO", "REVOKE ALL ON t FROM", "WITH GRANT OPTION", "", "GRANT", "REVOKE", " TO ", " FROM ")
	var revoked []string
	for _, s := range to("$base", direct) {
		revoked = append(revoked, revoke.Replace(s))
	}

	toClone := []row{
		{name: "nothing", not: directly},
		{name: "granted", between: to("$base", direct), has: directly},
		{name: "revoked", before: to("$base", direct), between: revoked, not: directly},
		{name: "granted to the clone", superuser: true, between: to("$clone", direct), not: directly},
		{name: "granted in another database", superuser: true, other: true, between: to("$clone", direct), not: directly},
		{
			name: "roles", between: []string{"GRANT $role TO $base WITH ADMIN OPTION"},
			has: []string{"role $role USAGE", "role $role MEMBER WITH ADMIN OPTION"},
		},
		{
			name: "roles revoked", before: []string{"GRANT $role TO $base WITH ADMIN OPTION"},
			between: []string{"REVOKE ADMIN OPTION FOR $role FROM $base"},
			has:     []string{"role $role USAGE"}, not: []string{"role $role MEMBER WITH ADMIN OPTION"},
		},
		{
			name: "roles of the clone", superuser: true, between: []string{"GRANT $role TO $clone", "GRANT $base TO $clone WITH ADMIN OPTION"},
			not: []string{"role $role USAGE"},
		},
		{
			name: "membership taken away", between: append(to("$base", direct), "REVOKE $base FROM $clone"), has: directly,
		},
		{
			name: "attributes", between: []string{"ALTER ROLE $base CREATEDB CONNECTION LIMIT 7 VALID UNTIL '2099-01-01'", "ALTER ROLE $clone NOLOGIN NOINHERIT"},
			has: []string{"createdb true", "limit 7", "until 2099-01-01 00:00:00+00", "login true"},
		},
		{
			name: "attributes taken back", before: []string{"ALTER ROLE $base CREATEDB CONNECTION LIMIT 7 VALID UNTIL '2099-01-01'"},
			between: []string{"ALTER ROLE $base NOCREATEDB CONNECTION LIMIT -1 VALID UNTIL 'infinity'"},
			has:     []string{"createdb false", "limit -1", "until infinity"},
		},
		{
			name: "attributes that a superuser gives", superuser: true, between: []string{"ALTER ROLE $base REPLICATION BYPASSRLS CREATEROLE"},
			has: []string{"replication true", "bypassrls true", "createrole true"},
		},
		{name: "attributes of the clone", superuser: true, between: []string{"ALTER ROLE $clone SUPERUSER"}, has: []string{"superuser false"}},
		{
			name: "settings", superuser: true, // from PostgreSQL 15 on nobody else gives one that is the program's own
			between: []string{
				`ALTER ROLE $base SET search_path = "$user", 'My, "Schema', sc, ''`, "ALTER ROLE $base SET statement_timeout = '5s'",
				`ALTER ROLE $base SET my.tenant = 'it''s \x'`, "ALTER ROLE $base IN DATABASE $db SET work_mem = '7MB'",
				"ALTER ROLE $base IN DATABASE $other SET work_mem = '9MB'", "ALTER ROLE $clone SET lock_timeout = '1s'", "ALTER ROLE $clone RESET role",
			},
			settings: map[string]string{"search_path": `"$user", "My, ""Schema", sc, ""`, "statement_timeout": "5000", "my.tenant": `it's \x`, "work_mem": "7168", "lock_timeout": ""},
		},
		{
			name: "settings taken back", before: []string{"ALTER ROLE $base SET search_path = sc", "ALTER ROLE $base IN DATABASE $db SET work_mem = '7MB'"},
			between: []string{"ALTER ROLE $base RESET ALL", "ALTER ROLE $base IN DATABASE $db RESET ALL"}, settings: map[string]string{"search_path": "", "work_mem": ""},
		},
		{
			name: "sessions act as a third role", between: []string{"GRANT $role TO $base", "ALTER ROLE $base SET role = $role"},
			settings: map[string]string{"current_user": "$role"},
		},
		{
			name: "owned by the clone", superuser: true, between: []string{"CREATE TABLE own (x int)", "ALTER TABLE own OWNER TO $clone", "ALTER SCHEMA sc OWNER TO $clone"},
			has: []string{"own owner", "sc USAGE"},
		},
		{
			name: "owned by the clone, master is none", between: []string{"CREATE TABLE own (x int)", "ALTER TABLE own OWNER TO $clone"},
			has: []string{"own owner"},
		},
		{
			name:    "granted by its owner to the clone, master is none",
			between: []string{"CREATE TABLE own (x int)", "ALTER TABLE own OWNER TO $base", "SET ROLE $base", "GRANT SELECT ON own TO $clone WITH GRANT OPTION"},
			has:     []string{"own owner"},
		},
		{name: "owned in another database", superuser: true, other: true, between: []string{"CREATE TABLE own (x int)", "ALTER TABLE own OWNER TO $clone"}, has: []string{"own owner"}},
		{
			name: "base does not inherit", between: append(to("$role", direct[:1]), "GRANT $role TO $base", "ALTER ROLE $base NOINHERIT"),
		},
	}
	toBase := []row{
		{name: "nothing", not: directly},
		{name: "granted to the base", between: to("$base", direct), has: directly},
		{name: "revoked from the base", before: to("$base", direct), between: revoked, not: directly},
		{name: "granted to the clone", superuser: true, between: to("$clone", direct), has: directly},
		{name: "granted in another database", superuser: true, other: true, between: to("$clone", direct), has: directly},
		{
			name: "roles of the clone", superuser: true, between: []string{"GRANT $role TO $clone WITH ADMIN OPTION"},
			has: []string{"role $role USAGE", "role $role MEMBER WITH ADMIN OPTION"},
		},
		{name: "owned by the clone", between: []string{"CREATE TABLE own (x int)", "ALTER TABLE own OWNER TO $clone"}, has: []string{"own owner"}},
		{name: "attributes of the base", between: []string{"ALTER ROLE $base CREATEDB"}, has: nil},
	}

	test := func(t *testing.T, r row, toClone bool) {
		warm, other := 1, r.other || strings.Contains(strings.Join(r.between, ""), "$other")
		if toClone {
			warm++
		}
		f := newPair(t, "")
		if r.superuser {
			cfg := server.ConnConfig()
			f.Put(masterName, secret(server, cfg.User, cfg.Password, nil))
		}
		admin(t, server, "postgres", f.names("CREATE ROLE $role")...)
		if other {
			admin(t, server, "postgres", f.names("CREATE DATABASE $other")...)
		}
		database := f.database
		if r.other {
			database += "_other"
		}
		admin(t, server, database, "CREATE TABLE t (x int, y int)", "CREATE SEQUENCE s", "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
			"CREATE PROCEDURE pr(int) LANGUAGE sql AS 'SELECT 1'", "CREATE SCHEMA sc", `CREATE TABLE sc."it's" (x int)`, "CREATE TYPE ty AS ENUM ('a')",
			"CREATE DOMAIN dom AS int", "SELECT lo_create(4711)",
			"REVOKE EXECUTE ON FUNCTION f(int) FROM PUBLIC", "REVOKE EXECUTE ON PROCEDURE pr(int) FROM PUBLIC", "REVOKE USAGE ON TYPE ty FROM PUBLIC",
			"REVOKE USAGE ON TYPE dom FROM PUBLIC", "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC")
		h := f.alternating(nil)
		for range warm {
			if err := f.rotate(h); err != nil {
				t.Fatal(err)
			}
		}
		if r.before != nil { // for both, by now
			admin(t, server, database, f.names(r.before...)...)
			for range 2 {
				if err := f.rotate(h); err != nil {
					t.Fatal(err)
				}
			}
		}
		admin(t, server, database, f.names(r.between...)...)
		current := f.value("AWSCURRENT")
		kept := f.everything(t, database, current.Username)
		if err := f.rotate(h); err != nil {
			t.Fatal(err)
		}
		base, clone := f.everything(t, database, f.user), f.everything(t, database, f.user+"_clone")
		left := base
		if !toClone {
			left = clone
		}
		maps.DeleteFunc(kept, func(k string, _ bool) bool { return left[k] })
		for what := range kept {
			if !toClone {
				t.Errorf("the user of AWSCURRENT had %q, and lost it", what)
			}
		}
		// The attributes of the base are the clone's when that is next.
		if !toClone {
			for _, m := range []map[string]bool{base, clone} {
				maps.DeleteFunc(m, func(k string, _ bool) bool { return strings.HasPrefix(k, "createdb") })
			}
		}
		if !maps.Equal(base, clone) {
			for what := range base {
				if !clone[what] {
					t.Errorf("the base alone has %q", what)
				}
			}
			for what := range clone {
				if !base[what] {
					t.Errorf("the clone alone has %q", what)
				}
			}
		}
		for i, what := range f.names(append(slices.Clone(r.has), r.not...)...) {
			if what = strings.ReplaceAll(what, `"`, ""); base[what] != (i < len(r.has)) {
				t.Errorf("the base has %q: %t", what, base[what])
			}
		}
		now, before := f.value("AWSCURRENT"), f.value("AWSPREVIOUS")
		s := f.session(t, f.database, now.Username, now.Password)
		if old := f.session(t, f.database, before.Username, before.Password); !maps.Equal(s, old) {
			t.Errorf("a session has %v, that of the user before %v", s, old)
		}
		for name, want := range r.settings {
			if want = strings.ReplaceAll(want, "$role", f.user+"_role"); s[name] != want {
				t.Errorf("%s is %q, want %q", name, s[name], want)
			}
		}
		if n := ask[int](t, server, "postgres", "SELECT count(*) FROM pg_auth_members WHERE member = $1::regrole AND admin_option",
			quoted(f.user+"_clone")); n != 0 && toClone {
			t.Errorf("the clone may give away %d roles as itself", n)
		}
		if m := ask[int](t, server, "postgres", "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member "+
			"WHERE r.rolname = $1 AND NOT m.admin_option", f.user+"_master"); m != 0 {
			t.Errorf("the master is a member of %d roles after it", m)
		}
	}
	for _, r := range toClone {
		t.Run("clone/"+r.name, func(t *testing.T) { t.Parallel(); test(t, r, true) })
	}
	for _, r := range toBase {
		t.Run("base/"+r.name, func(t *testing.T) { t.Parallel(); test(t, r, false) })
	}
}
