package cache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// The table of states, at each of its boundaries: what a read does there, what it
// waits for, and what it makes of the service. Not serverless.
func TestStates(t *testing.T) {
	const (
		ttl  = 5 * time.Minute
		ns   = time.Nanosecond
		slow = 3 * time.Second // the service's answer
	)
	type result struct {
		state cache.State // before the read
		value string      // what it returns: v1 is held, v2 is there; empty: an error
		waits time.Duration
		calls int // of the read and what it starts
	}
	for _, test := range []struct {
		name  string
		age   time.Duration
		fault *smtest.Error // of a forced read half a second before, if any
		want  result
	}{
		{"fresh", ttl*3/4 - ns, nil, result{cache.Fresh, "v1", 0, 0}},
		{"aging", ttl*85/100 + 2*ns, nil, result{cache.Aging, "v1", 0, 1}},
		{"aging, to its end", ttl - ns, nil, result{cache.Aging, "v1", 0, 1}},
		{"expired", ttl, nil, result{cache.Expired, "v1", time.Second, 1}},
		{"expired, to its end", ttl + time.Hour - time.Second - ns, nil, result{cache.Expired, "v1", time.Second, 1}},
		{"too old at the end of the wait", ttl + time.Hour - ns, nil, result{cache.Expired, "v2", slow, 1}},
		{"dead", ttl + time.Hour, nil, result{cache.Dead, "v2", slow, 1}},

		{"fresh, failed", ttl*3/4 - ns, smtest.Throttling, result{cache.Fresh, "v1", 0, 0}},
		{"fresh, denied", ttl*3/4 - ns, smtest.AccessDenied, result{cache.Fresh, "v1", 0, 0}},
		{"aging, failed", ttl - ns, smtest.Throttling, result{cache.Aging, "v1", 0, 0}},
		{"aging, denied", ttl - ns, smtest.AccessDenied, result{cache.Aging, "v1", 0, 0}},
		{"failing", ttl, smtest.Throttling, result{cache.Failing, "v1", 0, 0}},
		{"failing, to its end", ttl + time.Hour - ns, smtest.Throttling, result{cache.Failing, "v1", 0, 0}},
		{"dead, failed", ttl + time.Hour, smtest.Throttling, result{cache.Dead, "", 0, 0}},
		{"dead, denied", ttl, smtest.AccessDenied, result{cache.Dead, "", 0, 0}},
	} {
		oneAttempt(t, &cache.Options{MaxStale: time.Hour, StaleWait: time.Second}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			srv.Put("prod/db", "v2")
			if test.fault != nil {
				// The back-off is half a second at least.
				time.Sleep(test.age - 500*time.Millisecond + ns)
				remove := srv.Inject(smtest.Fault{Err: test.fault})
				if _, err := c.Refresh(t.Context(), "prod/db"); err == nil {
					t.Errorf("%s: Refresh succeeded", test.name)
				}
				remove()
				time.Sleep(500*time.Millisecond - ns)
			} else {
				time.Sleep(test.age)
			}
			srv.ResetCalls()
			srv.Inject(smtest.Fault{Delay: slow})
			h := c.Handle("prod/db")
			got := result{state: h.Status().State}
			peeked, held := h.Peek()
			if want := test.want.state != cache.Dead; held != want || held && peeked.Text() != "v1" {
				t.Errorf("%s: Peek = %v, %v", test.name, peeked, held)
			}
			if test.want.state == cache.Expired {
				// Peek has begun the refresh that the read waits for.
				synctest.Wait()
			}
			start := time.Now()
			if s, err := c.Get(t.Context(), "prod/db"); err == nil {
				got.value = s.Text()
			}
			got.waits = time.Since(start)
			time.Sleep(slow)
			synctest.Wait()
			got.calls = srv.Count("GetSecretValue")
			if got != test.want {
				t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
			}
		})
	}
}

// Refresh ahead of the TTL begins at another age each time, between 0.75 and 0.85
// of it, so that fleets that started together spread.
func TestAgingIsSpread(t *testing.T) {
	const ttl = 1000 * time.Second
	seen := make(map[time.Duration]bool)
	bubble(t, &cache.Options{TTL: ttl}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		h := c.Handle("prod/db")
		for range 50 {
			start := time.Now()
			for h.Status().State == cache.Fresh {
				time.Sleep(time.Second)
			}
			age := time.Since(start)
			if age < ttl*3/4 || age > ttl*85/100+time.Second {
				t.Errorf("aging begins after %v", age)
			}
			seen[age] = true
			get(t, c, "v1") // has it refreshed
			synctest.Wait()
		}
		calls(t, srv, 51)
	})
	if len(seen) < 20 {
		t.Errorf("aging began at %d ages of 50", len(seen))
	}
}

// Under traffic no read ever waits, and the calls are those of the TTL.
func TestRefreshAheadWaitsForNobody(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		srv.Inject(smtest.Fault{Delay: 5 * time.Second})
		for range 3600 {
			start := time.Now()
			get(t, c, "v1")
			if waited := time.Since(start); waited != 0 {
				t.Fatalf("a read waited %v", waited)
			}
			time.Sleep(time.Second)
		}
		if n := srv.Count("GetSecretValue"); n < 13 || n > 17 {
			t.Errorf("%d calls in an hour with a TTL of 5m", n)
		}
	})
}

// The promise: while the service answers, no read returns a value older than TTL
// plus the back-off in force plus StaleWait, however seldom anybody reads, and
// whatever failed long ago.
func TestOldFailureIsNoExcuse(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		remove := srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		for range 20 {
			get(t, c, "v1")
			time.Sleep(10 * time.Second)
		}
		remove()
		srv.Put("prod/db", "v2")
		time.Sleep(time.Minute)
		get(t, c, "v2")
	})
}

// A reader that comes while the refresh has taken StaleWait already waits no
// longer: all of them together wait that long once.
func TestStaleWaitIsTheFlights(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{Delay: 8 * time.Second})
		start := time.Now()
		for _, want := range []time.Duration{time.Second, time.Second, 1500 * time.Millisecond} {
			if want > time.Second {
				time.Sleep(500 * time.Millisecond)
			}
			get(t, c, "v1")
			if at := time.Since(start); at != want {
				t.Errorf("a read returned after %v, want %v", at, want)
			}
		}
		calls(t, srv, 2)
	})
}

// A reader whose context has ended is as good as one whose patience has.
func TestEndedContextGetsWhatIsHeld(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{Delay: 5 * time.Second})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if s, err := c.Get(ended, "prod/db"); err != nil || s.Text() != "v1" {
			t.Errorf("Get = %v, %v, want what is held", s, err)
		}
		calls(t, srv, 1)
		soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if s, err := c.Get(soon, "prod/db"); err != nil || s.Text() != "v1" || time.Since(start) != 100*time.Millisecond {
			t.Errorf("Get = %v, %v after %v, want what is held after 100ms", s, err, time.Since(start))
		}
	})
}

// Nothing held, nothing answered: the error says both that the reader gave up and
// what the service last said. That was before: it is no verdict of now.
func TestGaveUpSaysWhatFailed(t *testing.T) {
	for _, fault := range []*smtest.Error{smtest.Throttling, smtest.AccessDenied, {Code: "ResourceNotFoundException", Message: "No."}} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			remove := srv.Inject(smtest.Fault{Err: fault})
			_, first := c.Get(t.Context(), "prod/db")
			remove()
			time.Sleep(time.Minute)
			srv.Inject(smtest.Fault{Delay: time.Hour})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Get(ctx, "prod/db")
			failed, ok := errors.AsType[*cache.Error](err)
			if !ok || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errors.Unwrap(first)) || !failed.Transient || errors.Is(err, cache.ErrNotFound) {
				t.Errorf("%s: Get: %v, want the deadline and %v", fault.Code, err, first)
			}
			const name = `cache: get secret "prod/db" (AWSCURRENT): `
			if want := name + "context deadline exceeded; the last call failed: " + strings.TrimPrefix(first.Error(), name); err.Error() != want {
				t.Errorf("%s: Get: %v, want %s", fault.Code, err, want)
			}
		})
	}
}

// A failure with nothing held is held itself, for a moment, so that a herd of
// cold readers makes no herd of calls: 8 seconds at most if it may pass by itself,
// 30 if not.
func TestColdFailureIsHeld(t *testing.T) {
	for _, test := range []struct {
		fault       *smtest.Error
		least, most int // calls in 100 s
		pause       time.Duration
	}{
		{smtest.InternalServiceError, 14, 28, 8 * time.Second}, // at 0, 1, 3, 7, 15, 23, ..; each pause may be half of that
		{smtest.AccessDenied, 7, 12, 30 * time.Second},         // at 0, 1, 3, 7, 15, 31, 61, ..
	} {
		fault := test.fault
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			remove := srv.Inject(smtest.Fault{Err: fault})
			for range 1000 {
				if _, err := c.Get(t.Context(), "prod/db"); err == nil {
					t.Fatal("Get succeeded")
				}
				time.Sleep(100 * time.Millisecond)
			}
			if n := srv.Count("GetSecretValue"); n < test.least || n > test.most {
				t.Errorf("%s: %d calls in 100s", fault.Code, n)
			}
			remove()
			time.Sleep(test.pause)
			get(t, c, "v1")
		})
	}
}

func TestTTLOff(t *testing.T) {
	bubble(t, &cache.Options{TTL: -1}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for i := range 10 {
			get(t, c, "v1")
			calls(t, srv, i+1)
		}
		if n := c.Stats().Stale; n != 0 {
			t.Errorf("%d of the values were counted as stale", n)
		}
		srv.Inject(smtest.Fault{Delay: 500 * time.Millisecond})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { get(t, c, "v1") })
		}
		wg.Wait()
		calls(t, srv, 11)
	})
}
