package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pace is the pause of a worker between two queries, on average.
	pace = 100 * time.Millisecond

	// patience is what a caller waits: longer than Keyturn does by default where every
	// version is refused, so that it is Keyturn that gives up.
	patience = 90 * time.Second

	maxFindings = 20 // that a pool lists
)

// A tally is what the workers of a pool have seen.
type tally struct {
	queries  atomic.Int64
	good     atomic.Int64
	givenUp  atomic.Int64 // by callers that did not want to wait
	longest  atomic.Int64 // of the good ones, in nanoseconds
	excused  atomic.Int64
	ours     atomic.Int64
	mu       sync.Mutex // protects following
	excuses  map[kind]int
	findings []string
	told     int // of the findings
}

// A load is the workers of all pools.
type load struct {
	faults  *faultLog
	started time.Time
	stop    chan struct{}
	workers sync.WaitGroup
}

func startLoad(pools []*pool, faults *faultLog, started time.Time) *load {
	l := &load{faults: faults, started: started, stop: make(chan struct{})}
	for _, p := range pools {
		for range size {
			l.workers.Go(func() { l.work(p) })
		}
	}
	return l
}

// end ends the workers, each after the query that it is at.
func (l *load) end() {
	close(l.stop)
	l.workers.Wait()
}

func (l *load) work(p *pool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.stop:
			return
		}
		l.query(p)
		timer.Reset(rand.N(2 * pace))
	}
}

// query makes a query, and judges how it ends.
func (l *load) query(p *pool) {
	wait, do := patience, p.query
	impatient := rand.N(20) == 0
	if impatient {
		wait = 2*time.Millisecond + rand.N(300*time.Millisecond)
	}
	if rand.N(5) == 0 {
		do = p.transact
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	deadline, _ := ctx.Deadline()
	began := time.Now()
	err := do(ctx)
	ended := time.Now()
	t := &p.tally
	t.queries.Add(1)
	switch {
	case err == nil:
		t.good.Add(1)
		for took := int64(ended.Sub(began)); ; {
			longest := t.longest.Load()
			if took <= longest || t.longest.CompareAndSwap(longest, took) {
				break
			}
		}
	case impatient && !ended.Before(deadline): // of which the network may hear before ctx does
		t.givenUp.Add(1)
	default:
		v := l.faults.judge(p.database.name, err, began, ended)
		t.fail(v, fmt.Sprintf("%v into the run, after %v: %s: %s (faults: %q)", began.Sub(l.started).Round(time.Millisecond),
			ended.Sub(began).Round(time.Millisecond), v.symptom, strings.Join(strings.Fields(err.Error()), " "), v.faults))
	}
}

func (t *tally) fail(v verdict, finding string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.excuse != "" {
		t.excused.Add(1)
		if t.excuses == nil {
			t.excuses = make(map[kind]int)
		}
		t.excuses[v.excuse]++
		return
	}
	t.ours.Add(1)
	if len(t.findings) < maxFindings {
		t.findings = append(t.findings, finding)
	}
}

// news returns the findings since it was last called.
func (t *tally) news() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := t.findings[t.told:]
	t.told = len(t.findings)
	return news
}
