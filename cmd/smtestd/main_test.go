package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	main "github.com/keyturn/keyturn/cmd/smtestd"
)

const asProgram = "SMTESTD_TEST_AS_PROGRAM"

// TestMain makes the test binary smtestd itself where a test starts it as that.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	go func() {
		// The test holds the other end: no server outlives it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	main.Main()
}

// A daemon is smtestd in a process of its own.
type daemon struct {
	t      testing.TB
	url    string
	cmd    *exec.Cmd
	stdout output
	stderr output
	ended  chan struct{}
}

// output keeps what a process writes.
type output struct {
	mu sync.Mutex // protects b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// launch starts smtestd on a free port and returns when it can be reached. It is
// killed at the end of the test.
func launch(t testing.TB, args ...string) *daemon {
	t.Helper()
	return launchAs(t, os.Args[0], append([]string{"-listen", "127.0.0.1:0"}, args...)...)
}

// launchLimited is launch with files that may not grow beyond some KiB.
func launchLimited(t testing.TB, kib int, args ...string) *daemon {
	t.Helper()
	script := fmt.Sprintf(`ulimit -f %d && exec "$0" "$@"`, kib*2) // POSIX: in blocks of 512 bytes.
	return launchAs(t, "/bin/sh", append([]string{"-c", script, os.Args[0], "-listen", "127.0.0.1:0"}, args...)...)
}

func launchAs(t testing.TB, program string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, ended: make(chan struct{})}
	d.cmd = exec.Command(program, args...)
	d.cmd.Env = append(os.Environ(), asProgram+"=1")
	d.cmd.Stderr = &d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := d.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		d.kill()
	})
	lines := bufio.NewReader(io.TeeReader(out, &d.stdout))
	line, err := lines.ReadString('\n')
	if err != nil {
		_ = d.cmd.Wait()
		close(d.ended)
		t.Fatalf("smtestd %q did not start: %v\n%s", args, err, d.stderr.String())
	}
	d.url = strings.TrimSpace(strings.TrimPrefix(line, "AWS_ENDPOINT_URL_SECRETS_MANAGER="))
	go func() {
		defer close(d.ended)
		_, _ = io.Copy(io.Discard, lines)
		_ = d.cmd.Wait()
	}()
	return d
}

// kill is kill -9. It returns when the process has ended.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// terminate is SIGTERM. It returns the exit status.
func (d *daemon) terminate() int {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Error(err)
	}
	return d.wait()
}

func (d *daemon) wait() int {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(time.Minute):
		d.t.Fatalf("smtestd does not end:\n%s", d.stderr.String())
	}
	return d.cmd.ProcessState.ExitCode()
}

func (d *daemon) client(opts ...func(*sm.Options)) *sm.Client { return client(d.url, opts...) }

// client returns the SDK's client. It retries, at once, but not what the service
// says: the SDK reads an answer that comes at once as "use of closed network
// connection" now and then (https://github.com/aws/aws-sdk-go-v2/issues/2737).
func client(url string, opts ...func(*sm.Options)) *sm.Client {
	return sm.New(sm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(url), Credentials: keys("AKIASMTESTDTESTS"),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxBackoff = time.Millisecond
			o.Retryables = []retry.IsErrorRetryable{retry.RetryableConnectionError{}}
		}),
	}, opts...)
}

func keys(id string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: "x"}, nil
	})
}

// program runs smtestd to its end in this process, and returns its exit status and
// output. A server that was not to start is ended.
func program(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out, errs output
	status = main.Run(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

func read(t *testing.T, c *sm.Client, id string) string {
	t.Helper()
	out, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: &id})
	if err != nil {
		t.Fatal(err)
	}
	if out.SecretString == nil {
		return string(out.SecretBinary)
	}
	return *out.SecretString
}
