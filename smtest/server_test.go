package smtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func sprint(v any) string { return fmt.Sprint(v) }

func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		id := srv.Put("s", "one")
		srv.ResetCalls()
		start := time.Now().UTC()
		wantValue(t, c, "s", "one")
		time.Sleep(time.Second)
		srv.Inject(smtest.Fault{Times: 1, DelayAnswer: time.Second})
		if err := put(t.Context(), c, "s", "b", "two", "x", "y"); err != nil {
			t.Fatal(err)
		}
		if err := move(t.Context(), c, "s", cur, "none", "b"); err == nil {
			t.Fatal("AWSCURRENT moved from an unknown version")
		}
		if _, err := c.UpdateSecretVersionStage(t.Context(), &sm.UpdateSecretVersionStageInput{
			SecretId: aws.String("s"), VersionStage: aws.String(cur),
			MoveToVersionId: aws.String(ver("b")), RemoveFromVersionId: aws.String(id),
		}); err != nil {
			t.Fatal(err)
		}
		raw(srv, "Nonsense", "{}")
		at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
		call := func(operation, stage, version, code string, arrived, answered int) smtest.Call {
			return smtest.Call{
				Operation: operation, SecretID: "s", Stage: stage, VersionID: version, Code: code,
				Caller: "arn:aws:sts::123456789012:assumed-role/app/i", Region: "us-east-1", Attempt: 1,
				Time: at(arrived), Answered: at(answered),
			}
		}
		want := []smtest.Call{
			call("GetSecretValue", cur, id, "", 0, 0),
			call("PutSecretValue", "x,y", ver("b"), "", 1, 2),
			call("UpdateSecretVersionStage", cur, ver("b"), "InvalidParameterException", 2, 2),
			call("UpdateSecretVersionStage", cur, ver("b"), "", 2, 2),
			call("Nonsense", "", "", "UnknownOperationException", 2, 2),
		}
		want[4].SecretID, want[4].Attempt = "", 0
		got := srv.Calls()
		if len(got) != len(want) {
			t.Fatalf("%d calls, want %d: %+v", len(got), len(want), got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("call %d\n got %+v\nwant %+v", i, got[i], want[i])
			}
		}
		if n, all := srv.Count("UpdateSecretVersionStage"), srv.Count(""); n != 2 || all != 5 {
			t.Errorf("Count = %d, all %d, want 2, 5", n, all)
		}
		srv.ResetCalls()
		if n := srv.Count(""); n != 0 || len(srv.Calls()) != 0 {
			t.Errorf("after ResetCalls %d calls are left", n)
		}
	})
}

// The log does not grow for ever, the counts go on.
func TestCallsAreBounded(t *testing.T) {
	srv, _ := newServer(t)
	const n = 20000
	for range n {
		raw(srv, "Nonsense", "")
	}
	if got := len(srv.Calls()); got < 1000 || got >= n {
		t.Errorf("%d calls in the log", got)
	}
	if got := srv.Count("Nonsense"); got != n {
		t.Errorf("Count = %d, want %d", got, n)
	}
}

func TestLogger(t *testing.T) {
	var log bytes.Buffer
	srv := smtest.New(&smtest.Options{
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	defer srv.Close()
	c := client(srv)
	create(t, c, "s", "a", "secret-value")
	wantValue(t, c, "s", "secret-value")
	if err := put(t.Context(), c, "s", "a", "other-secret-value"); err == nil {
		t.Fatal("no error")
	}
	raw(srv, "PutSecretValue", `{"SecretId":"s","SecretBinary":"secret-value"}`)
	got := log.String()
	if n := strings.Count(got, "operation="); n != 4 || !strings.Contains(got, "code=ResourceExistsException") {
		t.Errorf("log = %s", got)
	}
	if strings.Contains(got, "secret-value") {
		t.Errorf("the log shows a value: %s", got)
	}
}

// All of the server at the same time: the labels hold throughout, and the race
// detector has nothing to say.
func TestConcurrentUse(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	srv.AddFunction(functionARN, func(ctx context.Context, _ []byte) error {
		_, err := read(ctx, c, "s")
		return err
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				switch (i + j) % 8 {
				case 0:
					srv.Put("s", fmt.Sprint("put", i, j))
				case 1:
					_, _ = srv.Rotate(t.Context(), "s", fmt.Sprint("rotate", i, j))
				case 2:
					_ = rotate(t, c, fmt.Sprint("r", i, "x", j))
				case 3:
					remove := srv.Inject(smtest.Fault{SecretID: "s", Times: 3, Err: smtest.Throttling})
					_, _ = read(t.Context(), c, "s")
					remove()
				case 4:
					srv.Calls()
					srv.Count("")
				case 5:
					_ = srv.Wait(t.Context(), "s")
				default:
					d, err := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("s")})
					if err != nil {
						continue // Throttled by another goroutine.
					}
					on := make(map[string]int)
					for _, stages := range d.VersionIdsToStages {
						for _, stage := range stages {
							on[stage]++
						}
					}
					if on[cur] != 1 || on[prev] > 1 || on[pend] > 1 {
						t.Errorf("labels = %v", d.VersionIdsToStages)
					}
				}
			}
		})
	}
	wg.Wait()
	_ = srv.Wait(t.Context(), "s")
	if _, err := read(t.Context(), c, "s"); err != nil {
		t.Error(err)
	}
}

func TestClientOptions(t *testing.T) {
	srv, _ := newServer(t)
	srv.Put("s", "one")
	asked := 0
	c := srv.Client(func(o *sm.Options) {
		next := o.HTTPClient
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			asked++
			return next.Do(r)
		})
	})
	wantValue(t, c, "s", "one")
	if asked != 1 {
		t.Errorf("the option was not used: %d calls", asked)
	}
}

// The SDK looks at the context first, other users of the HTTP client may not.
func TestTransportChecksContext(t *testing.T) {
	srv, c := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Options().HTTPClient.Do(r); !errors.Is(err, context.Canceled) || srv.Count("") != 0 {
		t.Errorf("Do = %v, %d calls reached the server, want none", err, srv.Count(""))
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// A handler in front of the server may give up the connection.
func TestLostConnection(t *testing.T) {
	srv, _ := newServer(t)
	srv.Inject(smtest.Fault{Before: func(context.Context, smtest.Call) { panic(http.ErrAbortHandler) }})
	_, err := read(t.Context(), client(srv), "s")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read = %v, want a lost connection", err)
	}
}

// A hook's own panic reaches the caller: it is the test's.
func TestHookPanics(t *testing.T) {
	srv, _ := newServer(t)
	srv.Inject(smtest.Fault{Before: func(context.Context, smtest.Call) { panic("hook") }})
	if got := panics(func() { _, _ = read(t.Context(), client(srv), "s") }); got != "hook" {
		t.Errorf("panic = %v", got)
	}
}

func TestCloseDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		srv.Inject(smtest.Fault{Delay: time.Second})
		result := make(chan error)
		go func() { result <- put(t.Context(), c, "s", "b", "two") }()
		synctest.Wait()
		srv.Close()
		wantError(t, <-result, "ServerClosed: smtest: the server is closed")
	})
}

// The Server may be older than the bubble that uses it.
func TestServerFromOutsideTheBubble(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	r := newRotator(srv)
	synctest.Test(t, func(t *testing.T) {
		r.hook = func(context.Context, event) error {
			time.Sleep(time.Hour)
			return nil
		}
		if err := rotate(t, c, "b"); err != nil {
			t.Fatal(err)
		}
		if err := srv.Wait(t.Context(), "s"); err != nil {
			t.Error(err)
		}
		srv.Inject(smtest.Fault{Times: 1, Delay: time.Hour})
		wantValue(t, c, "s", "made by createSecret")
	})
	wantValue(t, c, "s", "made by createSecret")
}
