package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-secretsmanager-caching-go/v2/secretcache"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// An outage, in the clock of a bubble: the service answers 503 from the moment at
// which the value that is held is beyond its TTL. The SDK's own retries are on, so
// that a call takes seconds to fail.
const (
	outageTTL  = 5 * time.Minute
	outage     = 45 * time.Second
	roundTrip  = 20 * time.Millisecond
	readPause  = 10 * time.Millisecond // between a reader's reads
	outageName = "prod/db"
)

// A span is when a read or a call began, since the outage did, and how long it took.
type span struct{ began, took time.Duration }

// spans are those of the outage.
type spans struct {
	mu   sync.Mutex // protects following
	zero time.Time
	all  []span
}

// timed notes how long f takes.
func (s *spans) timed(f func()) {
	start := time.Now()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.zero.IsZero() {
		s.all = append(s.all, span{start.Sub(s.zero), time.Since(start)})
	}
}

// begin says that the outage does.
func (s *spans) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zero = time.Now()
}

func (s *spans) list() []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// An observed client notes the calls that a cache makes; of what the SDK makes of
// each, the server keeps the count.
type observed struct {
	*secretsmanager.Client

	calls spans
}

func (o *observed) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, optFns ...func(*secretsmanager.Options)) (out *secretsmanager.GetSecretValueOutput, err error) {
	o.calls.timed(func() { out, err = o.Client.GetSecretValue(ctx, in, optFns...) })
	return out, err
}

// suffer has readers read through the outage, and returns their reads.
func suffer(t *testing.T, srv *smtest.Server, client *observed, readers int, read func(ctx context.Context) error) []span {
	t.Helper()
	if err := read(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(outageTTL)
	srv.ResetCalls()
	srv.Inject(smtest.Fault{Err: &smtest.Error{Code: "ServiceUnavailable", Status: 503}, Delay: roundTrip})
	var reads spans
	reads.begin()
	client.calls.begin()
	begin := time.Now()
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for time.Since(begin) < outage {
				reads.timed(func() {
					if err := read(t.Context()); err != nil {
						t.Error(err)
					}
				})
				time.Sleep(readPause)
			}
		})
	}
	wg.Wait()
	return reads.list()
}

// blocked returns how much of its time until the end of the outage a reader was
// blocked from the moment from on, in percent, and the longest of its reads.
func blocked(reads []span, readers int, from time.Duration) (percent float64, longest time.Duration) {
	var sum time.Duration
	for _, r := range reads {
		if r.began < from {
			continue
		}
		sum += min(r.took, outage-r.began)
		longest = max(longest, r.took)
	}
	return 100 * float64(sum) / float64(readers) / float64(outage-from), longest
}

func metric(t *testing.T, name string, value any) {
	t.Helper()
	t.Attr(name, fmt.Sprint(value))
}

// Readers wait for the first refresh until it has failed, and StaleWait at most;
// after that for nothing. The time is the bubble's: what is asserted of it is as
// certain as a count.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const readers, staleWait = 8, time.Second
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put(outageName, "v1")
		client := &observed{Client: srv.Client()}
		c, err := cache.New(client, &cache.Options{TTL: outageTTL, StaleWait: staleWait, Serverless: cache.Off})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		reads := suffer(t, srv, client, readers, func(ctx context.Context) error {
			_, err := c.Get(ctx, outageName)
			return err
		})
		calls := client.calls.list()
		if len(calls) == 0 {
			t.Fatal("no call has ended")
		}
		failed := calls[0].began + calls[0].took
		all, longest := blocked(reads, readers, 0)
		after, longestAfter := blocked(reads, readers, failed)
		metric(t, "reads", len(reads))
		metric(t, "first-refresh-failed-after", failed)
		metric(t, "blocked-%", fmt.Sprintf("%.2f", all))
		metric(t, "blocked-%-after-first-failure", fmt.Sprintf("%.2f", after))
		metric(t, "longest-read", longest)
		metric(t, "calls-of-the-cache", len(calls))
		metric(t, "calls-of-the-SDK", srv.Count("GetSecretValue"))
		if longest > staleWait {
			t.Errorf("a read took %v, want %v at most", longest, staleWait)
		}
		if longestAfter > 0 {
			t.Errorf("a read took %v after the first refresh had failed, want 0", longestAfter)
		}
		for _, r := range reads {
			if end := r.began + r.took; r.took > 0 && end > staleWait {
				t.Errorf("a read was blocked until %v into the outage, want %v at most", end, staleWait)
				break
			}
		}
		// After 0.5..1 s, 1..2, 2..4 and so on, and then when a reader comes.
		for i, pause := 1, time.Second; i < len(calls); i, pause = i+1, min(2*pause, time.Minute) {
			rest := calls[i].began - calls[i-1].began - calls[i-1].took
			if rest < pause/2 || rest > pause+readPause {
				t.Errorf("call %d began %v after the last one had failed, want %v to %v", i+1, rest, pause/2, pause)
			}
		}
	})
}

// AWS's own client in the same outage, for comparison: nothing is asserted. With
// one reader, because it holds a mutex during a call, and a bubble's clock stands
// still as long as somebody waits for a mutex. More readers fare no better.
func TestOutageOfAWS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		defer srv.Close()
		srv.Put(outageName, "v1")
		client := &observed{Client: srv.Client()}
		c, err := secretcache.New(func(c *secretcache.Cache) { c.Client, c.CacheItemTTL = client, int64(outageTTL) })
		if err != nil {
			t.Fatal(err)
		}
		reads := suffer(t, srv, client, 1, func(ctx context.Context) error {
			_, err := c.GetSecretStringWithContext(ctx, outageName)
			return err
		})
		all, longest := blocked(reads, 1, 0)
		metric(t, "reads", len(reads))
		metric(t, "blocked-%", fmt.Sprintf("%.2f", all))
		metric(t, "longest-read", longest)
		metric(t, "calls-of-the-SDK", srv.Count("DescribeSecret"))
	})
}
