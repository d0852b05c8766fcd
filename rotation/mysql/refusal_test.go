package mysql_test

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// What the target refuses to do, at which step, why, and what it says is to be
// done. Nothing has changed then, and when that is done it goes on.
func TestRefusals(t *testing.T) {
	single, bare, bySuperuser := ways[0], ways[1], ways[2]
	superuserAnd := []way{bySuperuser, alternating}
	with := func(more map[string]any) func(*fixture) {
		return func(f *fixture) { f.Put(secretName, secret(f.server, f.user, "first", more)) }
	}
	statement := func(format string) func(*fixture) {
		return func(f *fixture) {
			f.admin(strings.NewReplacer("$user", "`"+f.user+"`", "$super", "`"+f.super+"`", "$db", "`"+f.database()+"`").Replace(format))
		}
	}
	for _, test := range []struct {
		name    string
		kind    mysqlserver.Kind // "": both
		ways    []way            // nil: all
		opts    func(*mysql.Options)
		prepare func(*fixture)
		step    string
		reason  rotation.Reason
		want    []string
		heal    func(*fixture) // nil: not tried
	}{
		{
			name: "no superuser named", ways: superuserAnd, opts: func(o *mysql.Options) { o.Superuser = "" }, prepare: with(nil),
			step: "setSecret", reason: rotation.ReasonSuperuser, want: []string{`"masterarn"`, "Options.Superuser"},
		},
		{
			name: "no such secret", ways: superuserAnd, opts: func(o *mysql.Options) { o.Superuser = "nowhere" },
			step: "setSecret", reason: rotation.ReasonSuperuser, want: []string{"nowhere"},
		},
		{
			name: "the superuser's secret is none", ways: superuserAnd, prepare: func(f *fixture) { f.Put(superName, `{"username":"x"}`) },
			step: "setSecret", reason: rotation.ReasonSuperuser, want: []string{`no "password"`, "names the right secret"},
			heal: func(f *fixture) { f.newSuperuser() },
		},
		{
			name: "the superuser is refused", ways: superuserAnd,
			prepare: func(f *fixture) { f.Put(superName, secret(f.server, f.super, "wrong", nil)) },
			step:    "setSecret", reason: rotation.ReasonSuperuser, want: []string{"1045", "put the superuser's password"},
			heal: func(f *fixture) { f.Put(superName, secret(f.server, f.super, "super-4711", nil)) },
		},
		{
			name: "the superuser is another server's", ways: superuserAnd,
			prepare: func(f *fixture) {
				other := mariadb
				if f.server == mariadb {
					other = mysqld
				}
				admin(f.t, other, "CREATE USER IF NOT EXISTS ?@'%' IDENTIFIED BY 'another'", f.user)
				of := newFixture(f.t, other, bySuperuser, "", "first")
				f.Put(superName, secret(other, of.super, "super-4711", nil))
			},
			step: "setSecret", reason: rotation.ReasonServer, want: []string{"another server", "make the host of both secrets the same"},
		},
		{
			name: "a superuser without rights", ways: superuserAnd,
			prepare: statement("REVOKE ALL PRIVILEGES, GRANT OPTION FROM $super@'%'"),
			step:    "setSecret", reason: rotation.ReasonPermission, want: []string{"grant it CREATE USER on *.*, SELECT on mysql.*"},
			heal: statement("GRANT ALL ON *.* TO $super@'%' WITH GRANT OPTION"),
		},
		{
			name: "a superuser without the user's rights", ways: []way{alternating},
			prepare: statement("REVOKE INSERT ON *.* FROM $super@'%'"),
			step:    "setSecret", reason: rotation.ReasonPermission, want: []string{"GRANT INSERT, SELECT ON $db.* TO `$user_clone`@`%`", "WITH GRANT OPTION"},
			heal: statement("GRANT INSERT ON *.* TO $super@'%'"),
		},
		{
			name: "a wrong password in AWSCURRENT", ways: []way{alternating}, prepare: func(f *fixture) { f.Put(secretName, f.secret(f.user, "guessed")) },
			step: "setSecret", reason: rotation.ReasonLockedOut, want: []string{"1045", "password of AWSCURRENT"},
			heal: func(f *fixture) { f.admin("ALTER USER ?@'%' IDENTIFIED BY 'guessed'", f.user) },
		},
		{
			name: "a locked account", prepare: statement("ALTER USER $user@'%' ACCOUNT LOCK"),
			step: "setSecret", reason: rotation.ReasonLockedOut, want: []string{"ACCOUNT UNLOCK"}, heal: statement("ALTER USER $user@'%' ACCOUNT UNLOCK"),
		},
		{
			name: "a partner that is locked", ways: []way{alternating}, prepare: func(f *fixture) {
				f.rotateTwice()
				f.admin("ALTER USER ?@'%' ACCOUNT LOCK", f.partner())
			},
			step: "testSecret", reason: rotation.ReasonLockedOut, want: []string{"ACCOUNT UNLOCK"},
			heal: func(f *fixture) { f.admin("ALTER USER ?@'%' ACCOUNT UNLOCK", f.partner()) },
		},
		{
			name: "an account blocked after wrong passwords", kind: mysqlserver.MySQL, prepare: func(f *fixture) {
				f.admin("ALTER USER ?@'%' FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED", f.user)
				_, _ = open(f.t.Context(), f.server, login{f.user, "wrong"})
			},
			step: "setSecret", reason: rotation.ReasonLockedOut, want: []string{"3955", "who tried wrong passwords", "ACCOUNT UNLOCK"},
			heal: statement("ALTER USER $user@'%' ACCOUNT UNLOCK FAILED_LOGIN_ATTEMPTS 5"),
		},
		{
			name: "a user that is blocked after wrong passwords", kind: mysqlserver.MariaDB, prepare: func(f *fixture) {
				f.admin("SET GLOBAL max_password_errors = 1")
				_, _ = open(f.t.Context(), f.server, login{f.user, "wrong"})
			},
			step: "setSecret", reason: rotation.ReasonLockedOut, want: []string{"4150", "who tried wrong passwords", "FLUSH PRIVILEGES"},
			heal: func(f *fixture) {
				f.admin("SET GLOBAL max_password_errors = 4294967295")
				f.admin("FLUSH PRIVILEGES")
			},
		},
		{
			name: "an expired password", prepare: statement("ALTER USER $user@'%' PASSWORD EXPIRE"),
			step: "setSecret", reason: rotation.ReasonLockedOut, want: []string{"the same password again as an administrator"},
			heal: func(f *fixture) { f.admin("ALTER USER ?@'%' IDENTIFIED BY 'first'", f.user) },
		},
		{
			name: "no such database", prepare: with(map[string]any{"dbname": "nowhere"}),
			step: "setSecret", reason: rotation.ReasonBadValue, want: []string{`into "dbname"`},
		},
		{
			name: "a read-only server", ways: []way{single, bare, bySuperuser, alternating}, prepare: statement("SET GLOBAL read_only = ON"),
			step: "setSecret", reason: rotation.ReasonServer, want: []string{"is read-only: a replica", "name the host that takes writes"},
			heal: statement("SET GLOBAL read_only = OFF"),
		},
		{
			name: "passwords that the server does not want", kind: mysqlserver.MySQL, ways: []way{single, bare},
			prepare: func(f *fixture) {
				f.admin("INSTALL COMPONENT 'file://component_validate_password'")
				f.admin("SET GLOBAL validate_password.length = 100")
			},
			step: "setSecret", reason: rotation.ReasonBadValue, want: []string{"1819", "rotation.Options.Password"},
			heal: statement("UNINSTALL COMPONENT 'file://component_validate_password'"),
		},
		{
			name: "no password in AWSCURRENT that the server has at first place, under a history", kind: mysqlserver.MySQL, ways: []way{single},
			prepare: func(f *fixture) {
				f.admin("ALTER USER ?@'%' IDENTIFIED BY 'first' PASSWORD HISTORY 5", f.user)
				f.admin("ALTER USER ?@'%' IDENTIFIED BY 'by hand' RETAIN CURRENT PASSWORD", f.user)
			},
			step: "setSecret", reason: rotation.ReasonLockedOut, want: []string{"3638", "as an administrator"},
			heal: func(f *fixture) {
				f.admin("ALTER USER ?@'%' PASSWORD HISTORY 0", f.user)
				f.admin("ALTER USER ?@'%' IDENTIFIED BY 'first'", f.user)
			},
		},
		{
			name: "a plugin that has no passwords", kind: mysqlserver.MariaDB, ways: []way{single},
			opts: func(*mysql.Options) {},
			prepare: func(f *fixture) {
				me, err := user.Current()
				if err != nil {
					f.t.Fatal(err)
				}
				f.admin("CREATE OR REPLACE USER ?@'localhost' IDENTIFIED VIA unix_socket", me.Username)
				f.Put(secretName, secret(f.server, me.Username, "any", map[string]any{"host": f.server.Socket()}))
			},
			step: "setSecret", reason: rotation.ReasonUnsuitable, want: []string{`plugin "unix_socket"`, "mysql_native_password"},
		},
		{
			name: "a name that is too long", ways: []way{alternating},
			prepare: func(f *fixture) {
				f.Put(secretName, secret(f.server, strings.Repeat("ñ", 123), "first", nil))
			},
			step: "createSecret", reason: rotation.ReasonBadValue, want: []string{"characters", "shorter"},
		},
		{
			name: "a name that is a suffix", ways: []way{alternating}, prepare: func(f *fixture) { f.Put(secretName, secret(f.server, "_clone", "first", nil)) },
			step: "createSecret", reason: rotation.ReasonBadValue, want: []string{"no name besides the suffix"},
		},
		{
			name: "another engine", prepare: with(map[string]any{"engine": "postgres"}),
			step: "createSecret", reason: rotation.ReasonBadValue, want: []string{`"engine" is not mysql`},
		},
		{
			name: "replicas that are no list", prepare: with(map[string]any{"replicas": "db2"}),
			step: "setSecret", reason: rotation.ReasonReplica, want: []string{`"replicas" is not a list of strings`},
		},
		{
			name: "a replica that is not known", prepare: with(map[string]any{"replicas": []string{"nowhere.invalid"}}),
			step: "setSecret", reason: rotation.ReasonReplica, want: []string{`resolving "nowhere.invalid"`, "take them out of the list"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
				if test.kind != "" && test.kind != srv.Kind() ||
					test.ways != nil && !slices.ContainsFunc(test.ways, func(one way) bool { return one.name == w.name }) {
					return
				}
				f := newFixture(t, srv, w, "", "first")
				opts := f.options()
				if test.opts != nil {
					test.opts(opts)
				}
				if test.prepare != nil {
					test.prepare(f)
				}
				before, users := f.version("AWSCURRENT"), f.allUsers()
				h := rotation.NewHandler(f.client, mysql.NewTarget(opts), &rotation.Options{ReplicaWait: -1})
				token := f.begin()
				err := run(t.Context(), h, token, steps...)
				heal := sync.OnceFunc(func() {
					if test.heal != nil {
						test.heal(f)
					}
				})
				defer heal()
				e, ok := errors.AsType[*rotation.Error](err)
				if !ok {
					t.Fatalf("run = %v, want an error", err)
				}
				if e.Step != test.step || e.Reason != test.reason || e.Remedy == "" {
					t.Fatalf("run = %+v (%q), want one of %s, for %q, with a remedy", err, e.Reason, test.step, test.reason)
				}
				for _, want := range append(test.want, e.Remedy) {
					want = strings.NewReplacer("$user", f.user, "$db", "`"+f.database()+"`").Replace(want)
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error does not say %q:\n%v", want, err)
					}
				}
				if errors.Is(err, rotation.ErrRefused) && !strings.Contains(err.Error(), "1045") {
					t.Errorf("the error is taken for a refusal: %v", err)
				}
				for _, password := range []string{f.version("AWSPENDING").Password, "super-4711"} {
					if password != "" && strings.Contains(err.Error(), password) {
						t.Errorf("the error has a password: %v", err)
					}
				}
				if f.version("AWSCURRENT") != before {
					t.Error("AWSCURRENT has moved")
				}
				if got := f.allUsers(); test.step == "setSecret" && test.name != "a superuser without the user's rights" && got != users {
					t.Errorf("users have changed from\n%s\nto\n%s", users, got)
				}
				if test.heal == nil {
					return
				}
				heal()
				if err := run(t.Context(), h, token, steps...); err != nil {
					t.Fatalf("after what the error said to do: %v", err)
				}
				f.checkRotated(before)
			})
		})
	}
}

// allUsers returns all that the server has of the fixture's users.
func (f *fixture) allUsers() string {
	f.t.Helper()
	table := "mysql.user"
	if f.server.Kind() == mysqlserver.MariaDB {
		table = "mysql.global_priv"
	}
	rows, err := f.server.Admin().QueryContext(f.t.Context(), "SELECT * FROM "+table+" WHERE user LIKE ?", f.user+"%")
	if err != nil {
		f.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		f.t.Fatal(err)
	}
	var out strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new([]byte)
		}
		if err := rows.Scan(values...); err != nil {
			f.t.Fatal(err)
		}
		for _, v := range values {
			fmt.Fprintf(&out, "%q ", *v.(*[]byte))
		}
		out.WriteString("\n")
	}
	return out.String()
}

// A login over a socket proves nothing if the server looks at the user of the
// operating system.
func TestSocket(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		f := newFixture(t, srv, ways[0], "", "first")
		f.Put(secretName, secret(srv, f.user, "first", map[string]any{"host": srv.Socket(), "port": nil}))
		f.rotateTwice()
		if srv == mysqld {
			return // auth_socket is to be installed
		}
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		f.admin("CREATE OR REPLACE USER ?@'localhost' IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('first')", me.Username)
		err = mysql.NewTarget(nil).Test(t.Context(), rotation.NewValue(secret(srv, me.Username, "any", map[string]any{"host": srv.Socket()})))
		if err == nil || errors.Is(err, rotation.ErrRefused) || !strings.Contains(err.Error(), "without a password") {
			t.Errorf("Test over a socket = %v, want an error that is no refusal", err)
		}
	})
}

// An anonymous user lets in everybody, with its own rights.
func TestAnonymousUser(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		admin(t, srv, "CREATE USER ''@'127.0.0.1' IDENTIFIED BY 'anything'")
		defer admin(t, srv, "DROP USER ''@'127.0.0.1'")
		err := mysql.NewTarget(nil).Test(t.Context(), rotation.NewValue(secret(srv, "somebody", "anything", nil)))
		if err == nil || errors.Is(err, rotation.ErrRefused) || !strings.Contains(err.Error(), "drop anonymous users") {
			t.Errorf("Test as an anonymous user = %v, want an error that is no refusal", err)
		}
	})
}
