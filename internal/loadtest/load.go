// Package loadtest puts a pool of connections under load while the password of its
// secret changes, and counts what that costs: queries that fail, logins that are
// refused. It is what the tests of the drivers' packages have in common. Only tests
// import it.
package loadtest

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxReports bounds the failed queries that are reported one by one.
const maxReports = 10

// A Load is a number of workers that make one query after the other, each of which
// must succeed. All methods may be called concurrently.
type Load struct {
	t     *testing.T
	query func(context.Context) error
	pace  time.Duration

	queries, failed atomic.Int64
	longest         atomic.Int64   // of the queries, in nanoseconds
	steps           []atomic.Int64 // by worker: odd while it is at a query
	workers         sync.WaitGroup

	mu      sync.Mutex    // protects following
	rush    chan struct{} // closed to have all workers query at once
	stopped bool
}

// Start starts the workers. Each pauses between two queries, for pace on average. A
// query has no deadline: a caller that waits for a rotation waits for its end. Each
// that fails is an error of t.
func Start(t *testing.T, workers int, pace time.Duration, query func(context.Context) error) *Load {
	t.Helper()
	l := &Load{t: t, query: query, pace: pace, rush: make(chan struct{}), steps: make([]atomic.Int64, workers)}
	for i := range workers {
		l.workers.Go(func() { l.work(&l.steps[i]) })
	}
	t.Cleanup(l.Stop)
	return l
}

func (l *Load) work(steps *atomic.Int64) {
	for l.pause() {
		steps.Add(1)
		began := time.Now()
		// Not the test's own context: that ends before the workers do.
		err := l.query(context.Background())
		took := int64(time.Since(began))
		for {
			longest := l.longest.Load()
			if took <= longest || l.longest.CompareAndSwap(longest, took) {
				break
			}
		}
		if err != nil && l.failed.Add(1) <= maxReports {
			l.t.Errorf("a query failed after %v: %v", time.Duration(took), err)
		}
		l.queries.Add(1)
		steps.Add(1)
	}
}

// pause waits for a worker's next query. It reports false if there is to be none.
func (l *Load) pause() bool {
	l.mu.Lock()
	rush, stopped := l.rush, l.stopped
	l.mu.Unlock()
	if stopped {
		return false
	}
	timer := time.NewTimer(rand.N(2 * l.pace))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-rush:
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.stopped
	}
}

// Rush has all workers that pause make their next query now.
func (l *Load) Rush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.rush)
	l.rush = make(chan struct{})
}

// Live waits until the workers have made n more queries. As Settle, it ends the test if
// one has failed: what comes after that says little.
func (l *Load) Live(t *testing.T, n int64) {
	t.Helper()
	until := l.queries.Load() + n
	Eventually(t, "queries", func() bool {
		l.check(t)
		return l.queries.Load() >= until
	})
}

// Settle waits until the queries have ended that the workers are at.
func (l *Load) Settle(t *testing.T) {
	t.Helper()
	for i := range l.steps {
		at := l.steps[i].Load()
		if at%2 == 0 {
			continue
		}
		Eventually(t, "a query to end", func() bool {
			l.check(t)
			return l.steps[i].Load() != at
		})
	}
}

func (l *Load) check(t *testing.T) {
	t.Helper()
	if l.failed.Load() > 0 {
		t.FailNow()
	}
}

// Stop ends the workers. It waits for the queries that they are at, which must
// succeed too.
func (l *Load) Stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.Rush()
	l.workers.Wait()
}

// Queries returns how many queries the workers have made, and Failed how many of
// these have failed.
func (l *Load) Queries() int64 { return l.queries.Load() }

// Failed returns how many queries have failed.
func (l *Load) Failed() int64 { return l.failed.Load() }

// Longest returns how long the slowest query took.
func (l *Load) Longest() time.Duration { return time.Duration(l.longest.Load()) }

// patience is how long something may take on a busy machine that is sure to come:
// longer than a caller waits for a rotation to end.
const patience = 2 * time.Minute

// Eventually waits until ok reports true, and ends the test if it does not for
// minutes.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("waited for %s in vain", what)
		case <-t.Context().Done():
			t.Fatalf("waiting for %s: %v", what, t.Context().Err())
		}
	}
}
