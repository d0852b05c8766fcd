package mysql_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

var alternating = ways[3]

// Rights of all kinds, granted to the user of AWSCURRENT and revoked again, are
// those of its partner after the next rotation. USER is the one that applications
// are at the time; DB, OTHER and ROLE have names that are to be quoted.
func TestRights(t *testing.T) {
	type change struct{ grant, revoke string }
	for _, test := range []struct {
		name   string
		kind   mysqlserver.Kind // "": both
		set    []string
		change []change
	}{
		{name: "global", change: []change{
			{"GRANT PROCESS, RELOAD ON *.* TO USER", "REVOKE RELOAD ON *.* FROM USER"},
			{"GRANT USAGE ON *.* TO USER WITH GRANT OPTION", "REVOKE GRANT OPTION ON *.* FROM USER"},
		}},
		{name: "database", change: []change{
			{"GRANT UPDATE, CREATE TEMPORARY TABLES ON DB.* TO USER WITH GRANT OPTION", "REVOKE UPDATE ON DB.* FROM USER"},
			{"GRANT SELECT ON `any\\_%`.* TO USER", "REVOKE GRANT OPTION ON DB.* FROM USER"},
			{"GRANT ALL ON DB.* TO USER", "REVOKE ALL ON DB.* FROM USER"},
			{"GRANT SELECT ON DB.* TO USER", "GRANT ALL ON DB.* TO USER"},
			{"REVOKE ALL ON DB.* FROM USER", "GRANT INSERT ON DB.* TO USER"},
			{"GRANT ALL ON DB.* TO USER WITH GRANT OPTION", "REVOKE INSERT ON DB.* FROM USER"},
			{"GRANT ALL ON DB.* TO USER", "REVOKE ALL ON DB.* FROM USER; GRANT SELECT ON DB.* TO USER"},
		}},
		{name: "tables and columns", set: []string{"CREATE TABLE DB.OTHER (a INT, `b TO c` INT, `d``e` INT)"}, change: []change{
			{"GRANT DELETE, TRIGGER ON DB.OTHER TO USER WITH GRANT OPTION", "REVOKE DELETE ON DB.OTHER FROM USER"},
			{"GRANT SELECT (a, `b TO c`), UPDATE (`d``e`), REFERENCES (a) ON DB.OTHER TO USER", "REVOKE SELECT (a), UPDATE (`d``e`) ON DB.OTHER FROM USER"},
			{"GRANT SELECT (`d``e`) ON DB.OTHER TO USER", "REVOKE ALL, GRANT OPTION FROM USER"},
		}},
		{
			name: "routines",
			set:  []string{"CREATE PROCEDURE DB.OTHER() SELECT 1", "CREATE FUNCTION DB.OTHER() RETURNS INT DETERMINISTIC RETURN 1"},
			change: []change{
				{"GRANT EXECUTE ON PROCEDURE DB.OTHER TO USER", "GRANT ALTER ROUTINE ON PROCEDURE DB.OTHER TO USER"},
				{"GRANT EXECUTE, ALTER ROUTINE ON FUNCTION DB.OTHER TO USER WITH GRANT OPTION", "REVOKE EXECUTE ON PROCEDURE DB.OTHER FROM USER"},
			},
		},
		{name: "roles", set: []string{"CREATE ROLE ROLE", "CREATE ROLE SECOND", "GRANT UPDATE ON DB.* TO ROLE"}, change: []change{
			{"GRANT ROLE TO USER", "DEFAULT ROLE"},
			{"GRANT SECOND TO USER WITH ADMIN OPTION", "DEFAULT SECOND"},
			{"REVOKE SECOND FROM USER", "GRANT SECOND TO USER WITH ADMIN OPTION"},
			{"REVOKE SECOND FROM USER; GRANT SECOND TO USER", "GRANT SECOND TO USER WITH ADMIN OPTION"},
			{"DEFAULT NONE", "REVOKE ROLE FROM USER"},
		}},
		{name: "proxies", set: []string{"CREATE USER OTHER", "CREATE USER ROLE", "PROXY"}, change: []change{
			{"GRANT PROXY ON OTHER TO USER", "GRANT PROXY ON ROLE TO USER WITH GRANT OPTION"},
			{"GRANT PROXY ON OTHER TO USER WITH GRANT OPTION", "REVOKE PROXY ON ROLE FROM USER; GRANT PROXY ON ROLE TO USER"},
			{"REVOKE PROXY ON ROLE FROM USER", "REVOKE PROXY ON OTHER FROM USER"},
		}},
		{name: "tls and limits", change: []change{
			{"ALTER USER USER WITH MAX_QUERIES_PER_HOUR 100000 MAX_UPDATES_PER_HOUR 50000 MAX_CONNECTIONS_PER_HOUR 10000 MAX_USER_CONNECTIONS 50", "ALTER USER USER WITH MAX_QUERIES_PER_HOUR 0"},
			{"ALTER USER USER PASSWORD EXPIRE INTERVAL 90 DAY", "ALTER USER USER PASSWORD EXPIRE NEVER"},
			{"ALTER USER USER PASSWORD EXPIRE DEFAULT", "ALTER USER USER REQUIRE NONE"},
		}},
		{name: "statement time", kind: mysqlserver.MariaDB, change: []change{
			{"ALTER USER USER WITH MAX_STATEMENT_TIME 4.5", "ALTER USER USER WITH MAX_STATEMENT_TIME 0"},
		}},
		{name: "dynamic privileges", kind: mysqlserver.MySQL, change: []change{
			{"GRANT ROLE_ADMIN, CONNECTION_ADMIN ON *.* TO USER", "REVOKE ROLE_ADMIN ON *.* FROM USER"},
			{"GRANT ROLE_ADMIN ON *.* TO USER WITH GRANT OPTION", "GRANT CONNECTION_ADMIN ON *.* TO USER WITH GRANT OPTION"},
			{"REVOKE CONNECTION_ADMIN ON *.* FROM USER; GRANT CONNECTION_ADMIN ON *.* TO USER", "REVOKE CONNECTION_ADMIN ON *.* FROM USER"},
		}},
		{name: "password options", kind: mysqlserver.MySQL, change: []change{
			{"ALTER USER USER PASSWORD HISTORY 7 PASSWORD REUSE INTERVAL 12 DAY", "ALTER USER USER PASSWORD HISTORY DEFAULT"},
			{"ALTER USER USER PASSWORD REQUIRE CURRENT OPTIONAL", "ALTER USER USER PASSWORD REQUIRE CURRENT"},
			{"ALTER USER USER FAILED_LOGIN_ATTEMPTS 4 PASSWORD_LOCK_TIME 3", "ALTER USER USER PASSWORD_LOCK_TIME UNBOUNDED"},
			{"ALTER USER USER PASSWORD REQUIRE CURRENT DEFAULT PASSWORD REUSE INTERVAL DEFAULT", "ALTER USER USER FAILED_LOGIN_ATTEMPTS 0 PASSWORD_LOCK_TIME 0"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
				if test.kind != "" && test.kind != srv.Kind() {
					return
				}
				f := newFixture(t, srv, alternating, "ann's TO bob`\"", "first")
				f.Put(secretName, secret(srv, f.user, "first", nil)) // no database, which the user must have a right to
				h := f.handler(nil)
				for _, statement := range test.set {
					f.statement(statement)
				}
				rotate := func(after string) {
					t.Helper()
					rights := f.grants(f.version("AWSCURRENT").Username)
					if err := f.rotate(h); err != nil {
						t.Fatalf("after %s: %v", after, err)
					}
					f.checkUsers()
					if now := f.grants(f.version("AWSCURRENT").Username); strings.Join(now, "\n") != strings.Join(rights, "\n") {
						t.Errorf("after %s: the rights of AWSCURRENT have become\n%s\nthey were\n%s", after, strings.Join(now, "\n"), strings.Join(rights, "\n"))
					}
					if t.Failed() {
						t.Fatalf("after %s", after)
					}
				}
				rotate("nothing")
				for _, c := range test.change {
					for _, statements := range []string{c.grant, c.revoke} {
						for statement := range strings.SplitSeq(statements, "; ") {
							f.statement(statement)
						}
						rotate(statements)
					}
				}
			})
		})
	}
}

var placeholders = regexp.MustCompile(`\b(USER|DB|OTHER|ROLE|SECOND)\b`)

// statement executes one of TestRights.
func (f *fixture) statement(s string) {
	f.t.Helper()
	user := f.version("AWSCURRENT").Username
	quote := func(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
	tail := strings.NewReplacer("`", "", "'", "", `"`, "").Replace(f.user)
	switch {
	case s == "PROXY": // which nobody can grant who has not got it from the installation
		f.admin("INSERT INTO mysql.proxies_priv VALUES ('%', ?, '', '', 1, '', now())", f.super)
		f.admin("INSERT INTO mysql.proxies_priv VALUES ('%', 'keyturn', '', '', 1, '', now())  ON DUPLICATE KEY UPDATE with_grant = 1")
		f.admin("FLUSH PRIVILEGES")
		return
	case strings.HasPrefix(s, "DEFAULT "):
		preposition := " TO "
		if f.server.Kind() == mysqlserver.MariaDB {
			preposition = " FOR "
		}
		s = "SET DEFAULT ROLE " + strings.TrimPrefix(s, "DEFAULT ") + preposition + "USER"
	}
	first, makesRole := strings.CutPrefix(s, "CREATE ROLE ")
	words := map[string]string{
		"DB": quote(f.database()), "OTHER": quote("a TO b " + tail), "ROLE": quote("role TO " + tail), "SECOND": quote("second " + tail),
		"USER": quote(user) + "@'%'",
	}
	if makesRole {
		f.admin("CREATE ROLE " + words[first])
		if f.server.Kind() == mysqlserver.MariaDB {
			f.admin("GRANT "+words[first]+" TO ?@'%' WITH ADMIN OPTION", f.super)
		}
		return
	}
	keep := regexp.MustCompile(`^(ALTER|CREATE) USER|DEFAULT ROLE|MAX_USER_CONNECTIONS`)
	head := keep.FindString(s)
	if strings.HasPrefix(s, "SET DEFAULT ROLE") {
		head = "SET DEFAULT ROLE"
	}
	f.admin(head + placeholders.ReplaceAllStringFunc(s[len(head):], func(w string) string { return words[w] }))
}

// A user of the partner's name that is somebody else's is not touched, until
// somebody says that it is the partner. The error says how.
func TestForeignPartner(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		for _, test := range []struct {
			name    string
			current string // suffix of the user of AWSCURRENT
			foreign string // suffix of the other
			host    string
			adopt   bool
		}{
			{"a clone that is none", "", "_clone", "%", true},
			{"a base that has nothing to do with it", "_clone", "", "%", true},
			{"a clone of another host", "", "_clone", "10.0.0.%", false},
		} {
			t.Run(test.name, func(t *testing.T) {
				f := newFixture(t, srv, alternating, "", "first")
				base := f.user
				foreign := login{base + test.foreign, "of somebody else"}
				if test.current != "" {
					f.admin("RENAME USER ?@'%' TO ?@'%'", base, base+test.current)
					f.Put(secretName, f.secret(base+test.current, "first"))
				}
				f.admin("CREATE USER ?@? IDENTIFIED BY ?", foreign.Username, test.host, foreign.Password)
				f.host = test.host
				before := f.grants(foreign.Username)
				h := f.handler(nil)
				token := f.begin()
				err := run(t.Context(), h, token, steps...)
				e, ok := errors.AsType[*rotation.Error](err)
				if !ok || e.Reason != rotation.ReasonPartner || !strings.Contains(e.Remedy, "another Options.Suffix") {
					t.Fatalf("Handle = %v, want an error because of the partner", err)
				}
				if got := f.grants(foreign.Username); fmt.Sprint(got) != fmt.Sprint(before) {
					t.Errorf("the other user may now\n%s\n and could before\n%s", got, before)
				}
				if test.host == "%" && !f.logsIn(foreign) {
					t.Error("the password of the other user was changed")
				}
				if !test.adopt {
					return
				}
				_, statements, ok := strings.Cut(e.Remedy, "say so: ")
				if !ok {
					t.Fatalf("the remedy names no statement: %s", e.Remedy)
				}
				for statement := range strings.SplitSeq(statements, "; ") {
					f.admin(statement)
				}
				if err := run(t.Context(), h, token, steps...); err != nil {
					t.Fatal(err)
				}
				if !f.logsIn(f.version("AWSCURRENT")) || f.version("AWSCURRENT").Username != foreign.Username {
					t.Error("the server refuses AWSCURRENT")
				}
				f.checkUsers()
			})
		}
	})
}

// The partner is at the host that the user is at.
func TestHosts(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		for _, w := range ways {
			t.Run(w.name, func(t *testing.T) {
				f := newFixture(t, srv, w, "", "first")
				f.host = "127.0.0.0/255.255.255.0"
				f.admin("RENAME USER ?@'%' TO ?@?", f.user, f.user, f.host)
				h := f.handler(nil)
				for range 3 {
					before := f.version("AWSCURRENT")
					if err := f.rotate(h); err != nil {
						t.Fatal(err)
					}
					f.checkRotated(before)
				}
				if w.strategy == mysql.SingleUser {
					return // it can change no other account, nor see that there is one
				}
				// A second account has a password of its own.
				f.admin("CREATE USER ?@'10.1.2.3' IDENTIFIED BY 'first'", f.version("AWSCURRENT").Username)
				token := f.begin()
				err := run(t.Context(), h, token, steps...)
				e, ok := errors.AsType[*rotation.Error](err)
				if !ok || e.Reason != rotation.ReasonUnsuitable || !strings.Contains(err.Error(), "several accounts") {
					t.Errorf("Handle, with two accounts of the user = %v, want an error that says so", err)
				}
			})
		}
	})
}

// Servers keep rights on tables that were dropped, and let nobody grant them.
func TestRightsOnWhatIsGone(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		f := newFixture(t, srv, alternating, "", "first")
		id := "`" + f.database() + "`"
		f.admin("CREATE TABLE " + id + ".gone (a INT)")
		f.admin("CREATE PROCEDURE " + id + ".p() SELECT 1")
		f.admin("CREATE DATABASE `" + f.user + " gone`")
		f.admin("CREATE TABLE `" + f.user + " gone`.t (a INT)")
		f.admin("GRANT SELECT, UPDATE (a) ON "+id+".gone TO ?@'%'", f.user)
		f.admin("GRANT UPDATE (a), SELECT (b) ON "+id+".t TO ?@'%'", f.user)
		f.admin("GRANT EXECUTE ON PROCEDURE "+id+".p TO ?@'%'", f.user)
		f.admin("GRANT SELECT ON `"+f.user+" gone`.t TO ?@'%'", f.user)
		f.admin("CREATE ROLE ?", f.user+" role")
		f.admin("GRANT ? TO ?@'%'", f.user+" role", f.user)
		f.setDefaultRole(f.user+" role", f.user)
		f.admin("REVOKE ? FROM ?@'%'", f.user+" role", f.user)
		f.admin("DROP TABLE " + id + ".gone")
		f.admin("ALTER TABLE " + id + ".t DROP COLUMN b")
		f.admin("DROP PROCEDURE " + id + ".p")
		f.admin("DROP DATABASE `" + f.user + " gone`")
		h := f.handler(nil)
		for range 3 {
			if err := f.rotate(h); err != nil {
				t.Fatal(err)
			}
		}
		found := false
		for _, row := range f.grants(f.partner()) {
			found = found || strings.Contains(row, "UPDATE (`a`)")
		}
		if !found {
			t.Errorf("the partner may %q, which lacks the right on the column that is left", f.grants(f.partner()))
		}
	})
}

// What one user was given after setSecret is found before the promotion.
func TestVerify(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		f := newFixture(t, srv, alternating, "", "first")
		h := f.handler(nil)
		token := f.begin()
		if err := run(t.Context(), h, token, steps[:3]...); err != nil {
			t.Fatal(err)
		}
		f.admin("GRANT UPDATE ON `"+f.database()+"`.* TO ?@'%'", f.user)
		f.admin("GRANT PROCESS ON *.* TO ?@'%'", f.partner())
		f.admin("ALTER USER ?@'%' REQUIRE X509", f.user)
		f.admin("ALTER USER ?@'%' REQUIRE NONE WITH MAX_USER_CONNECTIONS 3", f.user)
		for _, step := range steps[2:] {
			err := run(t.Context(), h, token, step)
			e, ok := errors.AsType[*rotation.Error](err)
			if !ok || e.Reason != rotation.ReasonPrivileges {
				t.Fatalf("%s = %v, want an error because of privileges", step, err)
			}
			for _, want := range []string{"lacks UPDATE ON `" + f.database() + "`.*", "has PROCESS ON *.*", "limits"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
		}
		if f.version("AWSCURRENT").Username != f.user {
			t.Error("AWSCURRENT has moved")
		}
		if err := run(t.Context(), h, token, steps...); err != nil {
			t.Fatal(err)
		}
		f.checkUsers()
	})
}

// Amazon RDS manages secrets that have a user name and a password, no more.
func TestManagedSuperuser(t *testing.T) {
	for _, strategy := range []way{ways[2], alternating} {
		t.Run(strategy.name, func(t *testing.T) {
			eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
				f := newFixture(t, srv, strategy, "", "first")
				f.Put(superName, fmt.Sprintf(`{"username": %q, "password": "super-4711"}`, f.super))
				// Which is named by the secret itself here, as AWS has it.
				out, err := f.client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String(superName)})
				if err != nil {
					t.Fatal(err)
				}
				withMaster, err := rotation.NewValue(f.secret(f.user, "first")).With("masterarn", *out.ARN)
				if err != nil {
					t.Fatal(err)
				}
				f.Put(secretName, withMaster.Text())
				h := f.handler(&mysql.Options{Strategy: strategy.strategy})
				for range 2 {
					before := f.version("AWSCURRENT")
					if err := f.rotate(h); err != nil {
						t.Fatal(err)
					}
					f.checkRotated(before)
				}
			})
		})
	}
}

// A global privilege that holds everywhere but in some databases.
func TestPartialRevokes(t *testing.T) {
	f := newFixture(t, mysqld, alternating, "", "first")
	f.admin("SET GLOBAL partial_revokes = ON")
	defer func() {
		f.admin("DROP USER ?@'%'", f.user)
		f.admin("DROP USER ?@'%'", f.partner())
		f.admin("SET GLOBAL partial_revokes = OFF")
	}()
	h := f.handler(nil)
	for _, statement := range []string{
		"GRANT SELECT, UPDATE, DELETE ON *.* TO ?@'%'",
		"REVOKE SELECT, UPDATE ON mysql.* FROM ?@'%'",
		"REVOKE DELETE ON `" + f.database() + "`.* FROM ?@'%'",
		"GRANT SELECT ON mysql.* TO ?@'%'",
		"REVOKE UPDATE ON *.* FROM ?@'%'",
		"GRANT DELETE ON `" + f.database() + "`.* TO ?@'%'",
	} {
		f.admin(statement, f.version("AWSCURRENT").Username)
		rights := f.grants(f.version("AWSCURRENT").Username)
		if err := f.rotate(h); err != nil {
			t.Fatalf("after %s: %v", statement, err)
		}
		f.checkUsers()
		if now := f.grants(f.version("AWSCURRENT").Username); fmt.Sprint(now) != fmt.Sprint(rights) {
			t.Errorf("after %s: the rights of AWSCURRENT have become %q, they were %q", statement, now, rights)
		}
	}
}

// What a user's certificate must say has quotes in it, and words of SQL.
func TestAttributesWithText(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		f := newFixture(t, srv, alternating, "", "first")
		if err := f.rotate(f.handler(nil)); err != nil {
			t.Fatal(err)
		}
		// Nobody logs in under such conditions without a certificate: the target
		// is asked alone.
		f.admin(`ALTER USER ?@'%' REQUIRE SUBJECT ? AND ISSUER ? AND CIPHER ?`, f.user, `/CN=a'b\"c`, "/O=PASSWORD EXPIRE", "AES")
		target := mysql.NewTarget(f.options())
		c := rotation.Change{
			Current: rotation.NewValue(secret(srv, f.user, "first", nil)),
			Pending: rotation.NewValue(secret(srv, f.partner(), "second", nil)), As: f.superuser(),
		}
		if err := target.Verify(t.Context(), c); err == nil || !strings.Contains(err.Error(), "REQUIRE") {
			t.Errorf("Verify = %v, want an error that says REQUIRE", err)
		}
		if err := target.Set(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := target.Verify(t.Context(), c); err != nil {
			t.Error(err)
		}
		if one, other := f.conditions(f.user), f.conditions(f.partner()); one != other || !strings.Contains(one, `/CN=a'b\"c`) {
			t.Errorf("one user has %s, the other %s", one, other)
		}
	})
}

func (f *fixture) conditions(user string) string {
	f.t.Helper()
	return f.rows1("SELECT CONCAT_WS('; ', ssl_type, ssl_cipher, x509_issuer, x509_subject) FROM mysql.user WHERE user = ?", user)
}

// A user that was dropped while it was not its turn is made again.
func TestDroppedPartner(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		f := newFixture(t, srv, alternating, "", "first")
		f.toggle(true)
		h := f.handler(nil)
		for range 4 {
			before := f.version("AWSCURRENT")
			if err := f.rotate(h); err != nil {
				t.Fatal(err)
			}
			f.checkUsers()
			if !f.logsIn(f.version("AWSCURRENT")) {
				t.Error("the server refuses AWSCURRENT")
			}
			f.admin("DROP USER ?@'%'", before.Username)
		}
	})
}

// MySQL keeps an older password of the partner unless it is told not to.
func TestPartnerHasOnePassword(t *testing.T) {
	f := newFixture(t, mysqld, alternating, "", "first")
	f.rotateTwice()
	f.admin("ALTER USER ?@'%' IDENTIFIED BY 'by hand' RETAIN CURRENT PASSWORD", f.partner())
	older := f.version("AWSPREVIOUS")
	if !f.logsIn(older) || older.Username != f.partner() {
		t.Fatal("the partner has no older password")
	}
	if err := f.rotate(f.handler(nil)); err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{older.Password, "by hand"} {
		if f.logsIn(login{f.partner(), password}) {
			t.Error("the server takes an older password of the partner")
		}
	}
}
