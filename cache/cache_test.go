package cache_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/smtest"
)

func newCache(t *testing.T, srv *smtest.Server, opts *cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.New(srv.Client(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// bubble runs f in a synctest bubble with a server that holds prod/db = v1.
func bubble(t *testing.T, opts *cache.Options, f func(t *testing.T, srv *smtest.Server, c *cache.Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("prod/db", "v1")
		c, err := cache.New(srv.Client(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(t, srv, c)
	})
}

func get(t *testing.T, c *cache.Cache, want string) *cache.Secret {
	t.Helper()
	s, err := c.Get(t.Context(), "prod/db")
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if s.Text() != want {
		t.Fatalf("Get = %q, want %q", s.Text(), want)
	}
	return s
}

func calls(t *testing.T, srv *smtest.Server, want int) {
	t.Helper()
	if got := srv.Count("GetSecretValue"); got != want {
		t.Fatalf("%d calls of GetSecretValue, want %d", got, want)
	}
}

func TestGetWithinTTLIsOneCall(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for range 100 {
			get(t, c, "v1")
		}
		calls(t, srv, 1)

		time.Sleep(5*time.Minute - 1)
		get(t, c, "v1")
		calls(t, srv, 1)

		srv.Put("prod/db", "v2")
		time.Sleep(time.Nanosecond)
		get(t, c, "v2")
		calls(t, srv, 2)
	})
}

func TestTTLCountsFromTheStartOfTheCall(t *testing.T) {
	bubble(t, &cache.Options{TTL: 10 * time.Second}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		remove := srv.Inject(smtest.Fault{DelayAnswer: 4 * time.Second})
		s := get(t, c, "v1")
		remove()
		if got := s.Age(); got != 4*time.Second {
			t.Errorf("Age() = %v, want 4s", got)
		}
		time.Sleep(6 * time.Second)
		get(t, c, "v1")
		calls(t, srv, 2)
	})
}

func TestFreshReadDoesNotAllocateOrLookAtContext(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "v1")
	c := newCache(t, srv, nil)
	h := c.Handle("prod/db")
	get(t, c, "v1")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	id := strings.Clone("prod/db")
	for name, read := range map[string]func() (*cache.Secret, error){
		"Cache.Get":  func() (*cache.Secret, error) { return c.Get(canceled, id) },
		"Handle.Get": func() (*cache.Secret, error) { return h.Get(canceled) },
		"Handle.Peek": func() (*cache.Secret, error) {
			s, ok := h.Peek()
			if !ok {
				return nil, errors.New("nothing held")
			}
			return s, nil
		},
	} {
		if s, err := read(); err != nil || s.Text() != "v1" {
			t.Errorf("%s = %v, %v", name, s, err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = read() }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func TestColdReadersShareOneCall(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(smtest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { get(t, c, "v1") })
		}
		wg.Wait()
		calls(t, srv, 1)
	})
}

func TestReadersWaitOnTheirOwnContext(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(smtest.Fault{Delay: 3 * time.Second})
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { // the first to come, whose end must be nobody else's
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Get(ctx, "prod/db")
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("first reader: %v after %v, want its deadline after 1s", err, time.Since(start))
			}
			if err != nil && !strings.Contains(err.Error(), `"prod/db"`) {
				t.Errorf("%q does not name the secret", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			get(t, c, "v1")
			if got := time.Since(start); got != 3*time.Second {
				t.Errorf("second reader returned after %v, want 3s", got)
			}
		})
		wg.Wait()
		calls(t, srv, 1)
	})
}

func TestReaderThatGaveUpStartsNoCall(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(ctx, "prod/db"); !errors.Is(err, context.Canceled) {
			t.Errorf("Get: %v, want context.Canceled", err)
		}
		calls(t, srv, 0)
	})
}

func TestHungCallIsBounded(t *testing.T) {
	bubble(t, &cache.Options{FetchTimeout: 5 * time.Second}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		remove := srv.Inject(smtest.Fault{Delay: time.Hour})
		start := time.Now()
		_, err := c.Get(t.Context(), "prod/db")
		if err == nil || !strings.Contains(err.Error(), `get secret "prod/db" (AWSCURRENT): no answer within 5s`) {
			t.Errorf("Get: %v", err)
		}
		// The reader's context is alive; the error must not say otherwise.
		if errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("Get: %#v after %v", err, time.Since(start))
		}
		remove()
		time.Sleep(time.Second) // the failure is held as long
		get(t, c, "v1")
	})
}

func TestErrorsSayWhatToDo(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		tests := []struct {
			name, id  string
			fault     smtest.Fault
			want      []string
			notFound  bool
			transient bool
		}{
			{name: "unknown secret", id: "prod/none", notFound: true, want: []string{
				`cache: get secret "prod/none" (AWSCURRENT): ResourceNotFoundException: Secrets Manager can't find the specified secret.`,
				"check the name, the region and the account",
			}},
			{name: "denied", id: "prod/db", fault: smtest.Fault{Err: smtest.AccessDenied}, want: []string{
				`cache: get secret "prod/db" (AWSCURRENT): AccessDeniedException: `,
				"is not authorized to perform: secretsmanager:GetSecretValue", "identity policy", "resource policy", "KMS key policy",
			}},
			{name: "throttled", id: "prod/db", fault: smtest.Fault{Err: smtest.Throttling}, transient: true, want: []string{
				`cache: get secret "prod/db" (AWSCURRENT): ThrottlingException: Rate exceeded`,
			}},
			{name: "bad name", id: "no such name!?", want: []string{`"no such name!?"`, "ValidationException", "letters, digits"}},
		}
		for _, test := range tests {
			time.Sleep(time.Second) // a failure is held as long
			remove := srv.Inject(test.fault)
			_, err := c.Get(t.Context(), test.id)
			remove()
			failed, ok := errors.AsType[*cache.Error](err)
			if !ok {
				t.Errorf("%s: %v is no *cache.Error", test.name, err)
				continue
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q does not say %q", test.name, err, want)
				}
			}
			if failed.Transient != test.transient || failed.SecretID != test.id || failed.Stage != cache.Current || failed.Op != "get" {
				t.Errorf("%s: %+v", test.name, failed)
			}
			if got := errors.Is(err, cache.ErrNotFound); got != test.notFound {
				t.Errorf("%s: errors.Is(err, ErrNotFound) = %v", test.name, got)
			}
			if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok != test.notFound {
				t.Errorf("%s: the SDK's error is not to be found in %v", test.name, err)
			}
		}
	})
}

func TestLastingFailureIsNotAskedForOnEveryRead(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for range 100 {
			if _, err := c.Get(t.Context(), "prod/none"); !errors.Is(err, cache.ErrNotFound) {
				t.Fatal(err)
			}
		}
		calls(t, srv, 1)
		time.Sleep(time.Second)
		srv.Put("prod/none", "now")
		if s, err := c.Get(t.Context(), "prod/none"); err != nil || s.Text() != "now" {
			t.Errorf("Get = %v, %v", s, err)
		}
	})
}

func TestPanicReachesTheReadersAndPoisonsNothing(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "v1")
	var misbehave func()
	client := clientFunc(func(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
		if misbehave != nil {
			misbehave()
		}
		return srv.Client().GetSecretValue(ctx, in, opts...)
	})
	c, err := cache.New(client, &cache.Options{MinRefresh: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, test := range []struct {
		want string
		f    func()
	}{
		{"the client panicked with a string", func() { panic(sentinel) }},
		{"the client panicked: assignment to entry in nil map", func() { nilMap()[sentinel] = 1 }},
		{"the client ended its goroutine", runtime.Goexit},
	} {
		misbehave = test.f
		_, err := c.Refresh(t.Context(), "prod/db")
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), sentinel) {
			t.Errorf("Refresh: %v, want %q", err, test.want)
		}
	}
	misbehave = nil
	if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
		t.Errorf("Refresh: %v", err)
	}
	get(t, c, "v1")
}

func nilMap() map[string]int { return nil }

type clientFunc func(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)

func (f clientFunc) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return f(ctx, in, opts...)
}

// An answer that breaks off, or is none: what came of it is most likely a secret,
// and must not come back in the error.
func TestUndecodableAnswerDoesNotShow(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	for _, body := range []string{
		`{"ARN":"arn","SecretString":"` + sentinel,
		`{"ARN":"arn","SecretString":"` + sentinel + `" "x"}`,
		`{"ARN":"arn","SecretString":{"` + sentinel + `":1}}`,
		`{"ARN":"arn","CreatedDate":"` + sentinel + `"}`,
		`{"ARN":"arn","SecretBinary":"` + sentinel + `"}`,
		`{"ARN":"arn","VersionStages":"` + sentinel + `"}`,
		sentinel,
		"{}",
		"",
	} {
		client := srv.Client(func(o *secretsmanager.Options) {
			o.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: http.StatusOK,
					Header:     http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
					Body:       io.NopCloser(strings.NewReader(body)),
					Request:    r,
				}, nil
			})
		})
		c, err := cache.New(client, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Get(t.Context(), "prod/db")
		c.Close()
		if err == nil {
			t.Errorf("Get of the answer %q succeeded", body)
			continue
		}
		leaktest.Check(t, sentinel, err)
		for err := err; err != nil; err = errors.Unwrap(err) {
			leaktest.Check(t, sentinel, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r) }

func TestClose(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		h := c.Handle("prod/db")
		remove := srv.Inject(smtest.Fault{Delay: time.Hour})
		defer remove()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Get(t.Context(), "prod/other"); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("reader that waited through Close: %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		wg.Go(c.Close)
		wg.Go(c.Close)
		wg.Wait()
		if time.Since(start) != 0 {
			t.Errorf("Close took %v with a call in progress, which it should cancel", time.Since(start))
		}
		for name, read := range map[string]func() error{
			"Get":          func() error { _, err := c.Get(t.Context(), "prod/db"); return err },
			"GetStage":     func() error { _, err := c.GetStage(t.Context(), "prod/db", cache.Previous); return err },
			"Refresh":      func() error { _, err := c.Refresh(t.Context(), "prod/db"); return err },
			"RefreshIf":    func() error { _, err := c.RefreshIf(t.Context(), "prod/db", "x"); return err },
			"RefreshAfter": func() error { _, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Time{}); return err },
			"Handle.Get":   func() error { _, err := h.Get(t.Context()); return err },
		} {
			if err := read(); !errors.Is(err, cache.ErrClosed) {
				t.Errorf("%s after Close: %v, want ErrClosed", name, err)
			}
		}
		if _, ok := h.Peek(); ok {
			t.Error("Peek after Close holds a value")
		}
	})
}

// Peek waits for nothing; what it has refreshed is there the next time.
func TestPeekNeverWaits(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		h := c.Handle("prod/db")
		if _, ok := h.Peek(); ok {
			t.Error("Peek before the first read holds a value")
		}
		if s, err := h.Get(t.Context()); err != nil || s.Text() != "v1" {
			t.Fatalf("Handle.Get = %v, %v", s, err)
		}
		time.Sleep(time.Hour)
		srv.Put("prod/db", "v2")
		srv.Inject(smtest.Fault{Delay: time.Second})
		start := time.Now()
		if s, ok := h.Peek(); !ok || s.Text() != "v1" || s.Age() != time.Hour || time.Since(start) != 0 {
			t.Errorf("Peek = %v, %v after %v", s, ok, time.Since(start))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s, ok := h.Peek(); !ok || s.Text() != "v2" {
			t.Errorf("Peek after the refresh = %v, %v", s, ok)
		}
		calls(t, srv, 2)
	})
}

func TestStagesDoNotMix(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		if _, err := c.GetStage(t.Context(), "prod/db", cache.Previous); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("AWSPREVIOUS of a secret with one version: %v, want ErrNotFound", err)
		}
		if _, err := srv.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		get(t, c, "v2")
		s, err := c.GetStage(t.Context(), "prod/db", cache.Previous)
		if err != nil || s.Text() != "v1" {
			t.Errorf("AWSPREVIOUS = %v, %v, want v1", s, err)
		}
		if s, err := c.GetStage(t.Context(), "prod/db", ""); err != nil || s.Text() != "v2" {
			t.Errorf("no stage = %v, %v, want AWSCURRENT", s, err)
		}
	})
}

func TestBinarySecret(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	name, value := "prod/key", []byte{0, 1, 2, 0xff, 0xfe}
	token := "01234567-89ab-cdef-0123-456789abcdef"
	if _, err := srv.Client().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretBinary: value, ClientRequestToken: &token}); err != nil {
		t.Fatal(err)
	}
	s, err := newCache(t, srv, nil).Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Bytes()) != string(value) || s.Text() != string(value) || s.VersionID() != token {
		t.Errorf("binary secret came back as % x, version %s", s.Bytes(), s.VersionID())
	}
}

func TestNewRejectsBadOptions(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	if _, err := cache.New(nil, nil); err == nil || !strings.Contains(err.Error(), "client is nil") {
		t.Errorf("New(nil): %v", err)
	}
	for field, opts := range map[string]*cache.Options{
		"FetchTimeout": {FetchTimeout: -1}, "Serverless": {Serverless: 3}, "Replicas[1]": {Replicas: []cache.API{srv.Client(), nil}},
	} {
		if _, err := cache.New(srv.Client(), opts); err == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("New with a bad %s: %v", field, err)
		}
	}
}

func TestUserAgent(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "v1")
	var agent string
	client := srv.Client()
	inner := client.Options().HTTPClient
	tagged := secretsmanager.New(client.Options(), func(o *secretsmanager.Options) {
		o.HTTPClient = roundTrip(func(r *http.Request) (*http.Response, error) {
			agent = r.Header.Get("User-Agent")
			return inner.Do(r)
		})
	})
	c, err := cache.New(tagged, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	get(t, c, "v1")
	if !strings.Contains(agent, " keyturn/") {
		t.Errorf("user agent %q does not name keyturn", agent)
	}
}

func TestEmptyID(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	if _, err := newCache(t, srv, nil).Get(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "the secret ID is empty; give the name or the ARN") {
		t.Errorf("Get: %v", err)
	}
	calls(t, srv, 0)
}
