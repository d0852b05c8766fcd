//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/examples/internal/lambdaapi"
	"github.com/keyturn/keyturn/examples/internal/testbed"
	"github.com/keyturn/keyturn/smtest"
)

const (
	password    = "p4ssword-of-app"
	accessKeyID = "ASIAFUNCTION00000000"
	read        = "GetSecretValue"
)

var (
	binary   string // of this package, built as it is deployed
	bed      *testbed.Bed
	endpoint string // of bed.SM
	arn      string // of the secret
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "lambda")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "bootstrap")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	if bed, err = testbed.Start(ctx, password); err != nil {
		return 1, err
	}
	defer bed.Stop()
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
		ARN:         "arn:aws:sts::123456789012:assumed-role/function/function",
		AccessKeyID: accessKeyID,
		Policies:    []string{string(policy)},
	})
	server := httptest.NewServer(bed.SM)
	defer server.Close()
	endpoint = server.URL
	return m.Run(), nil
}

// start starts an environment, whose role may do what policy.json says.
func start(t *testing.T) *lambdaapi.Function {
	t.Helper()
	bed.SM.ResetCalls()
	f, err := lambdaapi.Start(t.Context(), &lambdaapi.Options{Binary: binary, Env: map[string]string{
		"DATABASE_SECRET":                  arn,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint,
		"AWS_ACCESS_KEY_ID":                accessKeyID,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Stop()
		if strings.Contains(f.Log(), password) {
			t.Errorf("the function's output shows the password:\n%s", f.Log())
		}
	})
	return f
}

func invoke(t *testing.T, f *lambdaapi.Function) {
	t.Helper()
	got, err := f.Invoke(t.Context(), []byte(`{"Name":"Ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"Greeting":"Hello Ada, this is app"}`; string(got) != want {
		t.Fatalf("the function answered %s, want %s", got, want)
	}
}

// calls reports, as an error of t, another number of calls than want, or one that
// is none of GetSecretValue.
func calls(t *testing.T, want int) {
	t.Helper()
	if got := bed.SM.Count(read); got != want || bed.SM.Count("") != want {
		t.Errorf("%d calls of %s, and %d in all; want %d", got, read, bed.SM.Count(""), want)
	}
}

// backends returns the process numbers of the server's connections for the
// function's user.
func backends(t *testing.T) []int32 {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), bed.PG.ConnConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), "SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY pid")
	if err != nil {
		t.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// A cold start reads the secret once, with one permission, and opens one
// connection. That serves a thousand more invocations.
func TestColdStart(t *testing.T) {
	f := start(t)
	calls(t, 0) // before anybody needs it
	if got := backends(t); len(got) != 0 {
		t.Errorf("%d connections before the first invocation", len(got))
	}
	invoke(t, f)
	calls(t, 1)
	first := backends(t)
	for range 1000 {
		invoke(t, f)
	}
	calls(t, 1)
	if got := backends(t); len(first) != 1 || !slices.Equal(got, first) {
		t.Errorf("the server's processes for the function are %v, after the cold start %v", got, first)
	}
}

// Between two invocations nothing of Keyturn is there that could run: the process
// itself says so, when it is made to list its goroutines. That shows no timers
// that would start one; of those there is none that outlives a call. That they are
// found is seen in the middle of an invocation.
func TestNothingRunsBetweenInvocations(t *testing.T) {
	t.Run("between", func(t *testing.T) {
		f := start(t)
		for range 3 {
			invoke(t, f)
		}
		stacks, err := f.Goroutines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ours := ours(stacks); len(ours) > 0 {
			t.Errorf("goroutines of Keyturn:\n%s", strings.Join(ours, "\n\n"))
		}
		if !slices.ContainsFunc(stacks, func(stack string) bool { return strings.Contains(stack, "\nmain.main()") }) {
			t.Errorf("not even main is found among:\n%s", strings.Join(stacks, "\n\n"))
		}
		for _, stack := range stacks {
			// Those of net/http and of database/sql wait for a socket or for work. A
			// pool that closes what was idle would have one that waits for a timer.
			if strings.Contains(stack, "connectionCleaner") || strings.Contains(stack, "[sleep") {
				t.Errorf("a goroutine waits for a timer:\n%s", stack)
			}
		}
		calls(t, 1)
	})
	t.Run("during", func(t *testing.T) {
		f := start(t)
		arrived := make(chan struct{})
		remove := bed.SM.Inject(smtest.Fault{Operation: read, Times: 1, Before: func(ctx context.Context, _ smtest.Call) {
			close(arrived)
			<-ctx.Done()
		}})
		defer remove()
		invoked := make(chan error, 1)
		go func() {
			_, err := f.Invoke(t.Context(), []byte(`{}`))
			invoked <- err
		}()
		<-arrived
		stacks, err := f.Goroutines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := <-invoked; err == nil {
			t.Error("a function that was ended has answered")
		}
		if len(ours(stacks)) < 2 { // who asks for the secret, and who waits for it
			t.Errorf("the goroutines of Keyturn are not found among:\n%s", strings.Join(stacks, "\n\n"))
		}
	})
}

// ours returns the stacks with functions of Keyturn, be it as who started them, and
// those that the program itself has started. The lines that begin with a tab have
// paths, which say nothing.
func ours(stacks []string) []string {
	return slices.DeleteFunc(slices.Clone(stacks), func(stack string) bool {
		for line := range strings.Lines(stack) {
			if strings.HasPrefix(line, "\t") {
				continue
			}
			if strings.Contains(line, "github.com/keyturn/keyturn/") || strings.HasPrefix(line, "created by main.") {
				return false
			}
		}
		return true
	})
}

// A frozen environment keeps its sockets. The clocks of this machine go on while a
// process is stopped, so that a value older than the freeze is read again is the
// cache's own test: TestServerlessFreeze.
func TestFreeze(t *testing.T) {
	f := start(t)
	invoke(t, f)
	before := backends(t)
	for range 3 {
		freeze(t, f)
		invoke(t, f)
	}
	if got := backends(t); len(before) != 1 || !slices.Equal(got, before) {
		t.Errorf("the server's processes for the function are %v, before the freeze %v", got, before)
	}
	calls(t, 1)
}

// A connection that the server has closed in the meantime is not the invocation's
// trouble: neither an error, nor a call.
func TestConnectionLostInFreeze(t *testing.T) {
	f := start(t)
	for range 3 { // pgx looks at a connection by itself when it is used for the second time
		invoke(t, f)
	}
	before := backends(t)
	freeze(t, f)
	conn, err := pgx.ConnectConfig(t.Context(), bed.PG.ConnConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'app'"); err != nil {
		t.Fatal(err)
	}
	invoke(t, f)
	if got := backends(t); len(got) != 1 || slices.Equal(got, before) {
		t.Errorf("the server's processes for the function are %v, before the freeze %v", got, before)
	}
	calls(t, 1)
}

// A password that changed in a freeze, of which the cache has not heard, and a
// connection that is lost: the invocation logs in with the new one.
func TestRotationInFreeze(t *testing.T) {
	f := start(t)
	invoke(t, f)
	freeze(t, f)
	next := rand.Text()
	if err := bed.OpenWindow(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if err := bed.CloseWindow(t.Context()); err != nil {
		t.Fatal(err)
	}
	bed.PG.Interrupt()
	if err := bed.PG.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	bed.SM.ResetCalls()
	invoke(t, f)
	calls(t, 1) // of the value that the server has refused
	if strings.Contains(f.Log(), next) {
		t.Errorf("the function's output shows the password:\n%s", f.Log())
	}
}

// freeze returns when the process stands still.
func freeze(t *testing.T, f *lambdaapi.Function) {
	t.Helper()
	if err := f.Freeze(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		out, err := exec.CommandContext(t.Context(), "ps", "-o", "stat=", "-p", fmt.Sprint(f.PID())).Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(strings.TrimSpace(string(out)), "T") {
			return
		}
		<-tick.C
	}
}

// Without its permission the function says which one it lacks.
func TestDenied(t *testing.T) {
	bed.SM.AddCaller(smtest.Caller{
		ARN: "arn:aws:sts::123456789012:assumed-role/other/function", AccessKeyID: "ASIAOTHER00000000000",
		Policies: []string{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"secretsmanager:DescribeSecret","Resource":"*"}}`},
	})
	f, err := lambdaapi.Start(t.Context(), &lambdaapi.Options{Binary: binary, Env: map[string]string{
		"DATABASE_SECRET":                  arn,
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": endpoint,
		"AWS_ACCESS_KEY_ID":                "ASIAOTHER00000000000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	_, err = f.Invoke(t.Context(), []byte(`{}`))
	if err == nil || !strings.Contains(err.Error(), "secretsmanager:GetSecretValue") || !strings.Contains(err.Error(), arn) {
		t.Errorf("Invoke: %v; want the action and the ARN", err)
	}
}

// The page shows the program and its policy as they are compiled and run here.
func TestPageShowsTheExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/lambda.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := os.ReadFile("policy.json")
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(policy) {
		t.Error("policy.json is no JSON")
	}
	if !strings.Contains(string(page), string(policy)) {
		t.Error("docs/lambda.md does not show policy.json")
	}
	// The code of the page has no comments: the page itself says why.
	var code strings.Builder
	for line := range strings.Lines(string(source)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "//") {
			code.WriteString(line)
		}
	}
	_, body, ok := strings.Cut(code.String(), "func main() {")
	if !ok || !strings.Contains(string(page), "func main() {"+body) {
		t.Errorf("docs/lambda.md does not show the program:\nfunc main() {%s", body)
	}
}
