//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is the service, running.
type process struct {
	url    string
	output output
	cmd    *exec.Cmd
	gone   chan struct{} // closed when it has ended
	err    error         // how, after that
}

var listening = regexp.MustCompile(`listening addr=(\S+)`)

// start starts the service with this environment and none of ours, and waits until it
// listens. Whatever it writes until the end of the test must show no password.
func start(t *testing.T, env map[string]string) *process {
	t.Helper()
	p := &process{gone: make(chan struct{})}
	p.cmd = exec.Command(binary) //nolint:noctx // It is ended below, or by the test.
	p.cmd.Env = []string{"ADDR=127.0.0.1:0", "AWS_EC2_METADATA_DISABLED=true", "PATH=" + os.Getenv("PATH")}
	for name, value := range env {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // an error: it has ended
		<-p.gone
		noPassword(t, "the output", p.output.String())
		if t.Failed() {
			t.Logf("the service wrote:\n%s", p.output.String())
		}
	})
	until(t, "the service listens", func() bool {
		select {
		case <-p.gone:
			t.Fatalf("the service has ended: %v\n%s", p.err, p.output.String())
		default:
		}
		found := listening.FindStringSubmatch(p.output.String())
		if found == nil {
			return false
		}
		p.url = "http://" + found[1]
		return true
	})
	return p
}

// terminate sends SIGTERM, as ECS and Kubernetes do.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the end of the process.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.gone:
		return p.err
	case <-time.After(patience):
		t.Fatal("the service does not end")
		return nil
	}
}

// refuses reports whether nobody listens there any more.
func (p *process) refuses(t *testing.T) bool {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		return true
	}
	_ = conn.Close()
	return false
}

// visit has a visit counted and returns how many there were.
func (p *process) visit(ctx context.Context, name string) (n int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/visits/"+name, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("visit: %s, %q", resp.Status, body)
	}
	_, err = fmt.Sscan(string(body), &n)
	return n, err
}

// A health is what /healthz answers.
type health struct {
	status    int
	State     string `json:"state"`
	VersionID string `json:"version_id"`
	Age       int    `json:"age_seconds"`
}

func (p *process) health(t *testing.T) health {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	noPassword(t, "/healthz", string(body))
	h := health{status: resp.StatusCode}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&h); err != nil {
		t.Fatalf("/healthz answers %q: %v", body, err)
	}
	return h
}

// patience is after how long a test that waits is given up.
const patience = 90 * time.Second

// until waits until the condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	enough := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-enough:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// output is what a process has written.
type output struct {
	mu   sync.Mutex
	text strings.Builder // protected by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
