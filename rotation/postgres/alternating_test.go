package postgres_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

const masterName = "prod/master"

// admin runs statements as superuser in a database.
func admin(t *testing.T, srv *pgserver.Server, database string, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := adminIn(t, srv, database, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func adminIn(t *testing.T, srv *pgserver.Server, database, sql string) (pgconn.CommandTag, error) {
	t.Helper()
	cfg := srv.ConnConfig()
	cfg.Database = database
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	return conn.Exec(t.Context(), sql)
}

func ask[T any](t *testing.T, srv *pgserver.Server, database, sql string, args ...any) T {
	t.Helper()
	cfg := srv.ConnConfig()
	cfg.Database = database
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// master makes a superuser as Amazon RDS has it, which is none: it may create
// roles, and from PostgreSQL 16 on has ADMIN OPTION for those that it is to
// change. It returns the value of its secret as RDS writes it, without a host.
func master(t *testing.T, srv *pgserver.Server, base string) string {
	t.Helper()
	name := base + "_master"
	// Not through CreateUser, which makes a database too.
	admin(t, srv, "postgres", "SET log_statement = 'none'; SET log_min_duration_statement = -1; CREATE ROLE "+quoted(name)+
		" LOGIN CREATEROLE CREATEDB PASSWORD 'master''s password'")
	if ask[int](t, srv, "postgres", "SELECT current_setting('server_version_num')::int") >= 160000 {
		admin(t, srv, "postgres", "GRANT "+quoted(base)+" TO "+quoted(name)+" WITH ADMIN OPTION")
	}
	return masterValue(base)
}

func masterValue(base string) string {
	return fmt.Sprintf(`{"username":%q,"password":"master's password"}`, base+"_master")
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// newPair is a fixture for alternating users.
func newPair(t *testing.T, name string) *fixture {
	t.Helper()
	f := newFixture(t, name, "first")
	f.Put(masterName, master(t, server, f.user))
	f.Put(secretName, secret(server, f.user, "first", map[string]any{"masterarn": masterName}))
	return f
}

func (f *fixture) alternating(opts *postgres.Options) *rotation.Handler {
	var o postgres.Options
	if opts != nil {
		o = *opts
	}
	o.Strategy = postgres.AlternatingUsers
	return f.handler(&o)
}

// value returns the value of a label.
func (f *fixture) value(stage string) (v struct{ Username, Password string }) {
	f.t.Helper()
	if text := f.text(stage); text != "" {
		if err := rotation.NewValue(text).Decode(&v); err != nil {
			f.t.Fatal(err)
		}
	}
	return v
}

// as runs statements as the user of a label, and returns the first error.
func (f *fixture) as(stage string, statements ...string) error {
	f.t.Helper()
	v := f.value(stage)
	return as(f.t, server, f.database, v.Username, v.Password, statements...)
}

func as(t *testing.T, srv *pgserver.Server, database, user, password string, statements ...string) error {
	t.Helper()
	cfg := srv.ConnConfig()
	cfg.User, cfg.Password, cfg.Database = user, password, database
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// Users take turns, the one before goes on working, and whoever creates something
// does so for both.
func TestAlternating(t *testing.T) {
	for _, superuser := range []bool{false, true} {
		t.Run(map[bool]string{false: "CREATEROLE", true: "superuser"}[superuser], func(t *testing.T) {
			f := newPair(t, "it's \"me\" ")
			if superuser {
				cfg := server.ConnConfig()
				f.Put(masterName, secret(server, cfg.User, cfg.Password, nil))
			}
			h := f.alternating(nil)
			base := f.user
			for i := range 4 {
				before := f.value("AWSCURRENT")
				if err := f.rotate(h); err != nil {
					t.Fatal(err)
				}
				now := f.value("AWSCURRENT")
				want := base + "_clone"
				if i%2 == 1 {
					want = base
				}
				if now.Username != want || now.Password == before.Password {
					t.Fatalf("rotation %d: AWSCURRENT is of %q, want %q with another password", i+1, now.Username, want)
				}
				if got := f.value("AWSPREVIOUS"); got != before {
					t.Errorf("rotation %d: AWSPREVIOUS is not what AWSCURRENT was", i+1)
				}
				table := fmt.Sprint("made_in_", i)
				for _, stage := range []string{"AWSCURRENT", "AWSPREVIOUS"} {
					if err := f.as(stage, "CREATE TABLE IF NOT EXISTS "+table+" (x int)", "ALTER TABLE "+table+" ADD COLUMN "+stage+" int",
						"INSERT INTO "+table+" VALUES (1)", "CREATE TEMP TABLE mine (x int)"); err != nil {
						t.Errorf("rotation %d: %s: %v", i+1, stage, err)
					}
				}
				if got := ask[string](t, server, f.database, "SELECT tableowner FROM pg_tables WHERE tablename = $1", table); got != base {
					t.Errorf("rotation %d: the new table is %q's", i+1, got)
				}
			}
			if n := ask[int](t, server, f.database, "SELECT count(*) FROM pg_shdepend WHERE refobjid = $1::regrole", quoted(base+"_clone")); n != 0 {
				t.Errorf("the clone owns something, or was given something of its own: %d objects", n)
			}
		})
	}
}
