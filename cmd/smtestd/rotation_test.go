package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

const lambdaARN = "arn:aws:lambda:us-east-1:123456789012:function:rotate"

// A lambda is a rotation function in a process of its own, as smtestd sees it.
type lambda struct {
	*httptest.Server

	mu     sync.Mutex // protects following
	c      *sm.Client
	events []string
	hook   func(step string) error // called before a step
}

func newLambda(t *testing.T) *lambda {
	l := &lambda{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = l.handle(r.Context(), body)
		}
		if err != nil {
			// As AWS's runtime interface emulator tells of an error.
			_ = json.NewEncoder(w).Encode(map[string]string{"errorType": "Error", "errorMessage": err.Error()})
			return
		}
		_, _ = io.WriteString(w, "null")
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *lambda) handle(ctx context.Context, body []byte) error {
	var e struct {
		Step               string
		SecretID           string `json:"SecretId"`
		ClientRequestToken string
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	l.mu.Lock()
	hook := l.hook
	l.events = append(l.events, e.Step)
	l.mu.Unlock()
	if hook != nil {
		if err := hook(e.Step); err != nil {
			return err
		}
	}
	l.mu.Lock()
	c := l.c
	l.mu.Unlock()
	switch e.Step {
	case "createSecret":
		_, err := c.PutSecretValue(ctx, &sm.PutSecretValueInput{
			SecretId: &e.SecretID, ClientRequestToken: &e.ClientRequestToken, SecretString: aws.String("rotated"), VersionStages: []string{"AWSPENDING"},
		})
		return err
	case "finishSecret":
		out, err := c.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &e.SecretID})
		if err != nil || *out.VersionId == e.ClientRequestToken {
			return err
		}
		_, err = c.UpdateSecretVersionStage(ctx, &sm.UpdateSecretVersionStageInput{
			SecretId: &e.SecretID, VersionStage: aws.String("AWSCURRENT"), RemoveFromVersionId: out.VersionId, MoveToVersionId: &e.ClientRequestToken,
		})
		return err
	}
	return nil
}

// use tells the function which server it works on.
func (l *lambda) use(c *sm.Client, hook func(string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c, l.hook, l.events = c, hook, nil
}

func (l *lambda) steps() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

func rotate(t *testing.T, c *sm.Client, arn string) {
	t.Helper()
	_, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{SecretId: aws.String("s"), RotationLambdaARN: &arn})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTerminateInRotation ends the server in the middle of a rotation: it comes to its
// end first, for which its function calls the server.
func TestTerminateInRotation(t *testing.T) {
	l := newLambda(t)
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"-data", data, "-seed", file(t, `{"s": "seed"}`), "-rotation-function", lambdaARN + "=" + l.URL}
	d := launch(t, args...)
	reached, resume := make(chan struct{}), make(chan struct{})
	l.use(d.client(), func(step string) error {
		if step == "setSecret" {
			close(reached)
			<-resume
		}
		return nil
	})
	rotate(t, d.client(), lambdaARN)
	<-reached
	go func() {
		// Whether the signal comes before or after this is the same: the rotation is
		// under way.
		close(resume)
	}()
	if status := d.terminate(); status != 0 {
		t.Errorf("status %d\n%s", status, d.stderr.String())
	}
	if got, want := l.steps(), []string{"createSecret", "setSecret", "testSecret", "finishSecret"}; !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
	d = launch(t, args...)
	if got := read(t, d.client(), "s"); got != "rotated" {
		t.Errorf("after a restart the value is %q", got)
	}
}

// TestKillInRotation kills the server in the middle of a rotation: the next one starts
// it anew.
func TestKillInRotation(t *testing.T) {
	l := newLambda(t)
	data := filepath.Join(t.TempDir(), "data")
	d := launch(t, "-data", data, "-seed", file(t, `{"s": "seed"}`), "-rotation-function", lambdaARN+"="+l.URL)
	reached := make(chan struct{})
	l.use(d.client(), func(step string) error {
		if step == "testSecret" {
			close(reached)
			<-d.ended
			return errors.New("the server is gone")
		}
		return nil
	})
	rotate(t, d.client(), lambdaARN)
	<-reached
	d.kill()

	known, finished := make(chan struct{}), make(chan struct{})
	hook := func(step string) error {
		<-known
		if step == "finishSecret" {
			close(finished)
		}
		return nil
	}
	l.use(nil, hook)
	next := launch(t, "-data", data, "-rotation-function", lambdaARN+"="+l.URL)
	l.use(next.client(), hook)
	close(known)
	<-finished
	if status := next.terminate(); status != 0 {
		t.Errorf("status %d\n%s", status, next.stderr.String())
	}
	last := launch(t, "-data", data)
	if got := read(t, last.client(), "s"); got != "rotated" {
		t.Errorf("the value is %q\n%s", got, next.stderr.String())
	}
}

// TestRotationFunctions rotates with functions of all kinds.
func TestRotationFunctions(t *testing.T) {
	l := newLambda(t)
	l.use(nil, func(string) error { return errors.New("out of order") })
	other := strings.Replace(lambdaARN, "rotate", "other", 1)
	d := launch(t, "-seed", file(t, `{"s": "seed"}`), "-any-rotation-function", "-rotation-function", lambdaARN+"="+l.URL)
	c := d.client()
	before, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s")})
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, c, other)
	after := before
	for *after.VersionId == *before.VersionId {
		if after, err = c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s")}); err != nil {
			t.Fatal(err)
		}
	}
	if *after.SecretString != "seed" {
		t.Errorf("the value after a rotation by any function is %q", *after.SecretString)
	}
	d.terminate() // Which waits for its end.

	d = launch(t, "-seed", file(t, `{"s": "seed"}`), "-rotation-function", lambdaARN+"="+l.URL)
	c = d.client()
	if _, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{SecretId: aws.String("s"), RotationLambdaARN: &other}); err == nil ||
		!strings.Contains(err.Error(), "AccessDeniedException: Secrets Manager cannot invoke the specified Lambda function.") {
		t.Errorf("an unknown function: %v", err)
	}
	rotate(t, c, lambdaARN)
	d.terminate()
	if !strings.Contains(d.stderr.String(), `msg="smtest: rotation failed"`) || !strings.Contains(d.stderr.String(), "out of order") {
		t.Errorf("the log does not tell of the rotation that failed:\n%s", d.stderr.String())
	}
	if got := l.steps(); !slices.Equal(got, []string{"createSecret"}) {
		t.Errorf("steps %v", got)
	}
}

// TestTerminateTwice ends the server while a rotation never comes to its end: it waits
// for that, until it gets the signal again.
func TestTerminateTwice(t *testing.T) {
	l := newLambda(t)
	d := launch(t, "-seed", file(t, `{"s": "seed"}`), "-rotation-function", lambdaARN+"="+l.URL)
	reached := make(chan struct{})
	l.use(nil, func(string) error {
		close(reached)
		<-d.ended
		return errors.New("the server is gone")
	})
	rotate(t, d.client(), lambdaARN)
	<-reached
	for {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.ended:
			if status := d.cmd.ProcessState.ExitCode(); status != -1 {
				t.Errorf("status %d, want that the signal has ended it\n%s", status, d.stderr.String())
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestTerminateInRequest ends the server in the middle of a request: it is answered.
func TestTerminateInRequest(t *testing.T) {
	d := launch(t, "-seed", file(t, `{"s": "seed"}`))
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"SecretId":"s"}`
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n"+
		"Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: secretsmanager.GetSecretValue\r\n\r\n", len(body))
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	if first, err := http.ReadResponse(answers, nil); err != nil || first.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v, want that the server waits for the body", first, err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(d.stderr.String(), "smtestd: ending") {
		runtime.Gosched()
	}
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(got), "seed") {
		t.Errorf("%s %s, %v", resp.Status, got, err)
	}
	if status := d.wait(); status != 0 {
		t.Errorf("status %d\n%s", status, d.stderr.String())
	}
}
