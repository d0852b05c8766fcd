package cache_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// oneAttempt runs f in a bubble with a client that does not retry by itself, so
// that the calls are the cache's.
func oneAttempt(t *testing.T, opts *cache.Options, f func(t *testing.T, srv *smtest.Server, c *cache.Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("prod/db", "v1")
		c, err := cache.New(srv.Client(func(o *secretsmanager.Options) { o.RetryMaxAttempts = 1 }), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(t, srv, c)
	})
}

// The service fails for 45 s after the TTL, each call after 100 ms: readers wait
// for the first failure at most, and the calls follow the back-off.
func TestOutageReachesNoReader(t *testing.T) {
	for _, fault := range []*smtest.Error{smtest.InternalServiceError, smtest.Throttling} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(5 * time.Minute)
			srv.ResetCalls()
			remove := srv.Inject(smtest.Fault{Err: fault, Delay: 100 * time.Millisecond})
			begin := time.Now()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for time.Since(begin) < 45*time.Second {
						start := time.Now()
						get(t, c, "v1")
						waited := time.Since(start)
						if waited > 100*time.Millisecond || waited > 0 && time.Since(begin) > 100*time.Millisecond {
							t.Errorf("a read waited %v, %v into the outage", waited, time.Since(begin))
						}
						time.Sleep(10 * time.Millisecond)
					}
				})
			}
			wg.Wait()
			// At 0, and then after 0.5..1 s, 1..2, 2..4, 4..8, 8..16, 16..32.
			if n := srv.Count("GetSecretValue"); n < 6 || n > 8 {
				t.Errorf("%d calls in 45 s, want those of the back-off", n)
			}
			remove()
			srv.Put("prod/db", "v2")
			time.Sleep(time.Minute) // the back-off in force: what failed then says nothing of now
			get(t, c, "v2")
		})
	}
}

// A service that says that we may not have the secret is not overruled.
func TestDenialIsNotMasked(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		remove := srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		get(t, c, "v1")
		remove()
		time.Sleep(950 * time.Millisecond) // the back-off is 0.5 to 0.9 s
		remove = srv.Inject(smtest.Fault{Err: smtest.AccessDenied})
		get(t, c, "v1") // the refresh is behind it
		synctest.Wait()
		srv.ResetCalls()
		for range 100 {
			if _, err := c.Get(t.Context(), "prod/db"); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
				t.Fatalf("Get: %v", err)
			}
		}
		calls(t, srv, 0)
		remove()
		time.Sleep(2 * time.Second)
		get(t, c, "v1")
	})
}

func TestSlowRefreshReturnsWhatIsHeld(t *testing.T) {
	for _, test := range []struct{ wait, want time.Duration }{{0, time.Second}, {3 * time.Second, 3 * time.Second}, {-1, 0}} {
		oneAttempt(t, &cache.Options{StaleWait: test.wait}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(5 * time.Minute)
			srv.Put("prod/db", "v2")
			srv.ResetCalls()
			srv.Inject(smtest.Fault{Delay: 5 * time.Second})
			start := time.Now()
			get(t, c, "v1")
			if waited := time.Since(start); waited != test.want {
				t.Errorf("StaleWait %v: waited %v, want %v", test.wait, waited, test.want)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			get(t, c, "v2")
			calls(t, srv, 1)
		})
	}
}

func TestMaxStaleEnds(t *testing.T) {
	oneAttempt(t, &cache.Options{MaxStale: time.Hour}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		get(t, c, "v1")
		time.Sleep(time.Hour - time.Nanosecond)
		if s, err := c.Get(t.Context(), "prod/db"); err != nil || s.Age() != time.Hour+5*time.Minute-time.Nanosecond {
			t.Errorf("Get just inside = %v, %v", s, err)
		}
		synctest.Wait()
		time.Sleep(time.Nanosecond)
		if _, err := c.Get(t.Context(), "prod/db"); err == nil {
			t.Error("Get beyond TTL and MaxStale succeeded")
		}
	})
	oneAttempt(t, &cache.Options{MaxStale: -1}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		failed, ok := errors.AsType[*cache.Error](func() error { _, err := c.Get(t.Context(), "prod/db"); return err }())
		if !ok || !failed.Transient {
			t.Errorf("Get beyond the TTL without MaxStale: %v", failed)
		}
	})
}

// A forced read wants the service's answer, and nothing in its stead.
func TestRefreshIsNotAnsweredWithAStaleValue(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(6 * time.Minute)
		srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		if s, err := c.Refresh(t.Context(), "prod/db"); err == nil {
			t.Errorf("Refresh = %v during an outage", s)
		}
		get(t, c, "v1")
	})
}

// What is logged, and how loudly: a label that nobody carries is no trouble.
func TestLog(t *testing.T) {
	var b bytes.Buffer
	opts := &cache.Options{Logger: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	oneAttempt(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for _, test := range []struct {
			id, stage, want string
			fault           *smtest.Error
		}{
			{"prod/db", cache.Current, "level=DEBUG msg=\"secret read\" secret_id=prod/db stage=AWSCURRENT version_id=", nil},
			{"prod/db", cache.Pending, "level=DEBUG msg=\"secret not read\" secret_id=prod/db stage=AWSPENDING", nil},
			{"prod/none", cache.Current, "level=WARN msg=\"secret not read\" secret_id=prod/none stage=AWSCURRENT", nil},
			{"prod/db", cache.Previous, "level=WARN msg=\"secret not read\" secret_id=prod/db stage=AWSPREVIOUS", smtest.AccessDenied},
		} {
			remove := srv.Inject(smtest.Fault{Err: test.fault})
			_, _ = c.GetStage(t.Context(), test.id, test.stage)
			remove()
			synctest.Wait() // the line is written behind the answer
			if got := b.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, test.want) {
				t.Errorf("%s %s: logged %q, want %q", test.id, test.stage, got, test.want)
			}
			b.Reset()
		}
	})
}
