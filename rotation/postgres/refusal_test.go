package postgres_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

// What the target refuses to do, at which step, why, and what it says is to be
// done. Nothing that is somebody else's has changed then.
func TestRefusals(t *testing.T) {
	alternating := postgres.Options{Strategy: postgres.AlternatingUsers}
	bySuperuser := postgres.Options{Strategy: postgres.SingleUserBySuperuser}
	type refusal struct {
		name    string
		opts    postgres.Options
		prepare func(t *testing.T, f *fixture)
		step    string
		reason  rotation.Reason
		want    []string
		healed  func(t *testing.T, f *fixture) // what the remedy says; nil: not tried
	}
	statements := func(s ...string) func(*testing.T, *fixture) {
		return func(t *testing.T, f *fixture) { admin(t, server, f.database, f.names(s...)...) }
	}
	with := func(more map[string]any) func(*testing.T, *fixture) {
		return func(_ *testing.T, f *fixture) { f.Put(secretName, secret(server, f.user, "first", more)) }
	}
	for _, test := range []refusal{
		{
			name: "a role of the partner's name", opts: alternating, prepare: statements("CREATE ROLE $clone LOGIN PASSWORD 'its own'"),
			step: steps[1], reason: rotation.ReasonPartner, want: []string{`COMMENT ON ROLE "$user_clone" IS 'keyturn: partner of "$user"'`, "Suffix"},
			healed: statements(`COMMENT ON ROLE $clone IS 'made by AWS''s function. keyturn: partner of $base'`,
				"DO $$ BEGIN IF current_setting('server_version_num')::int >= 160000 THEN GRANT $clone TO $master WITH ADMIN OPTION; END IF; END $$"),
		},
		{
			name: "a partner of somebody else", opts: alternating, prepare: statements("CREATE ROLE $clone LOGIN", `COMMENT ON ROLE $clone IS 'keyturn: partner of "another"'`),
			step: steps[1], reason: rotation.ReasonPartner, want: []string{"COMMENT ON ROLE"},
		},
		{
			name: "a user that is called like a partner", opts: alternating,
			prepare: func(t *testing.T, f *fixture) {
				statements("CREATE ROLE $clone LOGIN PASSWORD 'first'", "GRANT CONNECT ON DATABASE $db TO $clone")(t, f)
				f.Put(secretName, secret(server, f.user+"_clone", "first", map[string]any{"masterarn": masterName, "dbname": f.database}))
			},
			step: steps[1], reason: rotation.ReasonPartner, want: []string{`the role "$user_clone" was not made by this function as the partner of "$user"`},
		},
		{
			name: "no superuser named", opts: alternating, prepare: with(nil),
			step: steps[1], reason: rotation.ReasonSuperuser, want: []string{`"masterarn"`, "Options.Superuser"}, healed: with(map[string]any{"masterarn": masterName}),
		},
		{
			name: "no superuser named", opts: bySuperuser, prepare: with(nil),
			step: steps[1], reason: rotation.ReasonSuperuser, want: []string{`"masterarn"`, "Options.Superuser"},
		},
		{
			name: "no such secret", opts: alternating, prepare: with(map[string]any{"masterarn": "nowhere"}),
			step: steps[1], reason: rotation.ReasonSuperuser, want: []string{"secret nowhere cannot be read", "secretsmanager:GetSecretValue"},
		},
		{
			name: "the superuser is refused", opts: alternating,
			prepare: func(_ *testing.T, f *fixture) {
				f.Put(masterName, fmt.Sprintf(`{"username":%q,"password":"wrong"}`, f.user+"_master"))
			},
			step: steps[1], reason: rotation.ReasonSuperuser, want: []string{"AWSCURRENT (version ", "28P01", "put the superuser's password"},
			healed: func(_ *testing.T, f *fixture) {
				f.Put(masterName, masterValue(f.user))
			},
		},
		{
			name: "the superuser's secret is no credential", opts: alternating, prepare: func(_ *testing.T, f *fixture) { f.Put(masterName, `{"username":"x"}`) },
			step: steps[1], reason: rotation.ReasonSuperuser, want: []string{`no "password"`, "names the right secret"},
		},
		{
			name: "the superuser is for another server", opts: alternating,
			prepare: func(t *testing.T, f *fixture) {
				own, err := pgserver.Start(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = own.Stop() })
				cfg := own.ConnConfig()
				f.Put(masterName, secret(own, cfg.User, cfg.Password, nil))
				if err := own.CreateUser(t.Context(), f.user, "another password"); err != nil {
					t.Fatal(err)
				}
			},
			step: steps[1], reason: rotation.ReasonServer, want: []string{"for another server", "make the host of both secrets the same"},
		},
		{
			name: "whose password is not known", opts: alternating,
			prepare: func(_ *testing.T, f *fixture) {
				f.Put(secretName, secret(server, "postgres", "guessed", map[string]any{"masterarn": masterName}))
			},
			step: steps[1], reason: rotation.ReasonLockedOut, want: []string{"28P01", "put the password that the user has into AWSCURRENT"},
		},
		{
			name: "whose password is not known", opts: bySuperuser,
			prepare: func(_ *testing.T, f *fixture) {
				srv, user := server, "postgres"
				f.Put(secretName, secret(srv, user, "guessed", map[string]any{"masterarn": masterName}))
			},
			step: steps[1], reason: rotation.ReasonLockedOut, want: []string{"28P01", "no version of the secret logs in"},
		},
		{
			name: "not allowed", opts: alternating, prepare: statements("ALTER ROLE $master NOCREATEROLE"),
			step: steps[1], reason: rotation.ReasonPermission, want: []string{"42501", "CREATEROLE", "WITH ADMIN OPTION"}, healed: statements("ALTER ROLE $master CREATEROLE"),
		},
		{
			name: "not allowed", opts: bySuperuser, prepare: statements("ALTER ROLE $master NOCREATEROLE"),
			step: steps[1], reason: rotation.ReasonPermission, want: []string{"42501", "CREATEROLE", "WITH ADMIN OPTION"},
		},
		{
			name: "an attribute that it may not give", opts: alternating, prepare: statements("ALTER ROLE $base REPLICATION"),
			step: steps[1], reason: rotation.ReasonPermission, want: []string{"a superuser has to"},
		},
		{
			name: "a grant that it may not take away", opts: alternating,
			prepare: func(t *testing.T, f *fixture) {
				statements("CREATE ROLE $clone LOGIN", `COMMENT ON ROLE $clone IS 'keyturn: partner of $base'`, "CREATE TABLE s (x int)", "GRANT SELECT ON s TO $clone",
					"DO $$ BEGIN IF current_setting('server_version_num')::int >= 160000 THEN GRANT $clone TO $master WITH ADMIN OPTION; END IF; END $$")(t, f)
			},
			step: steps[2], reason: rotation.ReasonPrivileges, want: []string{`tried: REVOKE SELECT ON TABLE public.s FROM "$user_clone"`}, healed: statements("REVOKE SELECT ON s FROM $clone"),
		},
		{
			name: "no such database", opts: alternating, prepare: with(map[string]any{"masterarn": masterName, "dbname": "nowhere"}),
			step: steps[1], reason: rotation.ReasonBadValue, want: []string{"3D000", `into "dbname"`},
		},
		{
			name: "a name that is too long", opts: alternating,
			prepare: func(_ *testing.T, f *fixture) {
				f.Put(secretName, secret(server, strings.Repeat("n", 58), "first", map[string]any{"masterarn": masterName}))
			},
			step: steps[0], reason: rotation.ReasonBadValue, want: []string{"longer than PostgreSQL's 63 bytes", "shorter"},
		},
		{
			name: "a name that is a suffix", opts: alternating,
			prepare: func(_ *testing.T, f *fixture) { f.Put(secretName, secret(server, "_clone", "first", nil)) },
			step:    steps[0], reason: rotation.ReasonBadValue, want: []string{"no name besides the suffix"},
		},
		{
			name: "replicas that are no list", prepare: with(map[string]any{"replicas": "db2"}),
			step: steps[1], reason: rotation.ReasonReplica, want: []string{`"replicas" is not a list of strings`},
		},
		{
			name: "a replica that is not known", prepare: with(map[string]any{"replicas": []string{"nowhere.invalid"}}),
			step: steps[1], reason: rotation.ReasonReplica, want: []string{`resolving "nowhere.invalid"`, "take them out of the list"},
		},
		{
			name: "a read replica", prepare: statements("ALTER ROLE $base SET default_transaction_read_only = on"),
			step: steps[1], reason: rotation.ReasonServer, want: []string{"25006", "name the host that takes writes"}, healed: statements("ALTER ROLE $base RESET ALL"),
		},
		{
			name: "an unknown password_encryption", prepare: statements("ALTER ROLE $base SET password_encryption = md5"),
			step: steps[2], reason: rotation.ReasonNotSet, want: []string{"28P01"}, // pg_hba.conf asks for SCRAM
		},
	} {
		t.Run(fmt.Sprint(test.name, ", ", test.opts.Strategy), func(t *testing.T) {
			t.Parallel()
			f := newPair(t, "")
			test.prepare(t, f)
			before := f.value("AWSCURRENT")
			roles := ask[string](t, server, "postgres", hashes, f.user)
			h := rotation.NewHandler(f.client, postgres.NewTarget(&test.opts), &rotation.Options{ReplicaWait: -1})
			token := f.begin()
			err := run(t.Context(), h, token, steps...)
			e, ok := errors.AsType[*rotation.Error](err)
			if !ok || e.Step != test.step || e.Reason != test.reason || e.Remedy == "" {
				t.Fatalf("run = %+v (%q), want one of %s, for %q, with a remedy", err, e.Reason, test.step, test.reason)
			}
			for _, want := range append(test.want, e.Remedy) {
				if want = strings.ReplaceAll(want, "$user", f.user); !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			for _, password := range []string{before.Password, f.password("AWSPENDING"), "master's password"} {
				if password != "" && password != "first" { // which is a word
					leaktest.Check(t, password, err)
				}
			}
			if got := ask[string](t, server, "postgres", hashes, f.user); got != roles && test.step == steps[1] {
				t.Errorf("passwords have changed from %s to %s", roles, got)
			}
			if f.value("AWSCURRENT") != before {
				t.Error("AWSCURRENT has moved")
			}
			if test.healed == nil {
				return
			}
			test.healed(t, f)
			if test.reason == rotation.ReasonSuperuser && test.name == "no superuser named" { // AWSPENDING lacks the key
				if _, err := f.client.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
					SecretId: aws.String(secretName), VersionStage: aws.String("AWSPENDING"), RemoveFromVersionId: aws.String(token),
				}); err != nil {
					t.Fatal(err)
				}
				token = f.begin()
			}
			if err := run(t.Context(), h, token, steps...); err != nil {
				t.Errorf("after what the error said to do: %v", err)
			}
			if err := f.as("AWSCURRENT"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Nothing that an unrelated user of the partner's name has is taken away, in no
// database, and nothing that it owns.
func TestUnrelatedPartner(t *testing.T) {
	f := newPair(t, "")
	cfg := server.ConnConfig()
	f.Put(masterName, secret(server, cfg.User, cfg.Password, nil))
	admin(t, server, "postgres", f.names("CREATE ROLE $clone LOGIN PASSWORD 'its own' CREATEDB", "CREATE DATABASE $other OWNER $clone",
		"CREATE ROLE $role", "GRANT $role TO $clone", "ALTER ROLE $clone SET work_mem = '7MB'")...)
	for _, database := range []string{f.database, f.database + "_other"} {
		admin(t, server, database, f.names("CREATE TABLE a (x int)", "GRANT SELECT ON a TO $clone", "CREATE TABLE b (x int)", "ALTER TABLE b OWNER TO $clone")...)
	}
	state := func() (all []any) {
		for _, database := range []string{f.database, f.database + "_other"} {
			all = append(all, f.everything(t, database, f.user+"_clone"))
		}
		return append(all, f.session(t, f.database+"_other", f.user+"_clone", "its own"))
	}
	before := state()
	for _, prepare := range []func(){
		func() {},
		func() { // the other way round: it is the unrelated user that is rotated
			f.Put(secretName, secret(server, f.user+"_clone", "its own", map[string]any{"masterarn": masterName, "dbname": f.database}))
		},
	} {
		prepare()
		err := run(t.Context(), f.alternating(nil), f.begin(), steps...)
		if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != rotation.ReasonPartner {
			t.Errorf("run = %v, want %q", err, rotation.ReasonPartner)
		}
		if after := state(); !reflect.DeepEqual(after, before) {
			t.Errorf("it has %v, before it had %v", after, before)
		}
		if err := as(t, server, f.database, f.user, "first"); err != nil {
			t.Error(err)
		}
		if _, err := f.client.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: aws.String(secretName), VersionStage: aws.String("AWSPENDING"), RemoveFromVersionId: aws.String(f.pendingVersion()),
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// pendingVersion returns the version that is AWSPENDING.
func (f *fixture) pendingVersion() string {
	f.t.Helper()
	out, err := f.client.GetSecretValue(f.t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(secretName), VersionStage: aws.String("AWSPENDING"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return *out.VersionId
}

const hashes = "SELECT string_agg(rolname || ' ' || md5(rolpassword), ', ' ORDER BY rolname) FROM pg_authid WHERE rolname ~ ('^(postgres|' || $1 || '(|_clone|_master))$')"

// The superuser's secret is in the midst of a rotation of its own, as RDS makes
// one: AWSPENDING is what the server takes.
func TestSuperuserRotates(t *testing.T) {
	for name, strategy := range strategies {
		if strategy == postgres.SingleUser {
			continue
		}
		t.Run(name, func(t *testing.T) {
			f := newPair(t, "")
			if _, err := f.client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
				SecretId: aws.String(masterName), VersionStages: []string{"AWSPENDING"},
				SecretString: aws.String(fmt.Sprintf(`{"username":%q,"password":"the next"}`, f.user+"_master")),
			}); err != nil {
				t.Fatal(err)
			}
			if err := server.SetPassword(t.Context(), f.user+"_master", "the next"); err != nil {
				t.Fatal(err)
			}
			h := f.handler(&postgres.Options{Strategy: strategy})
			for range 2 {
				if err := f.rotate(h); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Who may write the secret does not get the superuser's password by naming a
// server of his own.
func TestSuperuserPasswordIsNotGivenAway(t *testing.T) {
	own, err := pgserver.Start(t.Context(), &pgserver.Options{
		Files:    map[string][]byte{"clear.conf": []byte("host all all 127.0.0.1/32 password\n")},
		Settings: map[string]string{"hba_file": "clear.conf"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Stop() }()
	f := newPair(t, "")
	if err := own.CreateUser(t.Context(), f.user, "first"); err != nil {
		t.Fatal(err)
	}
	f.Put(secretName, secret(own, f.user, "first", map[string]any{"masterarn": masterName}))
	err = run(t.Context(), f.handler(&postgres.Options{Strategy: postgres.AlternatingUsers}), f.begin(), steps...)
	if err == nil || !strings.Contains(err.Error(), "auth") || errors.Is(err, rotation.ErrRefused) {
		t.Errorf("run = %v, want an error about the way of authentication", err)
	}
	if n, err := own.FailedLogins(f.user + "_master"); n != 0 || err != nil {
		t.Errorf("the superuser has tried to log in: %d, %v", n, err)
	}
}

// A function in a database of the user's does not run as the superuser because it
// is named like one of the server's.
func TestSearchPath(t *testing.T) {
	f := newPair(t, "")
	cfg := server.ConnConfig()
	f.Put(masterName, secret(server, cfg.User, cfg.Password, nil))
	trap := "LANGUAGE sql AS 'SELECT 1/0; SELECT false'"
	admin(t, server, f.database, f.names(
		"CREATE FUNCTION pg_has_role(oid, text) RETURNS bool "+trap,
		"CREATE TABLE pg_roles (rolname text)", "CREATE TABLE pg_auth_members (roleid oid)", "CREATE TABLE pg_shdepend (dbid oid)",
		"ALTER DATABASE $db SET search_path = public, pg_catalog")...)
	if err := f.rotate(f.alternating(nil)); err != nil {
		t.Error(err)
	}
}
