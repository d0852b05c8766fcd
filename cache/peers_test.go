package cache_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// The defects that were measured in aws-secretsmanager-caching-go v2.0.2, each in
// the situation of its measurement, which the comment on the test gives.
func TestPeerDefects(t *testing.T) {
	for _, test := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"P1 a slow call blocks no reader of a held value", peerSlowCall},
		{"P2 a reader waits on its own context", peerOwnContext},
		{"P3 a leader's cancellation is nobody else's error", peerLeaderCancelled},
		{"P4 a forced refresh does not sleep and honours ctx", peerForced},
		{"P5 a forced refresh after an error calls at once", peerForcedAfterError},
		{"P6 forced refreshes and reads may run together", peerForcedRace},
		{"P7 a failing service is asked as often as the back-off says", peerBackoff},
		{"P8 a miss is one call, and a name and its ARN share it", peerCost},
		{"P9 no permission but GetSecretValue is needed", peerPermissions},
		{"P10 an outage beyond the TTL blocks nobody", peerOutage},
		{"P11 the label that was asked for is the one that answers", peerLabels},
		{"P12 a cache of any size does not panic, and returns the right values", peerSizes},
		{"P13 a value is served although the one after it cannot be read", peerStaleAcrossVersions},
		{"P14 what was revoked or deleted is not served beyond its TTL", peerRevoked},
		{"P15 changing the returned bytes changes nothing", peerBytes},
		{"P16 a panic in the client poisons nothing", peerPanic},
		{"P17 a herd on a failing call is one call", peerHerd},
		{"P18 jitter shortens the TTL by no more than the refresh ahead", peerJitter},
		{"P19 bad options are found by New", peerOptions},
		{"P20 AWSCURRENT and AWSPREVIOUS agree after a rotation", peerAgreement},
		{"P21 nothing is decoded per hit", peerDecode},
		{"R1 a failing call of the SDK costs a reader of a held value StaleWait at most", peerFailingCall},
		{"R2 readers are not blocked while the SDK retries", peerOutageWithRetries},
	} {
		t.Run(test.name, test.f)
	}
}

// What other clients test of themselves, and this one must pass too.
func TestPeers(t *testing.T) {
	for _, test := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"1 caching-go TestGetSecretStringMultipleTimes, repeated not-found", peerManyReads},
		{"2 caching-java secretCacheRefreshAfterVersionChangeTest", peerDecode},
		{"3 caching-java basicSecretCacheExceptionRetryTest", peerRetry},
		{"4 caching-java basicSecretCacheExceptionRefreshNowTest", peerForcedAfterError},
		{"5 agent lib.rs: stale on timeouts, 5xx and throttling, not on refusals", peerStaleOrNot},
		{"6 agent cache_behavior.rs, version_management.rs", peerAgent},
		{"7 setec TestPartialRefresh", peerPartial},
		{"7 setec TestSlowInit", peerSlowInit},
		{"8 go-cloud TestVariable_Latest, LatestBlockedDuringClose", peerLatest},
		{"9 otter TestCache_GetPanic, of the client", peerPanic},
		{"9 otter TestCache_GetPanic, of the loader", peerLoaderPanic},
		{"9 otter ConcurrentLoadingAndInvalidate", peerInvalidate},
		{"10 caching-go lruCache_test: sizes 0 and 1, concurrent mutations", peerSizes},
		{"10 caching-go TestGetSecretVersionStageEmpty", peerLabels},
		{"powertools #5622: versions and labels do not collide", peerLabels},
	} {
		t.Run(test.name, test.f)
	}
}

var (
	// The answer of a load balancer, which the SDK retries.
	unavailable = &smtest.Error{Code: "ServiceUnavailable", Message: "no", Status: http.StatusServiceUnavailable}

	failing = smtest.Fault{Err: smtest.InternalServiceError}
	lost    = smtest.Fault{Before: func(context.Context, smtest.Call) { panic(http.ErrAbortHandler) }} // the connection
	hung    = smtest.Fault{Delay: 24 * time.Hour}
)

// said returns what a read brought: the value, or "error: " and the error's text.
func said(s *cache.Secret, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return s.Text()
}

// expect checks what a read said: want is the value, or "error: " and a part of
// the error's text.
func expect(t *testing.T, got, want string) {
	t.Helper()
	part, fails := strings.CutPrefix(want, "error: ")
	if fails && strings.HasPrefix(got, "error: ") && strings.Contains(got, part) || got == want {
		return
	}
	t.Errorf("a read said %q, want %q", got, want)
}

// crowd has n readers read prod/db at once. It returns how many of them had to
// wait, and how long the longest did.
func crowd(t *testing.T, c *cache.Cache, n int, want string) (blocked int, longest time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			start := time.Now()
			expect(t, said(c.Get(t.Context(), "prod/db")), want)
			waited := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, waited)
			if waited > 0 {
				blocked++
			}
		})
	}
	wg.Wait()
	return blocked, longest
}

// outage has 8 readers read prod/db, held and expired, every 10 ms for 45 s, in
// which the service does not answer as it should. All must get v1; wait, if they
// do, no later than StaleWait from the beginning, and not once a call has failed.
func outage(t *testing.T, c *cache.Cache) {
	t.Helper()
	h := c.Handle("prod/db")
	var blocked atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range 8 {
		wg.Go(func() {
			for time.Since(begin) < 45*time.Second {
				failures, start := h.Status().Failures, time.Now()
				expect(t, said(c.Get(t.Context(), "prod/db")), "v1")
				waited := time.Since(start)
				if waited > 0 && (failures > 0 || time.Since(begin) > time.Second) {
					t.Errorf("%v into the outage, after %d failures, a read waited %v", start.Sub(begin), failures, waited)
				}
				blocked.Add(int64(waited))
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if all := time.Duration(blocked.Load()); all > 8*time.Second {
		t.Errorf("readers were blocked for %v, %.0f%% of the time", all, 100*all.Seconds()/8/45)
	}
}

// deleteSecret deletes prod/db, for good or with a recovery window.
func deleteSecret(t *testing.T, srv *smtest.Server, forGood bool) {
	t.Helper()
	in := &secretsmanager.DeleteSecretInput{SecretId: aws.String("prod/db")}
	if forGood {
		in.ForceDeleteWithoutRecovery = &forGood
	}
	if _, err := srv.Client().DeleteSecret(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// putPending adds a version of prod/db under AWSPENDING and a label BLUE.
func putPending(t *testing.T, srv *smtest.Server, value string) (versionID string) {
	t.Helper()
	versionID = strings.Repeat("0", 36)
	_, err := srv.Client().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("prod/db"), SecretString: &value, ClientRequestToken: &versionID, VersionStages: []string{cache.Pending, "BLUE"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return versionID
}

// A DescribeSecret of 2 s, the value held: 200 of 200 readers were blocked for 2 s.
func peerSlowCall(t *testing.T) {
	for _, test := range []struct {
		name    string
		opts    *cache.Options
		age     time.Duration // of what is held
		blocked int
		longest time.Duration
	}{
		{"fresh, and a forced call", nil, time.Minute, 0, 0},
		{"aging", nil, 270 * time.Second, 0, 0},
		{"expired, without StaleWait", &cache.Options{StaleWait: -1}, time.Hour, 0, 0},
		{"expired", nil, time.Hour, 200, time.Second},
	} {
		bubble(t, test.opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(test.age)
			srv.Put("prod/db", "v2")
			srv.Inject(smtest.Fault{Delay: 2 * time.Second})
			var wg sync.WaitGroup
			if test.age == time.Minute {
				wg.Go(func() { expect(t, said(c.Refresh(t.Context(), "prod/db")), "v2") })
				synctest.Wait()
			}
			if blocked, longest := crowd(t, c, 200, "v1"); blocked != test.blocked || longest != test.longest {
				t.Errorf("%s: %d of 200 readers blocked, for up to %v", test.name, blocked, longest)
			}
			if blocked, longest := crowd(t, c, 200, "v1"); blocked != 0 {
				t.Errorf("%s, a moment later: %d of 200 readers blocked, for up to %v", test.name, blocked, longest)
			}
			wg.Wait()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			get(t, c, "v2")
			calls(t, srv, 2)
		})
	}
}

// A deadline of 50 ms returned after 1.95 s.
func peerOwnContext(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(smtest.Fault{Delay: 2 * time.Second})
		for _, want := range []string{"error: context deadline exceeded", "v1"} { // nothing held, and something expired
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = c.Get(t.Context(), "prod/db") })
			synctest.Wait() // its call is under way
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			start := time.Now()
			expect(t, said(c.Get(ctx, "prod/db")), want)
			if took := time.Since(start); took != 50*time.Millisecond {
				t.Errorf("a reader with 50 ms returned after %v", took)
			}
			cancel()
			wg.Wait()
			time.Sleep(time.Hour)
		}
	})
}

// 1000 of 1000 live callers, 50 in each of 20 rounds, got context.Canceled.
func peerLeaderCancelled(t *testing.T) {
	for _, mode := range []cache.Mode{cache.Off, cache.On} {
		bubble(t, &cache.Options{Serverless: mode}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			srv.Inject(smtest.Fault{Delay: time.Second})
			for round := range 20 {
				c.Invalidate("prod/db")
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { expect(t, said(c.Get(ctx, "prod/db")), "error: context canceled") })
				synctest.Wait()
				wg.Go(func() {
					if _, longest := crowd(t, c, 50, "v1"); longest != time.Second {
						t.Errorf("the others waited %v, want 1s", longest)
					}
				})
				time.Sleep(time.Second / 2)
				cancel()
				wg.Wait()
				get(t, c, "v1")
				calls(t, srv, round+1)
			}
		})
	}
}

// It slept for 2.5 to 5 s first, whatever ctx said, and returned no value.
func peerForced(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		srv.Put("prod/db", "v2")
		time.Sleep(time.Minute)
		start := time.Now()
		expect(t, said(c.Refresh(t.Context(), "prod/db")), "v2")
		calls(t, srv, 2)
		if took := time.Since(start); took != 0 {
			t.Errorf("Refresh took %v", took)
		}
		time.Sleep(time.Minute)
		srv.Inject(smtest.Fault{Delay: 2 * time.Second})
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		expect(t, said(c.Refresh(ctx, "prod/db")), "error: context deadline exceeded")
		if took := time.Since(start); took != 10*time.Millisecond {
			t.Errorf("Refresh with 10 ms took %v", took)
		}
	})
}

// It slept for 79 to 102 years at a TTL of 1 h, for 6 to 9 years at 5 min, for 10
// to 14 min at 1 ms.
func peerForcedAfterError(t *testing.T) {
	for _, ttl := range []time.Duration{time.Hour, 5 * time.Minute, time.Millisecond} {
		for _, fault := range []*smtest.Error{smtest.AccessDenied, smtest.InternalServiceError} {
			oneAttempt(t, &cache.Options{TTL: ttl}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
				remove := srv.Inject(smtest.Fault{Err: fault})
				expect(t, said(c.Get(t.Context(), "prod/db")), "error: "+fault.Code)
				start := time.Now()
				// At once for who says why the answer that is there will not do, else
				// when MinRefresh has passed.
				expect(t, said(c.RefreshAfter(t.Context(), "prod/db", cache.Current, start)), "error: "+fault.Code)
				calls(t, srv, 2)
				time.Sleep(time.Second)
				expect(t, said(c.Refresh(t.Context(), "prod/db")), "error: "+fault.Code)
				calls(t, srv, 3)
				remove()
				time.Sleep(time.Second)
				expect(t, said(c.Refresh(t.Context(), "prod/db")), "v1")
				calls(t, srv, 4)
				if took := time.Since(start) - 2*time.Second; took != 0 {
					t.Errorf("TTL %v: the refreshes took %v", ttl, took)
				}
			})
		}
	}
}

// The race detector found RefreshNow and reads at the same fields. In real time,
// and with as short a TTL as there is, so that all paths are taken.
func peerForcedRace(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "0")
	var put atomic.Int64
	c := newCache(t, srv, &cache.Options{TTL: time.Millisecond, MinRefresh: -1})
	h := c.Handle("prod/db")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 60 {
				var s *cache.Secret
				var err error
				before := int64(0)
				switch (i + n) % 4 {
				case 0:
					s, err = h.Get(t.Context())
				case 1:
					if s, err = c.Get(t.Context(), "prod/db"); err == nil {
						s, err = c.RefreshIf(t.Context(), "prod/db", s.VersionID())
					}
				case 2:
					c.Invalidate("prod/db")
					fallthrough
				case 3: // it must see what was put before the call
					before = put.Load()
					s, err = c.Refresh(t.Context(), "prod/db")
				}
				if got, bad := strconv.ParseInt(said(s, err), 10, 64); bad != nil || got < before {
					t.Errorf("a read said %q, and %d was put before it", said(s, err), before)
				}
				if i == 0 {
					srv.Put("prod/db", strconv.Itoa(n+1))
					put.Store(int64(n + 1))
				}
			}
		})
	}
	wg.Wait()
}

// 1000 reads of a failing GetSecretValue were 1000 calls; a failing DescribeSecret
// was 24,000 calls a day. Here the pause grows to 1 min while a value is held, to 8
// s while there is none that may be served and to 30 s where access is denied, less
// jitter of up to half of it.
func peerBackoff(t *testing.T) {
	for _, test := range []struct {
		name  string
		held  bool
		fault *smtest.Error
		want  string
		pause time.Duration // the longest
		lasts time.Duration
	}{
		{"an outage, a value held", true, smtest.InternalServiceError, "v1", time.Minute, 24*time.Hour - time.Minute},
		{"an outage, nothing held", false, smtest.InternalServiceError, "error: InternalServiceError", 8 * time.Second, time.Hour},
		{"denied", true, smtest.AccessDenied, "error: AccessDenied", 30 * time.Second, time.Hour},
	} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			if test.held {
				get(t, c, "v1")
				time.Sleep(5 * time.Minute)
			}
			srv.ResetCalls()
			srv.Inject(smtest.Fault{Err: test.fault})
			for range 1000 {
				expect(t, said(c.Get(t.Context(), "prod/db")), test.want)
				time.Sleep(400 * time.Microsecond)
			}
			calls(t, srv, 1) // the first pause is half a second at least
			for begin := time.Now(); time.Since(begin) < test.lasts; time.Sleep(2 * time.Second) {
				expect(t, said(c.Get(t.Context(), "prod/db")), test.want)
			}
			least, most := int(test.lasts/(test.pause+2*time.Second)), int(test.lasts/(test.pause/2))+8
			if n := srv.Count("GetSecretValue"); n < least || n > most {
				t.Errorf("%s: %d calls in %v, want %d to %d", test.name, n, test.lasts, least, most)
			}
		})
	}
}

// A miss was two calls, AWSPREVIOUS one more, and the secret by its ARN all again.
func peerCost(t *testing.T) {
	for _, arnFirst := range []bool{false, true} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			v1 := srv.Put("prod/db", "v1")
			out, err := srv.Client().DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("prod/db")})
			if err != nil {
				t.Fatal(err)
			}
			ids, misses := []string{"prod/db", *out.ARN}, 1
			if arnFirst {
				// An ARN does not answer for a name, which may mean another secret: that
				// is found out once.
				ids[0], ids[1], misses = ids[1], ids[0], 2
			}
			cost := func(what string, want int, read func(id string) (*cache.Secret, error), value string) {
				t.Helper()
				srv.ResetCalls()
				for _, id := range ids {
					expect(t, said(read(id)), value)
				}
				if n := srv.Count(""); n != want {
					t.Errorf("%s: %d calls, want %d (ARN first: %v)", what, n, want, arnFirst)
				}
			}
			current := func(id string) (*cache.Secret, error) { return c.Get(t.Context(), id) }
			cost("a miss", misses, current, "v1")
			time.Sleep(5 * time.Minute)
			cost("expired, the same version", 1, current, "v1")
			time.Sleep(time.Minute)
			srv.Put("prod/db", "v2")
			cost("a new version", 1, func(id string) (*cache.Secret, error) { return c.Refresh(t.Context(), id) }, "v2")
			cost("AWSPREVIOUS", 0, func(id string) (*cache.Secret, error) { return c.GetStage(t.Context(), id, cache.Previous) }, "v1")
			cost("the version before", 0, func(id string) (*cache.Secret, error) {
				return c.GetVersion(t.Context(), id, v1)
			}, "v1")
			srv.Put("prod/db", "v3")
			time.Sleep(5 * time.Minute)
			cost("expired, a new version", 1, current, "v3")
		})
	}
}

// 0 of 100 reads succeeded where DescribeSecret was denied.
func peerPermissions(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for _, operation := range []string{"DescribeSecret", "ListSecretVersionIds", "BatchGetSecretValue"} {
			srv.Inject(smtest.Fault{Operation: operation, Err: smtest.AccessDenied})
		}
		for n := 1; n <= 100; n++ {
			get(t, c, fmt.Sprint("v", n))
			expect(t, said(c.Refresh(t.Context(), "prod/db")), fmt.Sprint("v", n))
			srv.Put("prod/db", fmt.Sprint("v", n+1))
			time.Sleep(5 * time.Minute)
			expect(t, said(c.GetStage(t.Context(), "prod/db", cache.Previous)), fmt.Sprint("v", n))
		}
		if n := srv.Count("GetSecretValue"); n != srv.Count("") {
			t.Errorf("%d calls, of which %d of GetSecretValue", srv.Count(""), n)
		}
		if err := c.Prefetch(t.Context(), "prod/db"); err != nil {
			t.Errorf("Prefetch: %v", err)
		}
		if n := srv.Count("DescribeSecret"); n != 0 {
			t.Errorf("%d calls of DescribeSecret", n)
		}
	})
}

// Calls that fail after 1 s blocked readers for 35% of the time; calls that hang,
// for ever: none of 100 readers was served after 5 s.
func peerOutage(t *testing.T) {
	for name, fault := range map[string]smtest.Fault{"fails": {Delay: time.Second, Err: smtest.InternalServiceError}, "hangs": hung} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(5 * time.Minute)
			srv.Inject(fault)
			outage(t, c)
			if blocked, _ := crowd(t, c, 100, "v1"); blocked != 0 {
				t.Errorf("%s: %d of 100 readers blocked", name, blocked)
			}
		})
	}
}

// AWSPREVIOUS was configured, and AWSCURRENT returned: the label is said with each
// read here. In powertools the label and the version are no part of the key.
func peerLabels(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		first := get(t, c, "v1").VersionID()
		second := srv.Put("prod/db", "v2")
		time.Sleep(5 * time.Minute)
		third := putPending(t, srv, "v3")
		for range 3 { // read, and then held, in whatever order a map has
			for stage, want := range map[string]string{
				cache.Current: "v2", "": "v2", cache.Previous: "v1", cache.Pending: "v3", "BLUE": "v3", "GREEN": "error: ResourceNotFound",
			} {
				expect(t, said(c.GetStage(t.Context(), "prod/db", stage)), want)
			}
			for id, want := range map[string]string{first: "v1", second: "v2", third: "v3", "no-such-version": "error: ResourceNotFound"} {
				expect(t, said(c.GetVersion(t.Context(), "prod/db", id)), want)
			}
		}
	})
}

// A size of 0 always panicked; one of 8, with 8 goroutines, 1400 to 3000 times in
// 400,000 reads.
func peerSizes(t *testing.T) {
	values := make(map[string]string)
	for i := range 32 {
		values[fmt.Sprint("prod/", i)] = fmt.Sprint("value ", i)
	}
	for _, size := range []int{0, 1, 8} {
		c, err := cache.New(cache.Static(values), &cache.Options{MaxEntries: size, MinRefresh: -1})
		if err != nil {
			t.Fatal(err)
		}
		h := c.Handle("prod/0") // it is evicted all the time
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for n := range 300 {
					id := fmt.Sprint("prod/", (g*7+n*n)%32)
					expect(t, said(h.Get(t.Context())), "value 0")
					switch n % 8 {
					case 0:
						c.Invalidate(id)
					case 1:
						expect(t, said(c.Refresh(t.Context(), id)), values[id])
					case 2:
						expect(t, said(c.GetStage(t.Context(), id, "")), values[id])
					case 3:
						if err := c.Prefetch(t.Context(), id, "prod/1"); err != nil {
							t.Errorf("Prefetch: %v", err)
						}
					}
					expect(t, said(c.Get(t.Context(), id)), values[id])
				}
			})
		}
		wg.Wait()
		c.Close()
		// What is being read stays, so there may be one more for each goroutine.
		if n := c.Stats().Entries; n > 32 || size > 0 && n > size+8 {
			t.Errorf("size %d: %d entries", size, n)
		}
	}
}

// The secret had changed and could not be read: an error, with the old value held.
func peerStaleAcrossVersions(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		srv.Put("prod/db", "v2")
		time.Sleep(time.Hour)
		remove := srv.Inject(failing)
		for range 100 {
			get(t, c, "v1")
			time.Sleep(time.Second)
		}
		remove()
		time.Sleep(time.Minute)
		_, _ = c.Get(t.Context(), "prod/db") // has the service asked, if not yet before it
		synctest.Wait()
		get(t, c, "v2")
	})
}

// Access was revoked, and the value still served 365 days later, without a word.
func peerRevoked(t *testing.T) {
	for want, revoke := range map[string]func(*testing.T, *smtest.Server){
		"error: AccessDenied":     func(_ *testing.T, srv *smtest.Server) { srv.Inject(smtest.Fault{Err: smtest.AccessDenied}) },
		"error: InvalidRequest":   func(t *testing.T, srv *smtest.Server) { deleteSecret(t, srv, false) },
		"error: ResourceNotFound": func(t *testing.T, srv *smtest.Server) { deleteSecret(t, srv, true) },
	} {
		for _, busy := range []bool{true, false} {
			bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
				get(t, c, "v1")
				revoke(t, srv)
				for begin := time.Now(); time.Since(begin) < 5*time.Minute; time.Sleep(10 * time.Second) {
					if busy { // else the first read is beyond the TTL
						get(t, c, "v1")
					}
				}
				for range 10 {
					expect(t, said(c.Get(t.Context(), "prod/db")), want)
					time.Sleep(10 * time.Second)
				}
				time.Sleep(365 * 24 * time.Hour)
				expect(t, said(c.Get(t.Context(), "prod/db")), "error: ")
			})
		}
	}
	// An outage that does not end is told of, and is not waited out for ever.
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		srv.Inject(failing)
		time.Sleep(24 * time.Hour)
		s := get(t, c, "v1")
		if status := c.Handle("prod/db").Status(); s.Age() != 24*time.Hour || status.State != cache.Failing || status.Err == nil {
			t.Errorf("a value of yesterday: age %v, %+v", s.Age(), status)
		}
		time.Sleep(5 * time.Minute)
		expect(t, said(c.Get(t.Context(), "prod/db")), "error: InternalServiceError")
	})
}

// The caller zeroed its slice, and the next one got zeros.
func peerBytes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		_, err := srv.Client().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name: aws.String("prod/key"), SecretBinary: []byte("binary"), ClientRequestToken: aws.String(strings.Repeat("x", 32)),
		})
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]string{"prod/key": "binary", "prod/db": "v1"} {
			for range 2 {
				s, err := c.Get(t.Context(), id)
				if err != nil || string(s.Bytes()) != want || s.Text() != want || s.Stages()[0] != cache.Current {
					t.Fatalf("Get = %v, %v, or it is not what it was", s, err)
				}
				clear(s.Bytes())
				clear(s.Stages())
			}
		}
	})
}

// The reads after a panic panicked too, for ever.
func peerPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put("prod/db", "v1")
		panics := true
		c, err := cache.New(clientFunc(func(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
			if panics {
				panic("at the disco")
			}
			return srv.Client().GetSecretValue(ctx, in, opts...)
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 10 {
			expect(t, said(c.Get(t.Context(), "prod/db")), "error: panicked")
		}
		panics = false
		time.Sleep(time.Second) // the failure is held as long
		get(t, c, "v1")
		calls(t, srv, 1)
		panics = true
		time.Sleep(time.Hour)
		get(t, c, "v1") // held: the panic behind it is nobody's business
		panics = false
		srv.Put("prod/db", "v2")
		time.Sleep(time.Second)
		expect(t, said(c.Refresh(t.Context(), "prod/db")), "v2")
		get(t, c, "v2")
	})
}

// 100 cold readers of a call that fails after 20 ms made 100 calls, one after the
// other, and waited up to 2.06 s.
func peerHerd(t *testing.T) {
	for _, mode := range []cache.Mode{cache.Off, cache.On} {
		for _, fault := range []*smtest.Error{smtest.InternalServiceError, smtest.AccessDenied} {
			oneAttempt(t, &cache.Options{Serverless: mode}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
				srv.Inject(smtest.Fault{Err: fault, Delay: 20 * time.Millisecond})
				if _, longest := crowd(t, c, 100, "error: "+fault.Code); longest != 20*time.Millisecond {
					t.Errorf("a reader waited %v", longest)
				}
				calls(t, srv, 1)
			})
		}
	}
}

// A TTL of 1 h was 44.7 min in the mean, and half of it at worst. Here what is read
// all the time is refreshed ahead, at 0.75 to 0.85 of the TTL, and nobody waits.
func peerJitter(t *testing.T) {
	bubble(t, &cache.Options{TTL: time.Hour}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for begin := time.Now(); time.Since(begin) < 24*time.Hour; time.Sleep(10 * time.Second) {
			get(t, c, "v1")
		}
		all := srv.Calls()
		gaps := make(map[time.Duration]int)
		for i := range all[1:] {
			gap := all[i+1].Time.Sub(all[i].Time)
			if gaps[gap]++; gap < 45*time.Minute || gap > 51*time.Minute+10*time.Second {
				t.Errorf("a refresh after %v", gap)
			}
		}
		if n := len(all); n < 28 || n > 32 || len(gaps) < 5 {
			t.Errorf("%d calls a day, after %v; want 28 to 32, spread", n, gaps)
		}
		if n := c.Stats().Waits; n != 1 {
			t.Errorf("%d reads waited, want the first alone", n)
		}
	})
}

// A TTL of -1 was found after four reads, and as many calls.
func peerOptions(t *testing.T) {
	client := cache.Static(map[string]string{"prod/db": "v1"})
	for _, test := range []struct {
		want string
		opts *cache.Options
	}{
		{"Options.FetchTimeout is -1s", &cache.Options{FetchTimeout: -time.Second}},
		{"Options.Serverless is 3", &cache.Options{Serverless: cache.Off + 1}},
		{"Options.Serverless is -1", &cache.Options{Serverless: cache.Auto - 1}},
		{"Options.Replicas[1] is nil", &cache.Options{Replicas: []cache.API{client, nil}}},
	} {
		if _, err := cache.New(client, test.opts); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New: %v, want %q", err, test.want)
		}
	}
	if _, err := cache.New(nil, nil); err == nil {
		t.Error("New takes no client for one")
	}
	// All other negative values mean something, and none is an error later.
	c, err := cache.New(client, &cache.Options{TTL: -1, StaleWait: -1, MaxStale: -1, MinRefresh: -1, MaxEntries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 4 {
		get(t, c, "v1")
	}
}

// After a rotation AWSCURRENT was the old version and AWSPREVIOUS an error, until
// the TTL ended. Here AWSCURRENT may be the old one for as long; but when it is the
// new one, AWSPREVIOUS is the one before it, whatever was read of either.
func peerAgreement(t *testing.T) {
	for _, test := range []struct {
		name   string
		older  bool          // there was an AWSPREVIOUS before
		asked  time.Duration // when that was read, before the rotation at 200 s; negative: not
		forced bool          // the rotation is noticed by a forced read, else by the TTL
	}{
		{"AWSPREVIOUS was not read", false, -1, true},
		{"there was no AWSPREVIOUS", false, 199 * time.Second, true},
		{"there was no AWSPREVIOUS, noticed by the TTL", false, 199 * time.Second, false},
		{"another AWSPREVIOUS, read with AWSCURRENT", true, 0, true},
		{"another AWSPREVIOUS, read later", true, 100 * time.Second, true},
		{"another AWSPREVIOUS, read later, noticed by the TTL", true, 100 * time.Second, false},
	} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			previous := func() string { return said(c.GetStage(t.Context(), "prod/db", cache.Previous)) }
			before := "v1"
			if !test.older {
				before = "error: ResourceNotFound"
				deleteSecret(t, srv, true)
			}
			srv.Put("prod/db", "v2")
			start := time.Now()
			get(t, c, "v2")
			time.Sleep(test.asked)
			if test.asked >= 0 {
				expect(t, previous(), before)
			}
			time.Sleep(200*time.Second - time.Since(start))
			srv.Put("prod/db", "v3")
			if test.forced {
				expect(t, said(c.Refresh(t.Context(), "prod/db")), "v3")
			}
			for range 100 {
				current := said(c.Get(t.Context(), "prod/db"))
				if age := time.Since(start); current != "v3" && (test.forced || age > 5*time.Minute) {
					t.Errorf("%s: after %v AWSCURRENT is %s", test.name, age, current)
					return
				} else if p := previous(); current == "v3" && p != "v2" {
					t.Errorf("%s: after %v AWSCURRENT is v3 and AWSPREVIOUS %s", test.name, age, p)
					return
				}
				time.Sleep(10 * time.Second)
			}
		})
	}
}

// 100 hits called the hook, which may decrypt, 200 times. A version is decoded once
// here, also if it was read again meanwhile.
func peerDecode(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		derived := 0
		derive := cache.Derive(c, "prod/app", func(s *cache.Secret) (string, error) {
			derived++
			return s.Text(), nil
		})
		decode := cache.JSON[*struct{ Key string }](c, "prod/app")
		decoded := make(map[any]bool)
		for i, value := range []string{`{"Key":"a"}`, "", `{"Key":"b"}`, ""} { // "": no change
			if value != "" {
				srv.Put("prod/app", value)
			}
			for range 100 {
				s, err := derive.Get(t.Context())
				if err != nil || value != "" && s != value {
					t.Errorf("Derive = %q, %v", s, err)
				}
				v, err := decode.Get(t.Context())
				if err != nil || !strings.Contains(s, v.Key) {
					t.Errorf("JSON = %v, %v", v, err)
				}
				decoded[v] = true
			}
			calls(t, srv, i+1)
			if want := 1 + i/2; derived != want || len(decoded) != want {
				t.Errorf("round %d: derived %d times, decoded %d times, want %d", i, derived, len(decoded), want)
			}
			time.Sleep(5 * time.Minute)
		}
	})
}

// One failing call of the SDK, with its three attempts: 3.2 s in the median and 5.5
// s at most; with a hung socket as long as the context lasts.
func peerFailingCall(t *testing.T) {
	for name, fault := range map[string]smtest.Fault{"503": {Err: unavailable}, "throttled": {Err: smtest.Throttling}, "lost": lost, "hung": hung} {
		for _, held := range []bool{true, false} {
			bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
				want, most := "error: ", 10*time.Second
				if held {
					get(t, c, "v1")
					time.Sleep(time.Hour)
					want, most = "v1", time.Second
				}
				srv.Inject(fault)
				start := time.Now()
				expect(t, said(c.Get(t.Context(), "prod/db")), want)
				if took := time.Since(start); took > most {
					t.Errorf("%s, a value held %v: a read took %v", name, held, took)
				}
				for h := c.Handle("prod/db"); h.Status().Failures == 0; time.Sleep(10 * time.Millisecond) {
					if time.Since(start) > 10*time.Second {
						t.Fatalf("%s: the call goes on after 10s", name)
					}
				}
				start = time.Now()
				expect(t, said(c.Get(t.Context(), "prod/db")), want)
				if took := time.Since(start); took != 0 {
					t.Errorf("%s, a value held %v: the read after it took %v", name, held, took)
				}
			})
		}
	}
}

// 503 for 45 s, 8 readers of a held value: they were blocked 72 to 91% of the time.
func peerOutageWithRetries(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.ResetCalls()
		srv.Inject(smtest.Fault{Err: unavailable})
		outage(t, c)
		// The pauses are 1 s, 2, 4, 8, 16 and 32, or down to half of that, and each call
		// takes up to 6 s besides.
		n := int(c.Stats().Calls - 1)
		if attempts := srv.Count("GetSecretValue"); n < 5 || n > 7 || attempts > 3*n {
			t.Errorf("%d calls, %d attempts in 45 s", n, attempts)
		}
	})
}

// N reads within the TTL, and N of a secret that is not there. Theirs passes only
// if those take less than 2 ms.
func peerManyReads(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for range 100 {
			get(t, c, "v1")
			expect(t, said(c.Get(t.Context(), "prod/none")), "error: ResourceNotFound")
			time.Sleep(4 * time.Millisecond)
		}
		calls(t, srv, 2)
	})
}

func peerRetry(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Inject(failing)
		for want := 1; want <= 2; want++ {
			for range 10 {
				expect(t, said(c.Get(t.Context(), "prod/db")), "error: InternalServiceError")
			}
			calls(t, srv, want)
			time.Sleep(2100 * time.Millisecond)
		}
	})
}

// Throttling, which the agent does not count as transient, is.
func peerStaleOrNot(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault smtest.Fault
		want  string
	}{
		{"timeout", hung, "v1"},
		{"connection lost", lost, "v1"},
		{"500", failing, "v1"},
		{"503", smtest.Fault{Err: unavailable}, "v1"},
		{"throttling", smtest.Fault{Err: smtest.Throttling}, "v1"},
		{"denied", smtest.Fault{Err: smtest.AccessDenied}, "error: AccessDenied"},
		{"denied by the resource", smtest.Fault{Err: smtest.AccessDeniedByResource}, "error: AccessDenied"},
		{"denied by KMS", smtest.Fault{Err: smtest.AccessDeniedByKMS}, "error: KMS"},
		{"not found", smtest.Fault{Err: &smtest.Error{Code: "ResourceNotFoundException"}}, "error: ResourceNotFound"},
	} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(5 * time.Minute)
			srv.Inject(test.fault)
			for range 5 {
				if got := said(c.Get(t.Context(), "prod/db")); got != test.want && !strings.Contains(got, strings.TrimPrefix(test.want, "error: ")) {
					t.Errorf("%s: a read said %q, want %q", test.name, got, test.want)
				}
				time.Sleep(7 * time.Second)
			}
		})
	}
}

// A TTL of 0, which turns the agent's cache off, is -1 here.
func peerAgent(t *testing.T) {
	bubble(t, &cache.Options{TTL: -1}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		for n := range 10 {
			srv.Put("prod/db", fmt.Sprint("v", n))
			get(t, c, fmt.Sprint("v", n))
			calls(t, srv, n+1)
		}
	})
	bubble(t, &cache.Options{TTL: 10 * time.Second}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		refresh := func(stage, want string) {
			t.Helper()
			expect(t, said(c.RefreshAfter(t.Context(), "prod/db", stage, time.Now())), want)
			expect(t, said(c.GetStage(t.Context(), "prod/db", stage)), want)
		}
		get(t, c, "v1")
		srv.Put("prod/db", "v2")
		get(t, c, "v1")
		refresh(cache.Current, "v2") // it sees the update at once
		v3 := srv.Put("prod/db", "v3")
		time.Sleep(10 * time.Second)
		get(t, c, "v3") // and so does a read beyond the TTL
		v4 := putPending(t, srv, "v4")
		refresh(cache.Pending, "v4")
		refresh(cache.Current, "v3")
		refresh(cache.Previous, "v2")
		if _, err := srv.Client().UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: aws.String("prod/db"), VersionStage: aws.String(cache.Current), MoveToVersionId: &v4, RemoveFromVersionId: &v3,
		}); err != nil {
			t.Fatal(err)
		}
		refresh(cache.Current, "v4")
		refresh(cache.Previous, "v3")
		srv.Put("prod/db", "v5")
		refresh(cache.Current, "v5")
		expect(t, said(c.GetStage(t.Context(), "prod/db", cache.Previous)), "v4")
		expect(t, said(c.GetVersion(t.Context(), "prod/db", v3)), "v3")
	})
}

// One of several that cannot be read is reported, and keeps no other from being
// read: at the start, and when all have expired.
func peerPartial(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		ids := []string{"prod/a", "prod/b", "prod/c"}
		for round, bad := range []string{"prod/none", "prod/b"} {
			for _, id := range ids {
				srv.Put(id, fmt.Sprint(id, round))
			}
			if round == 1 { // the batch may not be read; of its secrets, all but one
				srv.Inject(smtest.Fault{Operation: "GetSecretValue", SecretID: bad, Err: smtest.AccessDenied})
				srv.Inject(smtest.Fault{Operation: "BatchGetSecretValue", Err: smtest.AccessDenied})
			}
			err := c.Prefetch(t.Context(), append(ids[:2:2], bad, "prod/c")...)
			if err == nil || !strings.Contains(err.Error(), strconv.Quote(bad)) || strings.Contains(err.Error(), "prod/a") {
				t.Errorf("Prefetch: %v, want an error that names %s alone", err, bad)
			}
			srv.ResetCalls()
			for _, id := range ids {
				want := fmt.Sprint(id, round)
				if id == bad {
					want = "error: AccessDenied"
				}
				expect(t, said(c.Get(t.Context(), id)), want)
			}
			calls(t, srv, 0)
			time.Sleep(5 * time.Minute)
		}
	})
}

// A program that starts in an outage hears what the service said, and has the value
// when it answers again.
func peerSlowInit(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		remove := srv.Inject(failing)
		for range 60 {
			expect(t, said(c.Get(t.Context(), "prod/db")), "error: InternalServiceError")
			time.Sleep(time.Second)
		}
		remove()
		time.Sleep(8 * time.Second)
		get(t, c, "v1")
	})
}

func peerLatest(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		h := c.Handle("prod/db")
		health := func(when string, state cache.State, failures int, held bool) {
			t.Helper()
			s := h.Status()
			if s.State != state || s.Failures != failures || (s.Err != nil) != (failures > 0) || (s.VersionID != "") != held {
				t.Errorf("%s: %+v", when, s)
			}
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		health("before the first read", cache.Dead, 0, false)
		remove := srv.Inject(failing)
		expect(t, said(h.Get(t.Context())), "error: InternalServiceError")
		health("after a failure", cache.Dead, 1, false)
		// There is nothing to return: what the service last said tells more than ctx.
		for range 2 {
			expect(t, said(h.Get(canceled)), "error: An error occurred on the server side.")
			time.Sleep(time.Second)
		}
		remove()
		get(t, c, "v1")
		health("after the first value", cache.Fresh, 0, true)

		// There is a good value, though beyond its TTL: that beats an error.
		time.Sleep(time.Hour)
		srv.Inject(hung)
		var wg sync.WaitGroup
		for range 2 { // alone, and with a call under way
			start := time.Now()
			expect(t, said(h.Get(canceled)), "v1")
			if took := time.Since(start); took != 0 {
				t.Errorf("a reader whose context had ended waited %v", took)
			}
			wg.Go(func() { get(t, c, "v1") })
			synctest.Wait()
		}
		wg.Wait()

		for _, read := range []func() error{
			func() error { _, err := c.Get(t.Context(), "prod/cold"); return err },
			func() error { _, err := c.GetVersion(t.Context(), "prod/db", "cold"); return err },
			func() error { _, err := c.Refresh(t.Context(), "prod/db"); return err },
			func() error { return c.Prefetch(t.Context(), "prod/other") },
			func() error { _, err := cache.JSON[int](c, "prod/cold").Get(t.Context()); return err },
		} {
			wg.Go(func() {
				if err := read(); !errors.Is(err, cache.ErrClosed) {
					t.Errorf("a reader that waited through Close: %v", err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		c.Close()
		wg.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close freed its waiters after %v", took)
		}
	})
}

// The panic is the caller's, and the next reader loads.
func peerLoaderPanic(t *testing.T) {
	bubble(t, nil, func(t *testing.T, _ *smtest.Server, c *cache.Cache) {
		panics := true
		v := cache.Derive(c, "prod/db", func(s *cache.Secret) (string, error) {
			if panics {
				panic("at the disco")
			}
			return s.Text(), nil
		})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic went missing")
				}
			}()
			_, _ = v.Get(t.Context())
		}()
		panics = false
		if got, err := v.Get(t.Context()); err != nil || got != "v1" {
			t.Errorf("Value.Get after a panic = %q, %v", got, err)
		}
	})
}

// What a call began to read before Invalidate is not held after it.
func peerInvalidate(t *testing.T) {
	for _, byARN := range []bool{false, true} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			id, arn := "prod/db", get(t, c, "v1").ARN()
			expect(t, said(c.Get(t.Context(), arn)), "v1")
			if byARN {
				id = arn
			}
			time.Sleep(time.Hour)
			srv.Inject(smtest.Fault{DelayAnswer: time.Second / 2, Times: 1})
			var wg sync.WaitGroup
			wg.Go(func() { get(t, c, "v1") }) // it asked before
			synctest.Wait()
			srv.Put("prod/db", "v2")
			c.Invalidate(id)
			if _, ok := c.Handle("prod/db").Peek(); ok {
				t.Error("a value is held after Invalidate")
			}
			wg.Go(func() { crowd(t, c, 10, "v2") }) // while that call is under way
			wg.Wait()
			get(t, c, "v2")
			expect(t, said(c.Get(t.Context(), arn)), "v2")
		})
	}
}
