package main_test

import (
	"flag"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	main "github.com/keyturn/keyturn/cmd/smtestd"
)

func TestUsage(t *testing.T) {
	status, stdout, stderr := program(t, "-h")
	if status != 0 || stdout != main.Usage || stderr != "" {
		t.Errorf("-h: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if len(lines) > 23 { // One of 24 is for the prompt.
		t.Errorf("the usage has %d lines", len(lines))
	}
	for _, line := range lines {
		if len(line) > 79 {
			t.Errorf("a line of %d: %s", len(line), line)
		}
	}
	main.Flags().VisitAll(func(f *flag.Flag) {
		if !regexp.MustCompile(`(?m)^  -` + f.Name + ` `).MatchString(stdout) {
			t.Errorf("the usage does not say what -%s is", f.Name)
		}
	})
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-nosuch"}, 2, "flag provided but not defined: -nosuch"},
		{[]string{"start"}, 2, `unexpected argument "start"`},
		{[]string{"-region", "Frankfurt"}, 2, "it is not a Region such as eu-west-1"},
		{[]string{"-account", "1"}, 2, "it is not an account id of 12 digits"},
		{[]string{"-access-key", "AKIA=111122223333"}, 2, "an access key id has 16 to 128 letters and digits"},
		{[]string{"-access-key", "AKIAIOSFODNN7EXAMPLE"}, 2, "after the = is neither an account id"},
		{[]string{"-access-key", "AKIAIOSFODNN7EXAMPLE=arn:aws:iam::1:root"}, 2, "after the = is neither an account id"},
		{[]string{"-rotation-function", "http://127.0.0.1"}, 2, "it is not ARN=URL"},
		{[]string{"-rotation-function", "arn:aws:lambda:us-east-1:123456789012:function:f=127.0.0.1:80"}, 2, "no http or https URL"},
		{[]string{"-listen", "4566"}, 1, "-listen 4566: it is not HOST:PORT"},
		{[]string{"-listen", "nosuch.invalid:1"}, 1, "nosuch.invalid"},
		{[]string{"-listen", ":0"}, 1, "add -allow-remote"},
		{[]string{"-listen", "0.0.0.0:0"}, 1, "add -allow-remote"},
		{[]string{"-listen", "[::]:0"}, 1, "add -allow-remote"},
		{[]string{"-listen", "[::ffff:0.0.0.0]:0"}, 1, "add -allow-remote"},
		{[]string{"-listen", "127.0.0.1:0", "-seed", "nosuch.json"}, 1, "open nosuch.json"},
		{[]string{"-listen", "127.0.0.1:0", "-data", "nosuch/data"}, 1, "open nosuch/data.lock"},
		{[]string{"-healthcheck", "-listen", "4566"}, 1, "it is not HOST:PORT"},
	} {
		status, stdout, stderr := program(t, tt.args...)
		if status != tt.status || stdout != "" || !strings.Contains(stderr, tt.stderr) || !strings.HasPrefix(stderr, "smtestd: ") {
			t.Errorf("%q: status %d, want %d; stdout %q; stderr %q, want %q", tt.args, status, tt.status, stdout, stderr, tt.stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	status, stdout, _ := program(t, "-version")
	if status != 0 || !regexp.MustCompile(`^smtestd \S+ go1\.\S+ \w+/\w+\n$`).MatchString(stdout) {
		t.Errorf("-version: status %d, %q", status, stdout)
	}
}

func TestAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	status, _, stderr := program(t, "-listen", l.Addr().String())
	if status != 1 || !strings.Contains(stderr, "address already in use") {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}

// TestListening starts the server on addresses of all kinds: what it prints is where
// this machine reaches it, and the health check finds it.
func TestListening(t *testing.T) {
	for _, args := range [][]string{
		{"-listen", "127.0.0.1:0"},
		{"-listen", "localhost:0"},
		{"-listen", "0.0.0.0:0", "-allow-remote"},
		{"-listen", ":0", "-allow-remote"},
	} {
		t.Run(args[1], func(t *testing.T) {
			d := launch(t, args...) // The last -listen counts.
			if !regexp.MustCompile(`^AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127\.0\.0\.1:\d+\n$`).MatchString(d.stdout.String()) {
				t.Errorf("stdout %q", d.stdout.String())
			}
			address := strings.TrimPrefix(d.url, "http://")
			if status, stdout, stderr := program(t, "-healthcheck", "-listen", address); status != 0 || stdout+stderr != "" {
				t.Errorf("-healthcheck: status %d, %q, %q", status, stdout, stderr)
			}
			_, port, _ := net.SplitHostPort(address)
			if status, _, stderr := program(t, "-healthcheck", "-listen", "0.0.0.0:"+port); status != 0 {
				t.Errorf("-healthcheck of 0.0.0.0: status %d, %q", status, stderr)
			}
			resp, err := http.Get(d.url + "/healthz")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("GET /healthz: %s", resp.Status)
			}
			d.kill()
			if status, _, stderr := program(t, "-healthcheck", "-listen", address); status != 1 || stderr == "" {
				t.Errorf("-healthcheck without a server: status %d, %q", status, stderr)
			}
			if strings.Contains(d.stderr.String(), "smtest: call") {
				t.Errorf("health checks are in the log:\n%s", d.stderr.String())
			}
		})
	}
}
