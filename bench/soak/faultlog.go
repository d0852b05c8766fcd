package main

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// A kind is one of faults. What each can excuse, the judge says.
type kind string

const (
	netReset  kind = "network: connections reset"
	netRefuse kind = "network: connections refused"
	netHole   kind = "network: black hole"
	netSlow   kind = "network: slow"
	dbRestart kind = "database: restarted"
	dbCrowded kind = "database: out of connections"

	smThrottled kind = "service: throttled"
	smDown      kind = "service: down"
	smLost      kind = "service: connections broken"
	smSlow      kind = "service: slow"
	smDenied    kind = "service: denying"
	smStale     kind = "service: stale reads"

	rotationFails kind = "rotation: fails in " // and the step
	secretRubbish kind = "secret: edited into rubbish"
	secretWrong   kind = "secret: edited to a wrong password"
)

// A fault was injected, and is over unless its end is zero.
type fault struct {
	database   string // "": none; the fault is the service's or a secret's
	kind       kind
	begin, end time.Time
}

// A faultLog says which faults there were when.
type faultLog struct {
	mu     sync.Mutex // protects following
	faults []*fault
	counts map[kind]int
}

// begin says that a fault begins, and the function that it returns that it ends.
func (l *faultLog) begin(database string, k kind) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// An hour has thousands, and nobody asks for those that are long over.
	l.faults = slices.DeleteFunc(l.faults, func(old *fault) bool {
		return !old.end.IsZero() && time.Since(old.end) > 2*patience
	})
	f := &fault{database: database, kind: k, begin: time.Now()}
	l.faults = append(l.faults, f)
	if l.counts == nil {
		l.counts = make(map[kind]int)
	}
	l.counts[k]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		f.end = time.Now()
	}
}

// between returns the faults of a database, and those of all, that were on at some
// time between the two instants. One counts for so much longer than it lasts.
func (l *faultLog) between(database string, from, to time.Time, grace time.Duration) []fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	var during []fault
	for _, f := range l.faults {
		if f.database != "" && f.database != database || f.begin.After(to) || !f.end.IsZero() && f.end.Add(grace).Before(from) {
			continue
		}
		during = append(during, *f)
	}
	return during
}

// count returns how many faults of each kind there were.
func (l *faultLog) count() map[kind]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}
