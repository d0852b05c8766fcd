package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// flying returns how many goroutines of the cache there are: they make its calls.
// Their number in all would not do, others come and go.
func flying() int {
	synctest.Wait()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("cache.(*entry).runWith(")) + bytes.Count(stacks, []byte("cache.(*prefetch).fetchAll("))
}

// quiet reports, as an error of t, a goroutine of the cache.
func quiet(t *testing.T) {
	t.Helper()
	if n := flying(); n > 0 {
		t.Errorf("%d goroutines run behind the read", n)
	}
}

func TestServerlessMode(t *testing.T) {
	for _, test := range []struct {
		mode           cache.Mode
		function, init string
		want           bool
	}{
		{cache.Auto, "", "", false},
		{cache.Auto, "f", "", true},
		{cache.Auto, "f", "on-demand", true},
		{cache.Auto, "f", "provisioned-concurrency", true}, // frozen between requests too
		{cache.Auto, "f", "snap-start", true},
		{cache.Auto, "f", "lambda-managed-instances", false},
		{cache.Auto, "", "on-demand", false},
		{cache.On, "", "", true},
		{cache.On, "f", "lambda-managed-instances", true},
		{cache.Off, "f", "on-demand", false},
	} {
		t.Run(fmt.Sprint(test.mode, " ", test.function, " ", test.init), func(t *testing.T) {
			t.Setenv("AWS_LAMBDA_FUNCTION_NAME", test.function)
			t.Setenv("AWS_LAMBDA_INITIALIZATION_TYPE", test.init)
			bubble(t, &cache.Options{Serverless: test.mode}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
				get(t, c, "v1")
				time.Sleep(5*time.Minute - time.Nanosecond)
				srv.Inject(smtest.Fault{Delay: time.Second})
				get(t, c, "v1")
				if background := flying() > 0; background == test.want {
					t.Errorf("the value is refreshed behind the read: %v", background)
				}
			})
		})
	}
}

// Until its TTL a value is returned; the read after that waits, and nothing is
// left behind it.
func TestServerlessRefreshesOnTheRead(t *testing.T) {
	bubble(t, &cache.Options{Serverless: cache.On}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		quiet(t)
		srv.Put("prod/db", "v2")
		time.Sleep(5*time.Minute - time.Nanosecond)
		get(t, c, "v1")
		h := c.Handle("prod/db")
		if s, ok := h.Peek(); !ok || s.Text() != "v1" || h.Status().State != cache.Fresh {
			t.Errorf("Peek = %v, %v, %s", s, ok, h.Status().State)
		}
		calls(t, srv, 1)
		time.Sleep(time.Nanosecond)
		if _, ok := h.Peek(); !ok || h.Status().State != cache.Expired {
			t.Errorf("Peek beyond the TTL: %v, %s", ok, h.Status().State)
		}
		quiet(t)
		calls(t, srv, 1)
		srv.Inject(smtest.Fault{Delay: 500 * time.Millisecond})
		start := time.Now()
		get(t, c, "v2")
		if waited := time.Since(start); waited != 500*time.Millisecond {
			t.Errorf("the read waited %v for the refresh", waited)
		}
		quiet(t)
		calls(t, srv, 2)
	})
}

// The wall clock counts where the monotonic one stood still.
func TestServerlessFreeze(t *testing.T) {
	for _, test := range []struct {
		mode   cache.Mode
		frozen time.Duration
		want   string
	}{
		{cache.On, 5 * time.Minute, "v2"},
		{cache.On, 4 * time.Minute, "v1"},
		{cache.Off, time.Hour, "v1"}, // the monotonic clock alone
	} {
		bubble(t, &cache.Options{Serverless: test.mode}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			s := get(t, c, "v1")
			srv.Put("prod/db", "v2")
			c.Freeze(test.frozen)
			get(t, c, test.want)
			age := test.frozen
			if test.mode == cache.Off {
				age = 0
			}
			if got := s.Age().Truncate(time.Second); got != age {
				t.Errorf("frozen for %v: Age = %v, want %v", test.frozen, got, age)
			}
		})
	}
}

// A handler that is frozen with a call on the way finds its connection dead: the
// call is given up, and another is made.
func TestServerlessFreezeAbandonsAFlight(t *testing.T) {
	bubble(t, &cache.Options{Serverless: cache.On, FetchTimeout: time.Hour}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		remove := srv.Inject(smtest.Fault{Delay: 30 * time.Minute})
		var wg sync.WaitGroup
		start := time.Now()
		wg.Go(func() { // frozen while it waits, with its flight
			get(t, c, "v1")
			if waited := time.Since(start); waited > time.Second {
				t.Errorf("the reader of the flight that was given up waited %v", waited)
			}
		})
		synctest.Wait()
		remove()
		c.Freeze(time.Second)
		c.Freeze(time.Nanosecond) // a second alone may be the clock's own doing
		get(t, c, "v1")
		wg.Wait()
		calls(t, srv, 2)
	})
}

// A call ends when its last reader has left, and not before.
func TestServerlessLastReaderEndsTheCall(t *testing.T) {
	bubble(t, &cache.Options{Serverless: cache.On}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(smtest.Fault{Delay: 5 * time.Second})
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
				defer cancel()
				if _, err := c.Get(ctx, "prod/db"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Get: %v", err)
				}
			})
		}
		time.Sleep(2500 * time.Millisecond)
		if n := flying(); n != 1 {
			t.Errorf("%d calls while the last reader waits", n)
		}
		wg.Wait()
		quiet(t)
		calls(t, srv, 1)

		// Its end is nobody else's: the next reader makes a call of its own.
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _ = c.Get(ctx, "prod/db")
		})
		wg.Go(func() { get(t, c, "v1") })
		wg.Wait()
		quiet(t)
		calls(t, srv, 2)
	})
}

// A service that needs 3.5 seconds to answer is heard in the end: the reads wait
// 1 s, 2 s, 4 s if need be, with pauses in which they wait for nothing.
func TestServerlessSlowService(t *testing.T) {
	var b bytes.Buffer
	opts := &cache.Options{Serverless: cache.On, Logger: slog.New(slog.NewTextHandler(&b, nil))}
	oneAttempt(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.Put("prod/db", "v2")
		srv.ResetCalls()
		srv.Inject(smtest.Fault{Delay: 3500 * time.Millisecond})
		var waits []time.Duration
		begin := time.Now()
		for {
			start := time.Now()
			s, err := c.Get(t.Context(), "prod/db")
			if err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(start); waited > 0 {
				waits = append(waits, waited)
			}
			quiet(t)
			if s.Text() == "v2" {
				break
			}
			if time.Since(begin) > 5*time.Minute {
				t.Fatal("a service that answers after 3.5 seconds was never heard")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if fmt.Sprint(waits) != "[1s 2s 3.5s]" {
			t.Errorf("the reads that waited waited %v", waits)
		}
		calls(t, srv, 3)
		for _, line := range []string{"level=WARN msg=\"secret not read\"", "no answer within 1s", "level=WARN msg=\"stale secret served\"", "level=INFO msg=\"secret read again\""} {
			if n := strings.Count(b.String(), line); n == 0 {
				t.Errorf("the log does not say %q:\n%s", line, &b)
			}
		}
	})
}

// A service that fails is asked at most once in each back-off, by a read that
// waits for it.
func TestServerlessOutage(t *testing.T) {
	oneAttempt(t, &cache.Options{Serverless: cache.On}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.ResetCalls()
		remove := srv.Inject(smtest.Fault{Err: smtest.InternalServiceError, Delay: 100 * time.Millisecond})
		begin := time.Now()
		for i := 0; time.Since(begin) < 45*time.Second; i++ {
			get(t, c, "v1")
			if i%100 == 0 {
				quiet(t)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := srv.Count("GetSecretValue"); n < 6 || n > 8 {
			t.Errorf("%d calls in 45s, want those of the back-off", n)
		}
		remove()
		srv.Put("prod/db", "v2")
		time.Sleep(time.Minute)
		get(t, c, "v2")
	})
}

// StaleWait off means that reads wait for nothing, but where nothing runs behind
// them they would never bring anything new.
func TestServerlessWithoutStaleWait(t *testing.T) {
	bubble(t, &cache.Options{Serverless: cache.On, StaleWait: -1}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		srv.Put("prod/db", "v2")
		time.Sleep(5 * time.Minute)
		get(t, c, "v2")
	})
}

func TestServerlessPrefetch(t *testing.T) {
	bubble(t, &cache.Options{Serverless: cache.On}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Put("prod/api", "key")
		if err := c.Prefetch(t.Context(), "prod/db", "prod/api"); err != nil {
			t.Fatal(err)
		}
		quiet(t)
		get(t, c, "v1")
		calls(t, srv, 0)

		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{Delay: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Prefetch(ctx, "prod/db", "prod/api"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Prefetch: %v", err)
		}
		quiet(t)
	})
}

// OnChange is the reader's to call: behind it nothing runs.
func TestServerlessOnChange(t *testing.T) {
	var seen []string
	opts := &cache.Options{Serverless: cache.On, OnChange: func(from, to *cache.Secret) {
		seen = append(seen, from.Text()+"->"+to.Text())
	}}
	bubble(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		srv.Put("prod/db", "v2")
		time.Sleep(5 * time.Minute)
		get(t, c, "v2")
		if fmt.Sprint(seen) != "[v1->v2]" {
			t.Errorf("by the end of the read OnChange has heard of %v", seen)
		}
	})
}
