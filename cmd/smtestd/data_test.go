package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// An acknowledged write is one that the client was told of.
type acknowledged struct{ secret, version, value string }

// TestKill kills the server in the middle of the writes of many clients, again and
// again on the same file: what was acknowledged is there after each start. The values
// are long, so that the file is written anew every few hundred of them.
func TestKill(t *testing.T) {
	const rounds, writers, writes = 5, 8, 250
	path := filepath.Join(t.TempDir(), "data")
	rng := rand.New(rand.NewPCG(1, 1))
	var all []acknowledged
	before := 0
	for round := range rounds {
		d := launch(t, "-data", path)
		c := d.client()
		for _, a := range all[before:] {
			checkWrite(t, c, a)
		}
		limit := writes/2 + rng.IntN(writes/2)
		var mu sync.Mutex
		var wg sync.WaitGroup
		before = len(all)
		for w := range writers {
			wg.Go(func() {
				for n := 0; ; n++ {
					a := acknowledged{
						secret:  fmt.Sprintf("secret-%d", (w+n)%3),
						version: fmt.Sprintf("round-%d-writer-%d-write-%d-%s", round, w, n, strings.Repeat("-", 16)),
						value:   fmt.Sprintf("%d/%d/%d %s", round, w, n, strings.Repeat("x", 4096)),
					}
					if write(t.Context(), c, a) != nil {
						return // It is dead.
					}
					mu.Lock()
					all = append(all, a)
					enough := len(all)-before >= limit
					mu.Unlock()
					if enough {
						_ = d.cmd.Process.Kill()
						return
					}
				}
			})
		}
		wg.Wait()
		d.kill()
	}
	c := launch(t, "-data", path).client()
	for _, a := range all {
		checkWrite(t, c, a)
	}
}

// write creates the secret or puts a value.
func write(ctx context.Context, c *sm.Client, a acknowledged) error {
	_, err := c.PutSecretValue(ctx, &sm.PutSecretValueInput{SecretId: &a.secret, ClientRequestToken: &a.version, SecretString: &a.value})
	if err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		return err
	}
	_, err = c.CreateSecret(ctx, &sm.CreateSecretInput{Name: &a.secret, ClientRequestToken: &a.version, SecretString: &a.value})
	if err != nil && strings.Contains(err.Error(), "ResourceExistsException") {
		return write(ctx, c, a)
	}
	return err
}

func checkWrite(t *testing.T, c *sm.Client, a acknowledged) {
	t.Helper()
	out, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: &a.secret, VersionId: &a.version})
	if err != nil || *out.SecretString != a.value {
		t.Fatalf("an acknowledged write is lost: %s %s: %v", a.secret, a.version, err)
	}
}

func TestTerminate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := launch(t, "-data", path)
	if err := write(t.Context(), d.client(), acknowledged{"s", token("a"), "value-a"}); err != nil {
		t.Fatal(err)
	}
	if status := d.terminate(); status != 0 {
		t.Errorf("status %d after SIGTERM\n%s", status, d.stderr.String())
	}
	d = launch(t, "-data", path)
	if got := read(t, d.client(), "s"); got != "value-a" {
		t.Errorf("after a restart: %q", got)
	}
	for _, name := range []string{path, path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info.Mode(), err)
		}
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}

func TestDataLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := launch(t, "-data", path)
	status, _, stderr := program(t, "-listen", "127.0.0.1:0", "-data", path)
	if status != 1 || !strings.Contains(stderr, "another smtestd uses the file") {
		t.Errorf("a second server: status %d, %q", status, stderr)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := program(t, "-listen", "127.0.0.1:0", "-data", link); status != 1 || !strings.Contains(stderr, "another smtestd uses the file") {
		t.Errorf("a second server, by a link: status %d, %q", status, stderr)
	}
	d.kill()
	launch(t, "-data", link)
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is %v now, %v", info.Mode(), err)
	}
}

// TestDataRefused starts the server with files that are not its own or damaged: it
// says so, without a value, and leaves them as they are.
func TestDataRefused(t *testing.T) {
	good := state(t)
	lines := bytes.SplitAfter(good, []byte("\n"))
	for name, tt := range map[string]struct {
		content []byte
		stderr  string
	}{
		"foreign":       {[]byte("[default]\naws_secret_access_key = value-a\n"), "line 1: this is not a state of smtest"},
		"foreign JSON":  {[]byte(`{"prod/db":"value-a"}` + "\n"), "line 1: this is not a state of smtest"},
		"one line":      {[]byte("value-a"), "this is not a state of smtest"},
		"newer":         {bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1), "version 2"},
		"cut off":       {good[:len(lines[0])+len(lines[1])+9], "of 2 records there are 1"},
		"damaged":       {bytes.Replace(good, []byte(`"text":"`), []byte(`"tex":"`), 1), "line 2: this is damaged"},
		"half a line":   {append(bytes.Clone(good), `{"secrets":`+"\n"...), "line 4: this is damaged"},
		"zeros":         {append(bytes.Clone(good), "\x00\x00\x00\n"...), "line 4: this is damaged"},
		"two in a line": {bytes.Replace(good, []byte("\n{\"secrets\""), []byte(" {\"secrets\""), 1), "line 1: this is not a state"},
		"label astray":  {bytes.Replace(good, []byte(`{"AWSCURRENT":"a`), []byte(`{"AWSCURRENT":"b`), 1), "there is no version for label"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			if err := os.WriteFile(path, tt.content, 0o640); err != nil {
				t.Fatal(err)
			}
			status, stdout, stderr := program(t, "-listen", "127.0.0.1:0", "-data", path)
			if status != 1 || stdout != "" || !strings.Contains(stderr, tt.stderr) || !strings.Contains(stderr, "is left as it is") {
				t.Errorf("status %d, stdout %q, stderr %q, want %q", status, stdout, stderr, tt.stderr)
			}
			if strings.Contains(stderr, "value-") {
				t.Errorf("the error shows a value: %s", stderr)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, tt.content) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	status, _, stderr := program(t, "-listen", "127.0.0.1:0", "-data", t.TempDir())
	if status != 1 || !strings.Contains(stderr, "it is not a regular file") {
		t.Errorf("-data with a folder: status %d, %q", status, stderr)
	}
}

// TestDataTorn starts the server with what a crash may leave.
func TestDataTorn(t *testing.T) {
	good := state(t)
	for name, content := range map[string][]byte{
		"empty":         nil,
		"whole":         good,
		"torn record":   append(bytes.Clone(good), `{"secrets":[{"arn":"arn:aws`...),
		"torn at the }": append(bytes.Clone(good), `{"removed":["x"]}`...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			for file, content := range map[string][]byte{path: content, path + ".tmp": []byte("half a rewri")} {
				if err := os.WriteFile(file, content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			d := launch(t, "-data", path)
			if content != nil {
				if got := read(t, d.client(), "s1") + read(t, d.client(), "s2"); got != "value-avalue-b" {
					t.Errorf("values %q", got)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
			}
		})
	}
}

// state returns a data file with two secrets.
func state(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	d := launch(t, "-data", path)
	for _, a := range []acknowledged{{"s1", token("a"), "value-a"}, {"s2", token("b"), "value-b"}} {
		if err := write(t.Context(), d.client(), a); err != nil {
			t.Fatal(err)
		}
	}
	d.kill()
	// The next start brings it all into one state.
	launch(t, "-data", path).kill()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func token(name string) string {
	return name + strings.Repeat("-", 36-len(name))
}

// TestDataFull lets the disk be full: what cannot be kept is not acknowledged, and the
// server ends, saying why.
func TestDataFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := launchLimited(t, 64, "-data", path)
	c := d.client()
	var all []acknowledged
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		a := acknowledged{"s", token(fmt.Sprint(n)), fmt.Sprintf("value-%d-%s", n, strings.Repeat("x", 1000))}
		if err = write(t.Context(), c, a); err == nil {
			all = append(all, a)
		}
	}
	if err == nil || len(all) == 0 {
		t.Fatalf("%d writes, then %v", len(all), err)
	}
	if status := d.wait(); status != 1 || !strings.Contains(d.stderr.String(), "smtestd: -data "+path) {
		t.Errorf("status %d\n%s", status, d.stderr.String())
	}
	c = launch(t, "-data", path).client()
	for _, a := range all {
		checkWrite(t, c, a)
	}
	if err := write(t.Context(), c, acknowledged{"s", token("more"), "value"}); err != nil {
		t.Error(err)
	}
}
