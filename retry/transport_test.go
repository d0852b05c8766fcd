package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/retry"
	"github.com/keyturn/keyturn/smtest"
)

// A roundTripper is one, for tests that need no socket.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// bearer is the usual set.
func bearer(r *http.Request, s *cache.Secret) error {
	r.Header.Set("Authorization", "Bearer "+s.Text())
	return nil
}

// keyOf returns the key that bearer has put on a request.
func keyOf(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// An api checks keys, when a request arrives, and answers a while later. It is
// an http.Handler and, for a bubble, an http.RoundTripper.
type api struct {
	paths map[string]int // what is answered there instead of 200 or, if it is 401, to any key

	mu      sync.Mutex
	latency time.Duration
	accepts []string
	keys    []string // of all requests, in the order of arrival
	refused int
	flying  int
	peak    int
}

// check returns the status for a request.
func (a *api) check(ctx context.Context, key, path string) (int, error) {
	a.mu.Lock()
	a.keys = append(a.keys, key)
	status := http.StatusOK
	if special := a.paths[path]; special != 0 {
		status = special
	}
	if status < 500 && !slices.Contains(a.accepts, key) {
		status = http.StatusUnauthorized
	}
	if status == http.StatusUnauthorized {
		a.refused++
	}
	a.flying++
	a.peak = max(a.peak, a.flying)
	latency := a.latency
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.flying--
	}()
	select {
	case <-time.After(latency):
		return status, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (a *api) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	status, err := a.check(r.Context(), keyOf(r), r.URL.Path)
	if err != nil {
		return nil, err
	}
	return response(r, status, fmt.Sprintf("%d %s", status, body)), nil
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	status, err := a.check(r.Context(), keyOf(r), r.URL.Path)
	if err != nil {
		return
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "%d %s", status, body)
}

// setKeys changes what the API accepts, and returns how many requests were in
// flight at that instant.
func (a *api) setKeys(keys ...string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepts = keys
	return a.flying
}

// setLatency changes how long the answers to later requests take.
func (a *api) setLatency(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.latency = d
}

// count returns the number of refused requests, and forgets them.
func (a *api) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.refused
	a.refused = 0
	return n
}

// tried returns the keys of the requests so far, and forgets them.
func (a *api) tried() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := a.keys
	a.keys = nil
	return keys
}

func response(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Header: make(http.Header), Request: r,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// A client is a world with an API in the place of the database.
type client struct {
	*world
	api *api
	rt  *retry.Transport
}

// requests is bubble for a Transport. The base is the API, if opts has none.
func requests(t *testing.T, opts *retry.TransportOptions, f func(t *testing.T, c *client)) {
	t.Helper()
	bubble(t, nil, func(t *testing.T, w *world) {
		c := &client{world: w, api: &api{latency: 10 * time.Millisecond, accepts: []string{"v1"}}}
		o := retry.TransportOptions{}
		if opts != nil {
			o = *opts
		}
		if o.Base == nil {
			o.Base = c.api
		}
		c.rt = retry.NewTransport(w.c, "prod/db", "api.example.com", bearer, &o)
		f(t, c)
	})
}

// request makes a request to the path, with a body that can be sent again.
func (c *client) request(path string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "https://api.example.com"+path, strings.NewReader("hello"))
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// send sends a request and returns the status and the body of its response.
func (c *client) send(r *http.Request) (int, string, error) {
	c.t.Helper()
	resp, err := c.rt.RoundTrip(r)
	if err != nil {
		if resp != nil {
			c.t.Errorf("both a response and an error: %v", err)
		}
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Errorf("body: %v", err)
	}
	return resp.StatusCode, string(body), nil
}

// want sends a request to the path and wants this status.
func (c *client) want(path string, want int) {
	c.t.Helper()
	got, body, err := c.send(c.request(path))
	if err != nil || got != want || body != fmt.Sprintf("%d hello", want) {
		c.t.Errorf("%s: %d, %q, %v, want %d", path, got, body, err, want)
	}
}

// get wants a request to succeed.
func (c *client) get() {
	c.t.Helper()
	c.want("/", 200)
}

// refused makes a request that is refused and cannot be sent again.
func (c *client) refused() {
	c.t.Helper()
	r := c.request("/refused")
	r.GetBody = nil
	if status, _, err := c.send(r); status != 401 || err != nil {
		c.t.Fatalf("%d, %v, want 401", status, err)
	}
}

// wantKeys wants exactly the requests with these keys to have arrived since the
// last time.
func (c *client) wantKeys(want ...string) {
	c.t.Helper()
	if got := c.api.tried(); !slices.Equal(got, want) {
		c.t.Errorf("requests with %q, want %q", got, want)
	}
}

// parallel calls f n times side by side.
func parallel(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

func TestKeyRotation(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		c.wantKeys("v1")
		if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		c.api.setKeys("v2")
		c.get()
		c.wantKeys("v1", "v2")
		c.get()
		c.wantKeys("v2")
	})
}

// The key changes while fifty requests are in flight, and fifty more follow.
func TestRequestsInFlightAtTheChange(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		time.Sleep(time.Minute)
		if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		c.api.setKeys("v2")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(c.get)
		}
		synctest.Wait()
		flying := c.api.setKeys("v2")
		if flying != 50 {
			t.Fatalf("%d requests in flight, want 50", flying)
		}
		time.Sleep(20 * time.Millisecond) // the refusals are there, what is newer is not
		for range 50 {
			wg.Go(c.get)
		}
		wg.Wait()
		if n := c.api.count(); n > flying+1 {
			t.Errorf("%d refused requests, want those in flight (%d) and one", n, flying)
		}
	})
}

func TestRequestsInTheWindow(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		v2 := c.pend("v2")
		c.api.setKeys("v2")
		c.api.tried()
		c.get()
		c.wantKeys("v1", "v2")
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			c.get()
		}
		if keys := c.api.tried(); slices.Contains(keys, "v1") {
			t.Error("the old key is tried in the window")
		}
		c.promote(v2)
		time.Sleep(2 * time.Second)
		c.get()
		c.sm.ResetCalls()
		c.get()
		c.wantKeys("v2", "v2")
		if n := c.sm.Count("GetSecretValue"); n != 0 {
			t.Errorf("%d reads for a request after the rotation, want 0", n)
		}
	})
}

// The API takes a while to learn the new key.
func TestRequestsWithThePreviousKey(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		c.api.tried()
		c.get()
		c.wantKeys("v2", "v1")
		c.get()
		c.wantKeys("v1")
		c.api.setKeys("v2")
		c.get()
		c.wantKeys("v1", "v2")
	})
}

// A version that was never accepted is no reason to wait for anybody.
func TestHealthyRequestsGoSideBySide(t *testing.T) {
	for name, status := range map[string]int{"accepted": 200, "failing": 500, "limited": 429, "forbidden": 403} {
		requests(t, nil, func(t *testing.T, c *client) {
			c.api.paths = map[string]int{"/": status}
			start := time.Now()
			for range 3 {
				parallel(50, func() { c.want("/", status) })
				time.Sleep(2 * time.Second)
			}
			if c.api.peak != 50 {
				t.Errorf("%s: %d requests at once, want 50", name, c.api.peak)
			}
			// Three rounds of 10 ms, and the first read of the secret.
			if took := time.Since(start) - 6*time.Second; took > 35*time.Millisecond {
				t.Errorf("%s: requests took %v", name, took)
			}
		})
	}
}

// Between a refusal and the next acceptance one request goes ahead.
func TestOneRequestGoesAhead(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		c.pend("v2")
		c.api.setKeys("neither")
		var wg sync.WaitGroup
		wg.Go(c.get)
		time.Sleep(5 * time.Millisecond)
		c.api.setKeys("v2") // too late for that one
		time.Sleep(7 * time.Millisecond)
		c.api.setLatency(300 * time.Millisecond)
		for range 50 {
			wg.Go(c.get)
		}
		time.Sleep(100 * time.Millisecond)
		if flying := c.api.setKeys("v2"); flying != 1 {
			t.Errorf("%d requests with a version that is not proven, after a refusal, want 1", flying)
		}
		wg.Wait()
	})
}

// An answer that says nothing of the key opens no gate, and lets everybody go: a
// second is what a request waits for another at most.
func TestNobodyWaitsLongForOthers(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		latency time.Duration
		most    time.Duration
	}{
		"an answer that says nothing": {503, 100 * time.Millisecond, 220 * time.Millisecond},
		"headers that take long":      {200, 5 * time.Second, 6100 * time.Millisecond},
	} {
		requests(t, nil, func(t *testing.T, c *client) {
			c.get()
			if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
				t.Fatal(err)
			}
			c.api.setKeys("v2")
			c.api.paths = map[string]int{"/": test.status}
			c.api.setLatency(test.latency)
			c.refused()
			start := time.Now()
			parallel(50, func() { c.want("/", test.status) })
			if took := time.Since(start); took > test.most {
				t.Errorf("%s: took %v", name, took)
			}
		})
	}
}

// What a response says of the key shows in whether the gate is open after it.
func TestWhatProvesAKey(t *testing.T) {
	for status, proves := range map[int]bool{
		101: true, 200: true, 204: true, 304: true, 400: true, 404: true, 409: true, 422: true,
		403: false, 408: false, 429: false, 500: false, 502: false, 503: false,
	} {
		requests(t, nil, func(t *testing.T, c *client) {
			c.get()
			if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
				t.Fatal(err)
			}
			c.api.setKeys("v2")
			c.api.paths = map[string]int{"/": status}
			c.refused()
			c.want("/", status)
			c.api.peak = 0
			parallel(10, func() { c.want("/", status) })
			if sideBySide := c.api.peak == 10; sideBySide != proves {
				t.Errorf("%d: requests go side by side after it: %v, want %v", status, sideBySide, proves)
			}
		})
	}
}

// Requests that the key has no right to must not stop the others, nor cost much;
// be it that a rotation is stuck, whose AWSPENDING might be what the API wants.
func TestRefusedForWantOfARight(t *testing.T) {
	for name, stuck := range map[string]bool{"no rotation": false, "a rotation that is stuck": true} {
		requests(t, nil, func(t *testing.T, c *client) {
			if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
				t.Fatal(err)
			}
			most := 60 * 8
			if stuck {
				c.pend("v3")
				most = 60 * 25
			}
			c.api.setKeys("v2")
			c.api.paths = map[string]int{"/admin": 401}
			noise, traffic := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			each := func(stop chan struct{}, pause time.Duration, f func()) {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(pause):
							f()
						}
					}
				})
			}
			for range 5 {
				each(noise, 10*time.Millisecond, func() { c.want("/admin", 401) })
				each(traffic, 20*time.Millisecond, func() {
					start := time.Now()
					c.get()
					if took := time.Since(start); took > 200*time.Millisecond {
						t.Errorf("%s: a request took %v beside others that are refused", name, took)
					}
				})
			}
			time.Sleep(time.Minute)
			if n := c.sm.Count("GetSecretValue"); n > most {
				t.Errorf("%s: %d reads in a minute, want %d at most", name, n, most)
			}
			close(noise)
			time.Sleep(time.Second)
			close(traffic)
			wg.Wait()
			if keys := c.api.tried(); len(keys) > 0 && keys[len(keys)-1] != "v2" {
				t.Errorf("%s: the last request was with %s", name, keys[len(keys)-1])
			}
		})
	}
}

// A rotation beside such requests is through after a second.
func TestRotationBesideRefusals(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		c.api.paths = map[string]int{"/admin": 401}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
					c.want("/admin", 401)
				}
			}
		})
		for _, key := range []string{"v2", "v3", "v4"} {
			time.Sleep(3 * time.Second)
			if _, err := c.sm.Rotate(t.Context(), "prod/db", key); err != nil {
				t.Fatal(err)
			}
			c.api.setKeys(key)
			time.Sleep(1200 * time.Millisecond)
			c.get()
		}
		close(stop)
		wg.Wait()
	})
}

// With a key that is no good every request is sent and gets the API's answer, and
// the service is asked a few times a second.
func TestNoKeyIsGood(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		c.api.setKeys("neither")
		c.sm.ResetCalls()
		sent := 0
		for range 60 * 5 {
			time.Sleep(200 * time.Millisecond)
			parallel(10, func() { c.want("/", 401) })
			sent += 10
		}
		if n := c.api.count(); n < sent || n > sent+20 {
			t.Errorf("%d requests refused for %d that were made", n, sent)
		}
		if n := c.sm.Count("GetSecretValue"); n > 60*6 {
			t.Errorf("%d reads in a minute, want a few a second", n)
		}
		c.api.setKeys("v1") // it is good again
		c.get()
	})
}

// Every version is refused: the caller gets the API's last answer as it is.
func TestLastAnswerIsTheCallers(t *testing.T) {
	for _, size := range []int{0, 10, 64 << 10, 64<<10 + 1, 1 << 20} {
		for _, said := range []bool{true, false} {
			closed := 0
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				resp := response(r, 401, strings.Repeat(keyOf(r)[1:], size))
				resp.Body = &body{Reader: resp.Body, closed: func() { closed++ }}
				if !said {
					resp.ContentLength = -1
				}
				return resp, nil
			})
			var logs bytes.Buffer
			opts := &retry.TransportOptions{Base: base, Logger: slog.New(slog.NewTextHandler(&logs, nil))}
			requests(t, opts, func(t *testing.T, c *client) {
				if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
					t.Fatal(err)
				}
				status, body, err := c.send(c.request("/"))
				if status != 401 || err != nil || body != strings.Repeat("1", size) { // v1 comes last
					t.Errorf("%d bytes: status %d, %d bytes %.10q, %v", size, status, len(body), body, err)
				}
				if closed != 2 {
					t.Errorf("%d bytes: %d of 2 bodies closed", size, closed)
				}
				for _, want := range []string{c.version(cache.Current), c.version(cache.Previous), "secret_id=prod/db"} {
					if !strings.Contains(logs.String(), want) {
						t.Errorf("%s is not in the log", want)
					}
				}
			})
		}
	}
}

// A body tells when it is closed.
type body struct {
	io.Reader
	closed func()
}

func (b *body) Close() error { b.closed(); return nil }

// While the API wants neither key and a rotation is under way, requests wait for
// its end.
func TestRequestsWaitForTheEndOfARotation(t *testing.T) {
	requests(t, nil, func(_ *testing.T, c *client) {
		c.get()
		v2 := c.pend("v2")
		c.api.setKeys("neither")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(c.get)
		}
		time.Sleep(time.Second)
		for range 20 {
			wg.Go(c.get)
		}
		time.Sleep(2 * time.Second)
		c.api.setKeys("v2")
		c.promote(v2)
		wg.Wait()
	})
	for patience, want := range map[time.Duration]time.Duration{-1: 0, time.Second: time.Second, 0: 10 * time.Second} {
		requests(t, &retry.TransportOptions{Patience: patience}, func(t *testing.T, c *client) {
			c.get()
			c.pend("v2")
			c.api.setKeys("neither")
			start := time.Now()
			c.want("/", 401)
			if took := time.Since(start); took < want || took > want+100*time.Millisecond {
				t.Errorf("patience %v: the answer came after %v, want %v", patience, took, want)
			}
			// A context ends it before that, with the reason.
			time.Sleep(5 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, _, err := c.send(c.request("/").WithContext(ctx))
			if failed, ok := errors.AsType[*retry.Error](err); patience >= 0 &&
				(!ok || !errors.Is(err, context.DeadlineExceeded) || len(failed.Tried) == 0 || !strings.Contains(err.Error(), "401 Unauthorized")) {
				t.Errorf("a context that ended meanwhile: %v", err)
			}
		})
	}
}

// Reads that hang hold up nobody who was not refused.
func TestReadsThatHang(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.api.paths = map[string]int{"/admin": 401}
		c.get()
		c.sm.Inject(smtest.Fault{Operation: "GetSecretValue", Delay: time.Hour})
		var wg sync.WaitGroup
		wg.Go(func() { c.want("/admin", 401) })
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		c.get()
		if took := time.Since(start); took > 3100*time.Millisecond {
			t.Errorf("a request waited %v for the reads of another", took)
		}
		start = time.Now()
		c.get()
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("the next request took %v", took)
		}
		wg.Wait()
	})
}

// A request whose context ends while it waits for another does not leave.
func TestContextOfARequest(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.get()
		if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
			t.Fatal(err)
		}
		c.api.setKeys("v2")
		var wg sync.WaitGroup
		wg.Go(c.get)
		time.Sleep(11 * time.Millisecond) // refused
		c.api.setLatency(500 * time.Millisecond)
		time.Sleep(9 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		closed := 0
		req := c.request("/").WithContext(ctx)
		req.Body = &body{Reader: req.Body, closed: func() { closed++ }}
		start := time.Now()
		_, _, err := c.send(req)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v, want the deadline after 100ms", err, time.Since(start))
		}
		if closed != 1 {
			t.Errorf("the request's body was closed %d times, want 1", closed)
		}
		wg.Wait()
		c.wantKeys("v1", "v1", "v2")

		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, _, err := c.send(c.request("/").WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Errorf("a request that was cancelled before: %v", err)
		}
		c.get()
	})
}

// One request meets three rotations: the third refusal is its answer. It says
// nothing of what there is now, so the next request looks.
func TestThreeRotationsInARequest(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		rt := retry.NewTransport(c.c, "prod/db", "api.example.com", bearer, &retry.TransportOptions{
			Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				next := map[string]string{"v1": "v2", "v2": "v3", "v3": "v4"}[keyOf(r)]
				if next == "" {
					return response(r, 200, ""), nil
				}
				if _, err := c.sm.Rotate(t.Context(), "prod/db", next); err != nil {
					t.Error(err)
				}
				return response(r, 401, ""), nil
			}),
		})
		for _, want := range []int{401, 200} {
			if resp, err := rt.RoundTrip(c.request("/")); err != nil || resp.StatusCode != want {
				t.Errorf("%v, %v, want %d", resp, err, want)
			}
		}
	})
}

func TestBodiesOfRequests(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(r *http.Request, open func() io.ReadCloser)
		status  int
		got     string
	}{
		"none": {func(r *http.Request, _ func() io.ReadCloser) {
			r.Body, r.GetBody = nil, nil
		}, 200, "200 "},
		"http.NoBody": {func(r *http.Request, _ func() io.ReadCloser) {
			r.Body, r.GetBody = http.NoBody, nil
		}, 200, "200 "},
		"with GetBody": {func(r *http.Request, open func() io.ReadCloser) {
			r.Body, r.GetBody = open(), func() (io.ReadCloser, error) { return open(), nil }
		}, 200, "200 hello"},
		"without GetBody": {func(r *http.Request, open func() io.ReadCloser) {
			r.Body, r.GetBody = open(), nil
		}, 401, "401 hello"},
		"with a GetBody that fails": {func(r *http.Request, open func() io.ReadCloser) {
			r.Body, r.GetBody = open(), func() (io.ReadCloser, error) { return nil, errors.New("gone") }
		}, 401, "401 hello"},
	} {
		requests(t, nil, func(t *testing.T, c *client) {
			c.get()
			if _, err := c.sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
				t.Fatal(err)
			}
			c.api.setKeys("v2")
			opened, closed := 0, 0
			r := c.request("/")
			test.prepare(r, func() io.ReadCloser {
				opened++
				return &body{Reader: strings.NewReader("hello"), closed: func() { closed++ }}
			})
			status, got, err := c.send(r)
			if status != test.status || got != test.got || err != nil {
				t.Errorf("body %s: %d, %q, %v, want %d, %q", name, status, got, err, test.status, test.got)
			}
			if closed != opened {
				t.Errorf("body %s: %d of %d closed", name, closed, opened)
			}
			// Whoever could not send again has told the others.
			c.api.tried()
			c.get()
			c.wantKeys("v2")
		})
	}
}

// Whatever goes wrong with the request that the others wait for: its body is
// closed, as is the response's, the others go on at once, and the error names the
// secret and shows no value.
func TestRequestsThatFail(t *testing.T) {
	errBroken := errors.New("broken")
	type hooks struct {
		set      func(*http.Request, *cache.Secret) error
		base     func(*http.Request) (*http.Response, error)
		rejected func(*http.Response) bool
	}
	for name, test := range map[string]struct {
		fail func(h *hooks)
		want string
	}{
		"set fails":  {func(h *hooks) { h.set = func(*http.Request, *cache.Secret) error { return errBroken } }, `secret "prod/db" (version `},
		"set panics": {func(h *hooks) { h.set = func(*http.Request, *cache.Secret) error { panic(errBroken) } }, "panic: broken"},
		"the base fails": {func(h *hooks) {
			next := h.base
			h.base = func(r *http.Request) (*http.Response, error) { _, _ = next(r); return nil, errBroken }
		}, "broken"},
		"the base panics": {func(h *hooks) {
			next := h.base
			h.base = func(r *http.Request) (*http.Response, error) { _, _ = next(r); panic(errBroken) }
		}, "panic: broken"},
		"the base gives both": {func(h *hooks) {
			next := h.base
			h.base = func(r *http.Request) (*http.Response, error) { resp, _ := next(r); return resp, errBroken }
		}, "broken"},
		"the base gives neither": {func(h *hooks) {
			next := h.base
			h.base = func(r *http.Request) (*http.Response, error) { _, _ = next(r); return nil, nil }
		}, "roundTripper returned neither a response nor an error"},
		"Rejected panics": {func(h *hooks) { h.rejected = func(*http.Response) bool { panic(errBroken) } }, "panic: broken"},
	} {
		bubble(t, nil, func(t *testing.T, w *world) {
			api := &api{latency: 10 * time.Millisecond, accepts: []string{"v2"}}
			opened, closed, responses, done := 0, 0, 0, 0
			good := hooks{set: bearer, rejected: func(*http.Response) bool { return false }}
			good.base = func(r *http.Request) (*http.Response, error) {
				resp, err := api.RoundTrip(r)
				if err == nil {
					responses++
					resp.Body = &body{Reader: resp.Body, closed: func() { done++ }}
				}
				return resp, err
			}
			h := good
			c := &client{world: w, api: api, rt: retry.NewTransport(w.c, "prod/db", "api.example.com",
				func(r *http.Request, s *cache.Secret) error { return h.set(r, s) },
				&retry.TransportOptions{
					Base:     roundTripper(func(r *http.Request) (*http.Response, error) { return h.base(r) }),
					Rejected: func(r *http.Response) bool { return h.rejected(r) },
				})}
			send := func(rewindable bool) (status int, err error) {
				defer func() {
					if p := recover(); p != nil {
						err = fmt.Errorf("panic: %v", p)
					}
				}()
				r := c.request("/")
				opened++
				r.Body, r.GetBody = &body{Reader: r.Body, closed: func() { closed++ }}, nil
				if rewindable {
					r.GetBody = func() (io.ReadCloser, error) {
						opened++
						return &body{Reader: strings.NewReader("hello"), closed: func() { closed++ }}, nil
					}
				}
				status, _, err = c.send(r)
				return status, err
			}
			if status, err := send(false); status != 401 || err != nil {
				t.Fatalf("%d, %v", status, err)
			}
			w.sm.Put("prod/db", "v2") // the next one leads
			test.fail(&h)
			_, err := send(true)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %q in it", name, err, test.want)
			}
			if strings.Contains(fmt.Sprint(err), "v2") {
				t.Errorf("%s: the key is in %v", name, err)
			}
			if opened != closed {
				t.Errorf("%s: %d of %d bodies of requests closed", name, closed, opened)
			}
			if unseen := strings.HasPrefix(name, "the base") && name != "the base gives both"; !unseen && responses != done {
				t.Errorf("%s: %d of %d bodies of responses closed", name, done, responses)
			}
			h = good
			start := time.Now()
			c.get()
			if took := time.Since(start); took > 50*time.Millisecond {
				t.Errorf("%s: the next request took %v", name, took)
			}
		})
	}
}

func TestSecretThatCannotBeRead(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.sm.Inject(smtest.Fault{Err: smtest.AccessDenied})
		closed := 0
		r := c.request("/")
		r.Body = &body{Reader: r.Body, closed: func() { closed++ }}
		_, _, err := c.send(r)
		if failed, ok := errors.AsType[*cache.Error](err); !ok || failed.SecretID != "prod/db" || closed != 1 {
			t.Errorf("%v, body closed %d times; want the cache's error, and once", err, closed)
		}
		c.c.Close()
		if _, _, err := c.send(c.request("/")); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		c.wantKeys()
	})
}

// A refusal that is not a 401, and that the body tells.
func TestRejected(t *testing.T) {
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if keyOf(r) == "v1" {
			return response(r, 400, `{"reason":"API_KEY_INVALID"}`), nil
		}
		return response(r, 400, `{"reason":"SYNTAX"}`), nil
	})
	rejected := func(resp *http.Response) bool {
		if resp.StatusCode != 400 {
			return false
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(b))
		return err == nil && bytes.Contains(b, []byte("API_KEY_INVALID"))
	}
	var stats retry.Stats
	var events []retry.Event
	opts := &retry.TransportOptions{
		Base: base, Rejected: rejected, Stats: &stats,
		OnEvent: func(e retry.Event) { events = append(events, e) },
	}
	requests(t, opts, func(t *testing.T, c *client) {
		c.pend("v2")
		if status, body, err := c.send(c.request("/")); status != 400 || body != `{"reason":"SYNTAX"}` || err != nil {
			t.Errorf("%d, %q, %v", status, body, err)
		}
		synctest.Wait()
		if stats.Refused.Load() != 1 || stats.Accepted.Load() != 1 || stats.Logins.Load() != 2 {
			t.Errorf("%d requests, %d refused, %d accepted", stats.Logins.Load(), stats.Refused.Load(), stats.Accepted.Load())
		}
		i := slices.IndexFunc(events, func(e retry.Event) bool { return e.Kind == retry.Refused })
		if i < 0 || events[i].Code != "400" || events[i].Target != "api.example.com" || events[i].Err.Error() != "400 Bad Request" {
			t.Errorf("events: %+v", events)
		}
	})
}

// Which requests get the key.
func TestOnlyRequestsToTheHostGetTheKey(t *testing.T) {
	const key, none, fails = "the key", "no key", "an error"
	for host, urls := range map[string]map[string]string{
		"api.example.com": {
			"https://api.example.com/x":          key,
			"https://API.Example.COM/x":          key,
			"https://api.example.com:443/x":      key,
			"https://user:pw@api.example.com/x":  key,
			"https://api.example.com:8443/x":     none,
			"https://api.example.com.evil.org/x": none,
			"https://sub.api.example.com/x":      none,
			"https://example.com/x":              none,
			"https://evil.org/api.example.com":   none,
			"https://api.example.com@evil.org/":  none,
			"https://api.e\u017fample.com/":      none,
			"http://api.example.com/x":           fails,
			"http://api.example.com:80/x":        fails,
			"http://api.example.com:8080/x":      none,
			"http://evil.org/x":                  none,
			"ftp://api.example.com/x":            none,
		},
		"API.example.com:443": {
			"https://api.example.com/x":     key,
			"https://api.example.com:443/x": key,
			"http://api.example.com/x":      fails,
		},
		"api.example.com:8443": {
			"https://api.example.com:8443/x": key,
			"https://api.example.com/x":      none,
			"http://api.example.com:8443/x":  fails,
			"http://api.example.com/x":       none,
		},
		"b\u00fccher.example":     {"https://b\u00fccher.example/": key, "https://xn--bcher-kva.example/": none},
		"kube.example":            {"https://kube.example/": key, "https://\u212aube.example/": none},
		"localhost":               {"https://localhost/": key, "http://localhost/": key, "http://localhost:8080/": none},
		"localhost:8080":          {"http://localhost:8080/": key, "https://localhost:8080/": key, "http://localhost/": none},
		"127.0.0.1:443":           {"https://127.0.0.1/": key, "http://127.0.0.1/": none, "http://127.0.0.1:443/": key},
		"127.0.0.1":               {"http://127.0.0.1/": key, "http://127.0.0.2/": none},
		"[::1]:8080":              {"http://[::1]:8080/": key},
		"::1":                     {"http://[::1]/": key, "https://[::1]/": key},
		"10.0.0.1":                {"https://10.0.0.1/": key, "http://10.0.0.1/": fails},
		"localhost.evil.org":      {"http://localhost.evil.org/": fails},
		"127.0.0.1.evil.org":      {"http://127.0.0.1.evil.org/": fails},
		"":                        {"https://api.example.com/": fails, "https:///": fails},
		"https://api.example.com": {"https://api.example.com/": fails, "https://evil.org/": fails},
		"api.example.com/v1":      {"https://api.example.com/v1": fails},
		"user@api.example.com":    {"https://api.example.com/": fails},
		"*.example.com":           {"https://api.example.com/": fails},
		"api.example.com:http":    {"https://api.example.com/": fails},
		"api example com":         {"https://api.example.com/": fails},
	} {
		bubble(t, nil, func(t *testing.T, w *world) {
			for url, want := range urls {
				got := fails
				var sent *http.Request
				rt := retry.NewTransport(w.c, "prod/db", host, bearer, &retry.TransportOptions{
					Base: roundTripper(func(r *http.Request) (*http.Response, error) {
						if got, sent = none, r; keyOf(r) == "v1" {
							got = key
						}
						return response(r, 200, ""), nil
					}),
				})
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := rt.RoundTrip(r)
				if got != want || err == nil && want == fails {
					t.Errorf("host %q: %s gets %s (%v), want %s", host, url, got, err, want)
				}
				if len(r.Header) > 0 || got == none && sent != r {
					t.Errorf("host %q: %s is changed", host, url)
				}
				if err == nil && resp.Request != r {
					t.Errorf("host %q: %s: the response's request is not the caller's", host, url)
				}
			}
		})
	}
}

// A readerFunc is an empty reader that tells when it is read.
type readerFunc func()

func (f readerFunc) Read([]byte) (int, error) { f(); return 0, io.EOF }

func TestOddRequests(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		r := c.request("/")
		r.Header = nil
		if status, _, err := c.send(r); status != 200 || err != nil || r.Header != nil {
			t.Errorf("no header: %d, %v, %v", status, err, r.Header)
		}
		// The trailer is filled in while the body is read.
		r = c.request("/")
		r.Trailer = http.Header{"Digest": nil}
		r.Body = &body{Reader: io.MultiReader(r.Body, readerFunc(func() { r.Trailer.Set("Digest", "d") })), closed: func() {}}
		rt := retry.NewTransport(c.c, "prod/db", "api.example.com", bearer, &retry.TransportOptions{
			Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := c.api.RoundTrip(r)
				if r.Trailer.Get("Digest") != "d" {
					t.Error("what the caller put into the trailer is lost")
				}
				return resp, err
			}),
		})
		if _, err := rt.RoundTrip(r); err != nil {
			t.Error(err)
		}
		r = c.request("/")
		r.URL = nil
		rt = retry.NewTransport(c.c, "prod/db", "api.example.com", bearer, nil)
		if _, err := rt.RoundTrip(r); err == nil || !strings.Contains(err.Error(), "nil Request.URL") {
			t.Errorf("no URL: %v, want http.DefaultTransport's error", err)
		}
		noBody := roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Request: r}, nil
		})
		rt = retry.NewTransport(c.c, "prod/db", "api.example.com", bearer, &retry.TransportOptions{Base: noBody})
		if resp, err := rt.RoundTrip(c.request("/")); err != nil || resp.StatusCode != 401 || resp.Body == nil {
			t.Errorf("a response without a body: %v, %v", resp, err)
		}
	})
}

// One client, two hosts, two keys.
func TestTransportOverTransport(t *testing.T) {
	requests(t, nil, func(t *testing.T, c *client) {
		c.sm.Put("prod/other", "other")
		both := retry.NewTransport(c.c, "prod/other", "other.example.com", bearer, &retry.TransportOptions{Base: c.rt})
		for url, want := range map[string]string{"https://other.example.com/": "other", "https://api.example.com/": "v1", "https://example.com/": ""} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := both.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			c.wantKeys(want)
		}
	})
}

func TestNewTransportWithoutWhatItNeeds(t *testing.T) {
	for name, call := range map[string]func(){
		"cache": func() { retry.NewTransport(nil, "s", "h", bearer, nil) },
		"set":   func() { retry.NewTransport(&cache.Cache{}, "s", "h", nil, nil) },
	} {
		func() {
			defer func() {
				if got, ok := recover().(string); !ok || !strings.Contains(got, "retry: NewTransport needs a cache and a function") {
					t.Errorf("no %s: %q", name, got)
				}
			}()
			call()
		}()
	}
}

// idle is a base that can close its idle connections.
type idle struct {
	http.RoundTripper
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

func TestCloseIdleConnections(t *testing.T) {
	base := &idle{}
	requests(t, &retry.TransportOptions{Base: base}, func(t *testing.T, c *client) {
		(&http.Client{Transport: c.rt}).CloseIdleConnections()
		if base.closed != 1 {
			t.Errorf("the base closed its connections %d times, want 1", base.closed)
		}
	})
	requests(t, nil, func(_ *testing.T, c *client) { c.rt.CloseIdleConnections() }) // the base cannot
}

// Nothing that a Transport prints or gives back shows the key, also if set puts it
// into the URL.
func TestTransportShowsNoKey(t *testing.T) {
	const key = "sk_live_4711"
	var logs, events bytes.Buffer
	requests(t, nil, func(t *testing.T, c *client) {
		c.sm.Put("prod/db", key)
		api := roundTripper(func(r *http.Request) (*http.Response, error) {
			resp := response(r, 401, "no")
			resp.Status = "401 I do not know " + r.URL.Query().Get("key")
			if r.URL.Path == "/moved" {
				resp = response(r, 307, "")
				resp.Header.Set("Location", "https://elsewhere.example.com/")
			}
			if r.URL.Host != "api.example.com" {
				return nil, fmt.Errorf("no way to %s: %v", r.URL, r.Header)
			}
			return resp, nil
		})
		inURL := func(r *http.Request, s *cache.Secret) error {
			q := r.URL.Query()
			q.Set("key", s.Text())
			r.URL.RawQuery = q.Encode()
			return bearer(r, s)
		}
		rt := retry.NewTransport(c.c, "prod/db", "api.example.com", inURL, &retry.TransportOptions{
			Base: api, Logger: slog.New(slog.NewTextHandler(&logs, nil)),
			OnEvent: func(e retry.Event) { fmt.Fprintf(&events, "%+v\n", e) },
		})
		httpClient := &http.Client{Transport: rt}
		resp, err := httpClient.Get("https://api.example.com/")
		if err != nil {
			t.Fatal(err)
		}
		leaktest.Check(t, key, fmt.Sprintf("%+v %+v", resp.Request.URL, resp.Request.Header))
		_, err = httpClient.Get("https://api.example.com/moved")
		if err == nil {
			t.Error("no error from elsewhere")
		}
		leaktest.Check(t, key, fmt.Sprintf("%v", err))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.pend("another")
		time.Sleep(time.Minute)
		_, err = rt.RoundTrip(c.request("/").WithContext(ctx))
		if failed, ok := errors.AsType[*retry.Error](err); !ok {
			t.Errorf("%v, want an error of this package", err)
		} else {
			leaktest.Check(t, key, failed)
		}
		synctest.Wait()
		leaktest.Check(t, key, logs.String()+events.String())
		leaktest.Check(t, key, rt)
	})
}

// Sixteen callers make requests all the time while rotation follows rotation.
// No request may be refused for its caller.
func TestRotationsUnderRequests(t *testing.T) {
	for seed := range uint64(4) {
		requests(t, nil, func(t *testing.T, c *client) {
			rnd := rand.New(rand.NewPCG(seed, seed))
			pause := func(longest time.Duration) { time.Sleep(time.Duration(rnd.Int64N(int64(longest) + 1))) }
			c.api.setLatency(time.Duration(1+rnd.IntN(50)) * time.Millisecond)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for i := range 16 {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(time.Duration(rnd.IntN(20)) * time.Millisecond):
							c.get()
						}
					}
				})
			}
			for n := range 5 {
				pause(5 * time.Second)
				next := string(rune('a' + n))
				version := c.pend(next)
				pause(time.Second)
				c.api.count()
				c.api.setKeys(next)
				pause(5 * time.Second)
				c.promote(version)
				time.Sleep(3 * time.Second)
				if got := c.api.count(); got > 16+1 {
					t.Errorf("seed %d, rotation %d: %d refused requests, want those in flight (16 at most) and one", seed, n, got)
				}
			}
			close(stop)
			wg.Wait()
		})
	}
}

// What follows is over real connections.

// secret returns a Cache over a secret prod/db = v1.
func secret(t *testing.T) (*smtest.Server, *cache.Cache) {
	t.Helper()
	sm := smtest.New(nil)
	t.Cleanup(sm.Close)
	sm.Put("prod/db", "v1")
	c, err := cache.New(sm.Client(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return sm, c
}

// serve starts a server for TLS, and returns its host.
func serve(t *testing.T, h http.Handler) (srv *httptest.Server, host string) {
	t.Helper()
	srv = httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = strings.HasSuffix(t.Name(), "HTTP/2")
	srv.StartTLS()
	t.Cleanup(srv.Close)
	t.Cleanup(func() { noGoroutines(t) })
	return srv, strings.TrimPrefix(srv.URL, "https://")
}

// noGoroutines wants no goroutine to be left in this package's code.
func noGoroutines(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	for range 100 {
		b.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "keyturn/retry.") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("goroutines are left:\n%s", b.String())
}

func TestKeyRotationOverSockets(t *testing.T) {
	for _, protocol := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			sm, c := secret(t)
			server := &api{latency: 20 * time.Millisecond, accepts: []string{"v1"}}
			srv, host := serve(t, server)
			base := srv.Client().Transport.(*http.Transport).Clone()
			base.MaxIdleConnsPerHost = 50
			rt := retry.NewTransport(c, "prod/db", host, bearer, &retry.TransportOptions{Base: base})
			httpClient := &http.Client{Transport: rt}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			var sent atomic.Int64
			for i := range 50 {
				text := fmt.Sprintf("hello %d", i)
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						resp, err := httpClient.Post(srv.URL, "text/plain", strings.NewReader(text))
						if err != nil {
							t.Error(err)
							return
						}
						got, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if err != nil || string(got) != "200 "+text {
							t.Errorf("%q, %v, want %q", got, err, "200 "+text)
							return
						}
						sent.Add(1)
					}
				})
			}
			for n := range 3 {
				key := fmt.Sprint("key-", n)
				if _, err := sm.Rotate(t.Context(), "prod/db", key); err != nil {
					t.Fatal(err)
				}
				server.count()
				server.setKeys(key)
				for end := sent.Load() + 200; sent.Load() < end && !t.Failed(); {
					time.Sleep(10 * time.Millisecond)
				}
				if refused := server.count(); refused > 50+1 {
					t.Errorf("%d refused requests, want those in flight (50 at most) and one", refused)
				}
			}
			close(stop)
			wg.Wait()
			httpClient.CloseIdleConnections()
			t.Logf("%d requests", sent.Load())
		})
	}
}

// A client follows redirects between hosts: what it takes along has no key.
func TestRedirects(t *testing.T) {
	_, c := secret(t)
	type arrival struct{ url, key, other string }
	var mu sync.Mutex
	var arrivals []arrival
	handler := func(scheme string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			arrivals = append(arrivals, arrival{scheme + "://" + r.Host + r.URL.Path, keyOf(r) + r.Header.Get("X-Api-Key"), r.Header.Get("X-Other")})
			mu.Unlock()
			if to := r.URL.Query().Get("to"); to != "" {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		})
	}
	srv, _ := serve(t, handler("https"))
	plain := httptest.NewServer(handler("http"))
	defer plain.Close()
	// All names lead to the two servers.
	base := srv.Client().Transport.(*http.Transport).Clone()
	base.TLSClientConfig.InsecureSkipVerify = true
	base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := srv.Listener.Addr().String()
		if strings.HasSuffix(addr, ":80") {
			to = plain.Listener.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
	both := func(r *http.Request, s *cache.Secret) error {
		r.Header.Set("X-Api-Key", s.Text())
		return bearer(r, s)
	}
	httpClient := &http.Client{Transport: retry.NewTransport(c, "prod/db", "api.example.com", both, &retry.TransportOptions{Base: base})}
	defer httpClient.CloseIdleConnections()
	const target = "https://api.example.com/"
	for _, to := range []string{
		"https://api.example.com/b", "https://API.example.com:443/b", "https://other.example.com/b", "https://sub.api.example.com/b",
		"https://api.example.com:8443/b", "http://api.example.com/b", "http://other.example.com/b", "http://127.0.0.1/b",
	} {
		for _, back := range []bool{false, true} {
			arrivals = nil
			url := target + "a?to=" + to
			if back {
				url += "?to=" + target + "c"
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Other", "the caller's own")
			resp, err := httpClient.Do(req)
			if err != nil {
				t.Errorf("to %s: %v", to, err)
				continue
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(got) != "hello" || err != nil {
				t.Errorf("to %s: body %q, %v", to, got, err)
			}
			ours := strings.HasPrefix(strings.ToLower(to), "https://api.example.com/") || strings.Contains(to, ":443/")
			want := []string{"v1v1", map[bool]string{true: "v1v1"}[ours]}
			if back {
				want = append(want, "v1v1")
			}
			for i, a := range arrivals {
				if i >= len(want) || a.key != want[i] || a.other != "the caller's own" {
					t.Errorf("to %s, back %v: request %d: %+v, want key %q", to, back, i+1, a, want)
				}
			}
			if len(arrivals) != len(want) {
				t.Errorf("to %s, back %v: %d requests", to, back, len(arrivals))
			}
			if header := fmt.Sprint(req.Header, resp.Request.Header); strings.Contains(header, "v1") {
				t.Errorf("to %s: the key is in a request of the caller's: %s", to, header)
			}
		}
	}

	// A request that is itself for the host over plain http does not leave.
	arrivals = nil
	_, err := httpClient.Get("http://api.example.com/")
	if err == nil || !strings.Contains(err.Error(), `secret "prod/db" is not sent to api.example.com over plain http`) || len(arrivals) > 0 {
		t.Errorf("over plain http: %v, %d requests", err, len(arrivals))
	}
}

// The response of an accepted request is the caller's from its headers on.
func TestStreamedResponse(t *testing.T) {
	const size = 8 << 20
	sm, c := secret(t)
	goOn := make(chan struct{})
	srv, host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if keyOf(r) != "v2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		got, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = w.Write(got)
	}))
	rt := retry.NewTransport(c, "prod/db", host, bearer, &retry.TransportOptions{Base: srv.Client().Transport})
	defer rt.CloseIdleConnections()
	sm.Put("prod/db", "v2")
	payload := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	resp, err := (&http.Client{Transport: rt}).Post(srv.URL, "text/plain", bytes.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	close(goOn) // the headers were there before
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%d bytes, %v, want the %d that were sent", len(got), err, len(payload))
	}
}

// What is left of a refused response is read, so that its connection serves again;
// but not for ever.
func TestBodyOfARefusedResponse(t *testing.T) {
	for name, test := range map[string]struct {
		write  func(w http.ResponseWriter)
		reused bool
	}{
		"short": {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 10<<10)) }, true},
		"none":  {func(http.ResponseWriter) {}, true},
		"long": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100000000")
			w.WriteHeader(http.StatusUnauthorized)
			for range 100000000 / 1000 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}, false},
		"endless": {func(w http.ResponseWriter) {
			for {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			sm, c := secret(t)
			srv, host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if keyOf(r) == "v2" {
					return
				}
				if name != "long" {
					w.WriteHeader(http.StatusUnauthorized)
				}
				test.write(w)
			}))
			rt := retry.NewTransport(c, "prod/db", host, bearer, &retry.TransportOptions{Base: srv.Client().Transport})
			defer rt.CloseIdleConnections()
			if _, err := c.Get(t.Context(), "prod/db"); err != nil {
				t.Fatal(err)
			}
			sm.Put("prod/db", "v2")
			var reused []bool
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(info httptrace.GotConnInfo) { reused = append(reused, info.Reused) },
			})
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if want := []bool{false, test.reused}; resp.StatusCode != 200 || !slices.Equal(reused, want) {
				t.Errorf("status %d, connections reused: %v, want %v", resp.StatusCode, reused, want)
			}
		})
	}
}

// The base has one connection: a request that waits must not sit on it.
func TestOneConnection(t *testing.T) {
	sm, c := secret(t)
	server := &api{accepts: []string{"v1"}}
	srv, host := serve(t, server)
	base := srv.Client().Transport.(*http.Transport).Clone()
	base.MaxConnsPerHost = 1
	rt := retry.NewTransport(c, "prod/db", host, bearer, &retry.TransportOptions{Base: base})
	defer rt.CloseIdleConnections()
	httpClient := &http.Client{Transport: rt}
	get := func() {
		resp, err := httpClient.Post(srv.URL, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	get()
	if _, err := sm.Rotate(t.Context(), "prod/db", "v2"); err != nil {
		t.Fatal(err)
	}
	server.setKeys("v2")
	start := time.Now()
	parallel(20, get)
	// A request that held the connection while it waits for another's verdict would
	// keep that from coming, for a second each.
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("20 requests took %v", took)
	}
}
