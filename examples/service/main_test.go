//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/examples/internal/testbed"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
	"github.com/keyturn/keyturn/smtest"
)

const (
	password    = "p4ssword-of-app"
	accessKeyID = "ASIASERVICE000000000"
	rotationARN = "arn:aws:lambda:us-east-1:123456789012:function:rotation"
)

var (
	binary   string // of this package, built as it is deployed
	bed      *testbed.Bed
	endpoint string // of bed.SM
	arn      string // of the secret
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "service")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "service")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	if bed, err = testbed.Start(ctx, password); err != nil {
		return 1, err
	}
	defer bed.Stop()
	conn, err := pgx.ConnectConfig(ctx, asApp())
	if err != nil {
		return 1, err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE TABLE visits (name text PRIMARY KEY, n int NOT NULL); ALTER TABLE visits OWNER TO app"); err != nil {
		return 1, err
	}
	secret, err := bed.SM.Client().DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String("prod/db")})
	if err != nil {
		return 1, err
	}
	arn = *secret.ARN
	policy, err := os.ReadFile("policy.json")
	if err != nil {
		return 1, err
	}
	bed.SM.AddCaller(smtest.Caller{
		ARN: "arn:aws:sts::123456789012:assumed-role/service/task", AccessKeyID: accessKeyID, Policies: []string{string(policy)},
	})
	h := rotation.NewHandler(bed.SM.Client(), postgres.NewTarget(nil), nil)
	bed.SM.AddFunction(rotationARN, smtest.Lambda(h.Handle))
	server := httptest.NewServer(bed.SM)
	defer server.Close()
	endpoint = server.URL
	return m.Run(), nil
}

// asApp is the superuser's login to the database of app.
func asApp() *pgx.ConnConfig {
	cfg := bed.PG.ConnConfig()
	cfg.Database = "app"
	return cfg
}

// deployed is the environment of a task, whose role may do what policy.json says. more
// goes before it.
func deployed(more map[string]string) map[string]string {
	env := map[string]string{
		"SECRET_ARN":                       arn,
		"AWS_REGION":                       "us-east-1",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint,
		"AWS_ACCESS_KEY_ID":                accessKeyID,
		"AWS_SECRET_ACCESS_KEY":            "example",
	}
	maps.Copy(env, more)
	return env
}

// value returns the secret's value, and has its password remembered.
func value(t *testing.T) string {
	t.Helper()
	out, err := bed.SM.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(arn)})
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Password string }
	if err := json.Unmarshal([]byte(*out.SecretString), &v); err != nil {
		t.Fatal(err)
	}
	passwords = append(passwords, v.Password)
	return *out.SecretString
}

// passwords are those that there were.
var passwords = []string{password}

// noPassword reports, as an error of t, a text with a password in it.
func noPassword(t *testing.T, what, text string) {
	t.Helper()
	for _, password := range passwords {
		if strings.Contains(text, password) {
			t.Errorf("%s shows a password:\n%s", what, text)
		}
	}
}

// connect opens a connection of the superuser, for as long as the test.
func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), asApp())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// visits returns how many the database has under a name.
func visits(t *testing.T, name string) (n int) {
	t.Helper()
	if err := connect(t).QueryRow(t.Context(), "SELECT coalesce(sum(n), 0) FROM visits WHERE name = $1", name).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Requests under load, with logins all the time, while the password rotates: none
// fails and each is counted once. Each rotation is held up where the server refuses
// what AWSCURRENT is, until the service was refused and has answered more requests.
func TestRotationUnderLoad(t *testing.T) {
	p := start(t, deployed(map[string]string{"DATABASE_DSN": "pool_max_conns=4 pool_max_conn_lifetime=20ms"}))
	name := rand.Text()
	var done, failed atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := p.visit(context.WithoutCancel(t.Context()), name); err != nil {
					failed.Add(1)
					t.Error(err)
				}
				done.Add(1)
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		want := done.Load() + n
		until(t, fmt.Sprintf("%d requests are done", n), func() bool { return done.Load() >= want })
	}
	more(20)
	for range 3 {
		before, err := bed.PG.FailedLogins("app")
		if err != nil {
			t.Fatal(err)
		}
		held, release := make(chan struct{}), make(chan struct{})
		remove := bed.SM.Inject(smtest.Fault{Operation: "UpdateSecretVersionStage", Times: 1, Before: func(context.Context, smtest.Call) {
			close(held)
			<-release
		}})
		if _, err := bed.SM.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
			SecretId: aws.String(arn), RotationLambdaARN: aws.String(rotationARN),
		}); err != nil {
			t.Fatal(err)
		}
		<-held
		until(t, "the server refuses the service's password", func() bool {
			now, err := bed.PG.FailedLogins("app")
			if err != nil {
				t.Error(err)
			}
			return now > before
		})
		more(20)
		close(release)
		if err := bed.SM.Wait(t.Context(), arn); err != nil {
			t.Fatal(err)
		}
		remove()
		value(t) // remembers the password
		more(20)
	}
	close(stop)
	load.Wait()
	if failed.Load() > 0 || int64(visits(t, name)) != done.Load() {
		t.Errorf("of %d requests %d failed; %d were counted", done.Load(), failed.Load(), visits(t, name))
	}
	t.Logf("%d requests", done.Load())
}

// A value that cannot be refreshed because the service is down is healthy, and logins
// go on with it. One that is denied is not, until that is over.
func TestHealth(t *testing.T) {
	p := start(t, deployed(map[string]string{"SECRET_TTL": "100ms", "DATABASE_DSN": "pool_max_conn_lifetime=1ms"}))
	first := p.health(t) // reads the secret, though nobody has visited
	if first.status != http.StatusOK || first.VersionID == "" || first.Age < 0 {
		t.Fatalf("at first the health is %+v", first)
	}
	is := func(status int, state string) {
		t.Helper()
		var h health
		until(t, "the state is "+state, func() bool {
			h = p.health(t)
			if wantStatus := map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusOK}[h.State == "dead"]; h.status != wantStatus {
				t.Fatalf("the health is %+v", h)
			}
			return h.State == state
		})
		if h.status != status || h.VersionID != first.VersionID {
			t.Errorf("the health is %+v, want %d and the version %s", h, status, first.VersionID)
		}
	}
	for range 3 {
		if _, err := p.visit(t.Context(), "health"); err != nil {
			t.Error(err)
		}
	}

	up := bed.SM.Inject(smtest.Fault{Err: smtest.InternalServiceError})
	is(http.StatusOK, "failing")
	until(t, "the value is a second old", func() bool { return p.health(t).Age >= 1 })
	is(http.StatusOK, "failing")
	for range 3 {
		if _, err := p.visit(t.Context(), "health"); err != nil {
			t.Error(err)
		}
	}
	up()

	allowed := bed.SM.Inject(smtest.Fault{Err: smtest.AccessDenied})
	is(http.StatusServiceUnavailable, "dead")
	allowed()
	is(http.StatusOK, "fresh")
}

// After SIGTERM nobody is accepted, who was is answered, and the process ends well.
func TestShutdown(t *testing.T) {
	p := start(t, deployed(map[string]string{"DATABASE_DSN": "pool_max_conns=4"}))
	tx, err := connect(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE visits IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	name := rand.Text()
	watch := connect(t)          // a transaction sees the statistics of its beginning
	const requests, conns = 6, 4 // some of them wait for a connection
	answers := make(chan error, requests)
	for range requests {
		go func() {
			_, err := p.visit(t.Context(), name)
			answers <- err
		}()
	}
	until(t, "the requests are in the database", func() bool {
		var waiting int
		if err := watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting == conns
	})
	p.terminate(t)
	until(t, "the service accepts nobody", func() bool { return p.refuses(t) })
	select {
	case <-p.gone:
		t.Fatal("the service has ended with requests to answer")
	case err := <-answers:
		t.Fatalf("a request is answered while the table is locked: %v", err)
	default:
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range requests {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if err := p.wait(t); err != nil {
		t.Errorf("the service ended with %v", err)
	}
	if got := visits(t, name); got != requests {
		t.Errorf("%d visits are counted, want %d", got, requests)
	}
}

// Without AWS: nothing is called, and no credentials are there.
func TestStatic(t *testing.T) {
	text := value(t)
	file := filepath.Join(t.TempDir(), "db.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bed.SM.ResetCalls()
	for variable, setting := range map[string]string{"SECRET_FILE": file, "SECRET_JSON": text} {
		t.Run(variable, func(t *testing.T) {
			p := start(t, map[string]string{variable: setting, "AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint})
			if n, err := p.visit(t.Context(), rand.Text()); err != nil || n != 1 {
				t.Errorf("visit %d: %v", n, err)
			}
			if h := p.health(t); h.status != http.StatusOK || h.State != "fresh" || h.VersionID != "static" {
				t.Errorf("the health is %+v", h)
			}
		})
	}
	if calls := bed.SM.Calls(); len(calls) > 0 {
		t.Errorf("calls: %+v", calls)
	}
}

// What is not set, or set twice, is told.
func TestNoSecret(t *testing.T) {
	for _, env := range [][]string{nil, {"SECRET_ARN=" + arn, "SECRET_JSON={}"}, {"SECRET_FILE=x", "SECRET_JSON={}"}} {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append([]string{"ADDR=127.0.0.1:0"}, env...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "set SECRET_ARN") {
			t.Errorf("with %q: %v, %s", env, err, out)
		}
	}
}
