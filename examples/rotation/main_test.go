package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// privateTemp gives the test a folder for temporary files that the server's user
// can reach, and fails it if something is left there.
func privateTemp(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyturn-demo-test-") //nolint:usetesting // t.TempDir is closed to other users
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
		}
		_ = os.RemoveAll(dir)
	})
}

func TestDemo(t *testing.T) {
	privateTemp(t)
	s, err := parse([]string{"-rotations=2", "-workers=4", "-window=400ms", "-pause=1200ms", "-plain-ttl=300ms"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d, err := start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.play(t.Context(), newDisplay(&out, s))
	if err != nil {
		t.Error(err)
	}
	passwords := passwords(t, d)
	if err := d.close(); err != nil {
		t.Error(err)
	}
	r.print(&out)
	t.Log("\n" + out.String())

	if r.keyturn.failed != 0 || r.plain.failed == 0 || r.rotated != 2 || !r.good() {
		t.Errorf("failed queries: %d of Keyturn and %d of plain in %d rotations, want 0 and some in 2",
			r.keyturn.failed, r.plain.failed, r.rotated)
	}
	for _, p := range []result{r.plain, r.keyturn} {
		failed, _, _ := p.logins()
		seen := 0
		for _, t := range p.tallies {
			seen += t.refused
		}
		if failed != seen {
			t.Errorf("%s: %d failed logins in the server's log, but the pool had %d", p.name, failed, seen)
		}
	}
	for _, want := range []string{"rotation 2/2", "WINDOW", "\nfailed queries ", "\nSecrets Manager calls ", "\nPassed: in 2 rotations "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	for _, p := range []result{r.plain, r.keyturn} {
		var sum slot
		for _, s := range p.slots {
			sum.queries, sum.failed = sum.queries+s.queries, sum.failed+s.failed
		}
		if sum.queries != p.queries || sum.failed != p.failed || p.answered.queries != p.queries || p.answered.failed != p.failed {
			t.Errorf("%s: %d of %d queries failed, but the slots have %d of %d", p.name, p.failed, p.queries, sum.failed, sum.queries)
		}
	}
	if len(r.timeline.windows) != 2 || len(r.rotations()) != 2 {
		t.Errorf("windows %v and phases %v, want those of 2 rotations", r.timeline.windows, r.timeline.phases)
	}
	for _, w := range r.timeline.windows {
		if w.lasted() < s.window {
			t.Errorf("a window of %v, want at least %v", w.lasted(), s.window)
		}
	}
	page := pageOf(t, r)
	for _, password := range passwords {
		if strings.Contains(out.String()+page+r.picture(false), password) {
			t.Error("the output, the page or the picture has a password in it")
		}
	}
}

// passwords returns what the secrets of the demo hold.
func passwords(t *testing.T, d *demo) (list []string) {
	t.Helper()
	for _, p := range d.pools {
		for _, stage := range []string{"AWSCURRENT", "AWSPREVIOUS"} {
			out, err := d.sm.Client().GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
				SecretId: &p.secretID, VersionStage: &stage,
			})
			if err != nil {
				t.Fatal(err)
			}
			var v struct{ Password string }
			if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &v); err != nil || v.Password == "" {
				t.Fatalf("%s: no password (%v)", p.secretID, err)
			}
			list = append(list, v.Password)
		}
	}
	return list
}

func TestInterrupt(t *testing.T) {
	privateTemp(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// In the midst of the first window.
	time.AfterFunc(4*time.Second, cancel)
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"-window=1m", "-workers=4"}, &out, &errs); code != exitInterrupted {
		t.Errorf("exit status %d, want %d", code, exitInterrupted)
	}
	if !strings.Contains(errs.String(), "interrupted") || strings.Contains(out.String(), "Passed") {
		t.Errorf("output %q and %q, want a word about the interrupt and no verdict", out.String(), errs.String())
	}
}

func TestNoPostgreSQL(t *testing.T) {
	privateTemp(t)
	t.Setenv("KEYTURN_POSTGRES_BIN", t.TempDir())
	var out, errs bytes.Buffer
	if code := run(t.Context(), nil, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "KEYTURN_POSTGRES_BIN") {
		t.Errorf("exit status %d and %q, want %d and what is missing", code, errs.String(), exitFailed)
	}
}

func TestFlags(t *testing.T) {
	tests := []struct {
		args string
		want string // in the error
	}{
		{"-workers=0", "-workers is 0"},
		{"-workers=1000", "from 1 to 200"},
		{"-workers=many", "many"},
		{"-rotations=0", "-rotations is 0"},
		{"-window=-1s", "-window is -1s"},
		{"-pause=-1s", "-pause is -1s"},
		{"-plain-ttl=-1s", "-plain-ttl is -1s"},
		{"-duration=-1s", "-duration is -1s"},
		{"-duration=2s", "needs 3s"},
		{"-nonsense", "nonsense"},
		{"nonsense", `"nonsense" is not a flag`},
	}
	for _, tt := range tests {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{tt.args}, &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), tt.want) || out.Len() > 0 {
			t.Errorf("run(%q) = %d, %q, %q; want %d and %q", tt.args, code, out.String(), errs.String(), exitUsage, tt.want)
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &out, &errs); code != exitOK || !strings.Contains(out.String(), "-workers number") || errs.Len() > 0 {
		t.Errorf("run(-h) = %d, %q, %q", code, out.String(), errs.String())
	}
}
