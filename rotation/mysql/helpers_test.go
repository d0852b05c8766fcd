package mysql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	driver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
	"github.com/keyturn/keyturn/smtest"
)

// The servers are shared by the tests; each has users of its own. They log all
// there is to log.
var mariadb, mysqld *mysqlserver.Server

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	var wg sync.WaitGroup
	var failed [2]error
	settings := map[string]string{
		"general_log": "ON", "general_log_file": "general.log", "log_bin": "binlog", "sync_binlog": "0", "server_id": "1",
		"slow_query_log": "ON", "slow_query_log_file": "slow.log", "long_query_time": "0",
	}
	mysqlSettings := maps.Clone(settings)
	mysqlSettings["caching_sha2_password_digest_rounds"] = "5000" // the least, which is also the quickest
	wg.Go(func() {
		mariadb, failed[0] = mysqlserver.Start(context.Background(), &mysqlserver.Options{Kind: mysqlserver.MariaDB, Settings: settings})
	})
	wg.Go(func() {
		mysqld, failed[1] = mysqlserver.Start(context.Background(), &mysqlserver.Options{Kind: mysqlserver.MySQL, Settings: mysqlSettings})
	})
	wg.Wait()
	defer func() {
		for _, srv := range []*mysqlserver.Server{mariadb, mysqld} {
			if srv != nil {
				err = errors.Join(err, srv.Stop())
			}
		}
	}()
	if err := errors.Join(failed[:]...); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func eachServer(t *testing.T, f func(*testing.T, *mysqlserver.Server)) {
	t.Helper()
	for _, srv := range []*mysqlserver.Server{mariadb, mysqld} {
		t.Run(string(srv.Kind()), func(t *testing.T) { f(t, srv) })
	}
}

// way is a way to rotate.
type way struct {
	name     string
	strategy mysql.Strategy
	bare     bool // the user has no privilege to keep its old password
}

var ways = []way{
	{"single", mysql.SingleUser, false},
	{"single, bare", mysql.SingleUser, true},
	{"by superuser", mysql.SingleUserBySuperuser, true},
	{"alternating", mysql.AlternatingUsers, true},
}

func eachWay(t *testing.T, f func(*testing.T, *mysqlserver.Server, way)) {
	t.Helper()
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		for _, w := range ways {
			t.Run(w.name, func(t *testing.T) { f(t, srv, w) })
		}
	})
}

const (
	secretName = "prod/db"
	superName  = "prod/superuser"
	functionID = "arn:aws:lambda:us-east-1:123456789012:function:rotate"
)

var (
	steps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}
	users atomic.Int64
)

// fixture is a user of a server, and the secret that has its password.
type fixture struct {
	*smtest.Server

	t      *testing.T
	client *secretsmanager.Client
	server *mysqlserver.Server
	way    way
	user   string // the first one, if users alternate
	host   string
	super  string
}

// newName returns a name that no test has had, also with -count.
func newName(name string) string {
	if name == "" {
		name = "user"
	}
	return fmt.Sprintf("%s%d", name, users.Add(1))
}

func secret(srv *mysqlserver.Server, user, password string, more map[string]any) string {
	m := map[string]any{
		"host": srv.Host(), "port": srv.Port(), "username": user, "password": password, "engine": strings.ToLower(string(srv.Kind())),
	}
	for k, v := range more {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// newFixture makes a user with some rights, and a superuser.
func newFixture(t *testing.T, srv *mysqlserver.Server, w way, name, password string) *fixture {
	t.Helper()
	name = newName(name)
	sm := smtest.New(nil)
	t.Cleanup(sm.Close)
	f := &fixture{Server: sm, t: t, client: sm.Client(), server: srv, way: w, user: name, host: "%"}
	f.admin("CREATE USER ?@'%' IDENTIFIED BY ?", name, password)
	f.admin("CREATE DATABASE `" + f.database() + "`")
	f.admin("CREATE TABLE `" + f.database() + "`.t (a INT, b INT)")
	f.admin("GRANT SELECT, INSERT ON `"+f.database()+"`.* TO ?@'%'", name)
	if !w.bare {
		privilege := "APPLICATION_PASSWORD_ADMIN"
		if srv.Kind() == mysqlserver.MariaDB {
			privilege = "CREATE USER"
		}
		f.admin("GRANT "+privilege+" ON *.* TO ?@'%'", name)
	}
	f.Put(secretName, f.secret(name, password))
	f.newSuperuser()
	return f
}

// database is one of the user's.
func (f *fixture) database() string {
	return "db of " + strings.NewReplacer("`", "", `\`, "").Replace(f.user)
}

// secret has the database in it, which the user must be able to use.
func (f *fixture) secret(user, password string) string {
	return secret(f.server, user, password, map[string]any{"dbname": f.database()})
}

// newSuperuser makes a superuser with what the package's documentation says that
// it needs, and its secret.
func (f *fixture) newSuperuser() {
	f.t.Helper()
	super := newName("super")
	f.super = super
	f.admin("CREATE USER ?@'%' IDENTIFIED BY 'super-4711'", super)
	// As the master user of Amazon RDS has them: all but those of the machine.
	f.admin("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, "+
		"CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER "+
		"ON *.* TO ?@'%' WITH GRANT OPTION", super)
	further := "DELETE HISTORY"
	if f.server.Kind() == mysqlserver.MySQL {
		further = "ROLE_ADMIN, CONNECTION_ADMIN, APPLICATION_PASSWORD_ADMIN"
	}
	f.admin("GRANT "+further+" ON *.* TO ?@'%' WITH GRANT OPTION", super)
	f.Put(superName, secret(f.server, super, "super-4711", nil))
}

// admin executes a statement as an administrator.
func (f *fixture) admin(statement string, args ...any) {
	f.t.Helper()
	admin(f.t, f.server, statement, args...)
}

func admin(t *testing.T, srv *mysqlserver.Server, statement string, args ...any) {
	t.Helper()
	if _, err := srv.Admin().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (f *fixture) options() *mysql.Options {
	return &mysql.Options{Strategy: f.way.strategy, Superuser: superName}
}

func (f *fixture) handler(opts *mysql.Options) *rotation.Handler {
	if opts == nil {
		opts = f.options()
	}
	return rotation.NewHandler(f.client, mysql.NewTarget(opts), nil)
}

// rotate runs a whole rotation through the service.
func (f *fixture) rotate(h *rotation.Handler) error {
	f.t.Helper()
	f.AddFunction(functionID, smtest.Lambda(h.Handle))
	_, err := f.client.RotateSecret(f.t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.Wait(f.t.Context(), secretName)
}

// begin starts a rotation whose steps are left to the test.
func (f *fixture) begin() (token string) {
	f.t.Helper()
	f.AddFunction(functionID, func(context.Context, []byte) error { return errors.New("not delivered") })
	out, err := f.client.RotateSecret(f.t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String(secretName), RotationLambdaARN: aws.String(functionID),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.Wait(f.t.Context(), secretName); err == nil {
		f.t.Fatal("the rotation that stops before its first step has succeeded")
	}
	return *out.VersionId
}

func run(ctx context.Context, h *rotation.Handler, token string, steps ...string) error {
	for _, step := range steps {
		err := h.Handle(ctx, rotation.Event{Step: step, SecretID: secretName, ClientRequestToken: token})
		if err != nil {
			return err
		}
	}
	return nil
}

// login is what a version has.
type login struct{ Username, Password string }

// version returns what a label has, nothing if there is none.
func (f *fixture) version(stage string) (l login) {
	f.t.Helper()
	out, err := f.client.GetSecretValue(f.t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(secretName), VersionStage: aws.String(stage),
	})
	if err != nil {
		return login{}
	}
	if err := json.Unmarshal([]byte(*out.SecretString), &l); err != nil {
		f.t.Fatal(err)
	}
	return l
}

// value returns the value that a label has.
func (f *fixture) value(stage string) *rotation.Value {
	f.t.Helper()
	return f.read(&secretsmanager.GetSecretValueInput{SecretId: aws.String(secretName), VersionStage: aws.String(stage)})
}

// superuser returns the superuser's value.
func (f *fixture) superuser() *rotation.Value {
	f.t.Helper()
	return f.read(&secretsmanager.GetSecretValueInput{SecretId: aws.String(superName)})
}

func (f *fixture) read(in *secretsmanager.GetSecretValueInput) *rotation.Value {
	f.t.Helper()
	out, err := f.client.GetSecretValue(f.t.Context(), in)
	if err != nil {
		f.t.Fatal(err)
	}
	return rotation.NewValue(*out.SecretString)
}

// open logs in. It does not go through what is tested.
func open(ctx context.Context, srv *mysqlserver.Server, l login) (*sql.DB, error) {
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(srv.Host(), strconv.Itoa(srv.Port()))
	cfg.User, cfg.Passwd = l.Username, l.Password
	cfg.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// logsIn reports whether the server takes the credential.
func (f *fixture) logsIn(l login) bool {
	f.t.Helper()
	db, err := open(f.t.Context(), f.server, l)
	if refusal, ok := errors.AsType[*driver.MySQLError](err); ok && refusal.Number == 1045 {
		return false
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		f.t.Error(err)
	}
	return true
}

// keepsOld reports whether AWSCURRENT goes on working until the rotation is over.
func (f *fixture) keepsOld() bool { return f.way.strategy != mysql.SingleUser || !f.way.bare }

// checkRotated checks that a rotation has ended well.
func (f *fixture) checkRotated(before login) {
	f.t.Helper()
	now := f.version("AWSCURRENT")
	if now.Password == before.Password {
		f.t.Error("AWSCURRENT has the old password")
	}
	if !f.logsIn(now) {
		f.t.Error("the server refuses AWSCURRENT")
	}
	if alternating := f.way.strategy == mysql.AlternatingUsers; f.logsIn(before) != alternating {
		f.t.Errorf("the server accepts the old credential: %t, want %t", !alternating, alternating)
	}
	f.checkUsers()
}

// partner is the second of alternating users.
func (f *fixture) partner() string { return f.user + "_clone" }

// grants returns what SHOW GRANTS says of a user, and on MySQL SHOW CREATE USER,
// with another name in the place of its own, without its password and what marks
// it.
func (f *fixture) grants(user string) []string {
	f.t.Helper()
	conn, err := f.server.Admin().Conn(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	quoted := func(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
	id := quoted(user) + "@" + quoted(f.host)
	all := f.rows(conn, "SHOW GRANTS FOR "+id)
	if f.server.Kind() == mysqlserver.MySQL {
		if _, err := conn.ExecContext(f.t.Context(), "SET SESSION print_identified_with_as_hex = 1"); err != nil {
			f.t.Fatal(err)
		}
		all = append(all, f.rows(conn, "SHOW CREATE USER "+id)...)
	}
	all = slices.DeleteFunc(all, func(row string) bool { return strings.Contains(row, "`keyturn partner of ") })
	for i, row := range all {
		all[i] = strings.ReplaceAll(identified.ReplaceAllString(row, ""), quoted(user)+"@", "USER@")
	}
	// A default role that is not granted any more: MariaDB keeps it.
	all = slices.DeleteFunc(all, func(row string) bool {
		role, ok := strings.CutPrefix(row, "SET DEFAULT ROLE ")
		role, _, _ = strings.Cut(role, " FOR USER@")
		return ok && !slices.ContainsFunc(all, func(row string) bool { return strings.HasPrefix(row, "GRANT "+role+" TO ") })
	})
	slices.Sort(all)
	return all
}

func (f *fixture) rows(conn *sql.Conn, query string) (all []string) {
	f.t.Helper()
	rows, err := conn.QueryContext(f.t.Context(), query)
	if err != nil {
		f.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			f.t.Fatal(err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		f.t.Fatal(err)
	}
	return all
}

// identified is what MariaDB says of passwords between a user and its rights, and
// what MySQL says of them, and of the partner's record.
var identified = regexp.MustCompile(` AS (0x[0-9A-F]+|'(\\.|[^'\\])*')| ATTRIBUTE '\{"keyturn_partner_of": .*'$| (IDENTIFIED BY PASSWORD|IDENTIFIED VIA mysql_native_password USING|OR mysql_native_password USING) '[^']*'`)

// checkUsers checks that alternating users may do the same.
func (f *fixture) checkUsers() {
	f.t.Helper()
	if f.way.strategy != mysql.AlternatingUsers {
		return
	}
	if one, other := f.grants(f.user), f.grants(f.partner()); !slices.Equal(one, other) {
		f.t.Errorf("%s may\n\t%s\nand %s may\n\t%s", f.user, strings.Join(one, "\n\t"), f.partner(), strings.Join(other, "\n\t"))
	}
}

// dataFile returns what is in files of the server's data folder.
func dataFile(t *testing.T, srv *mysqlserver.Server, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(srv.Dir(), "data", pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	var all strings.Builder
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
