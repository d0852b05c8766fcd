package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// An entry is what the Cache knows of one key.
type entry struct {
	cache *Cache
	key   key

	// last is how the last flight ended, nil before the first. Outcomes are
	// immutable and replaced whole, so that a read is one load.
	last atomic.Pointer[outcome]

	// leader is the entry that reads for this one, and whose outcomes this one
	// has too, or nil: what was read by a secret's name answers for its ARN.
	// The Cache's mu protects writes, and the two fields below.
	leader    atomic.Pointer[entry]
	followers []*entry // those that this one reads for
	arn       string   // what the key's secret ID was last found to mean

	used   atomic.Bool // read since eviction last looked
	warned atomic.Bool // that its value is served beyond its TTL

	// change is what a flight found out in serverless mode, for the next reader
	// to tell OnChange.
	change atomic.Pointer[change]

	mu     sync.Mutex // protects following; never held across I/O
	gone   bool       // evicted: it must not be read for any more
	flight *flight    // under way, or nil: one at a time
	floor  uint64     // flights up to this number are not to be believed
}

// An op is what a call of the Cache wants, and what its error says.
type op string

const (
	opGet     op = "get"     // a value, if need be one that is held
	opRefresh op = "refresh" // the service's answer
)

// fresh returns the value if a read need not think about it, else nil. It is the
// path of nearly every read: three loads and one look at the monotonic clock. In
// serverless mode, which wants both clocks, it is never taken: quiet is zero.
func (e *entry) fresh() *Secret {
	o := e.last.Load()
	if o == nil || e.cache.clock.Elapsed() >= o.quiet || e.cache.closed.Load() {
		return nil
	}
	e.touch()
	return o.secret
}

// touch tells eviction that the entry is read. Written once and not each time,
// so that the processors that read it share its cache line.
func (e *entry) touch() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

func (e *entry) get(ctx context.Context) (*Secret, error) {
	c := e.cache
	// The closed check comes first although it is the rarer case: a program
	// that closed its Cache must not go on by chance until the TTL.
	if c.closed.Load() {
		return nil, ErrClosed
	}
	own := e.last.Load()
	o := own
	if better := e.sibling(own); better != nil {
		o = better
	}
	state := e.state(o)
	if state == Fresh || state == Aging {
		e.touch() // and not at the read that makes the entry, which may be the last
		if state == Aging {
			e.refreshBehind(ctx, own)
		}
		return o.secret, nil
	}
	var w want
	switch state {
	case Failing, Expired:
		patience := c.opts.StaleWait
		if state == Failing || patience < 0 {
			if e.pausing(o) || e.refreshBehind(ctx, own) {
				return e.stale(ctx, o), nil
			}
			patience = e.patience(o)
		}
		w.stale, w.patience = o, patience
	case Dead:
		// A failure is held for its back-off: a wrong name in a hot path must
		// not become an API bill.
		if e.pausing(o) {
			return nil, e.named(o.fail.err)
		}
	}
	floor := e.believed()
	w.op = opGet
	// The next outcome will do, whoever caused it.
	w.held = func(now *outcome) bool { return now != own }
	w.joins = func(f *flight) bool { return f.number > floor }
	return e.wait(ctx, w)
}

// patience returns how long a read waits that has to make a call itself where
// nothing may run behind it. It doubles as long as the calls take longer, up to
// what a call may take: a service that needs two seconds to answer would else
// never be heard.
func (e *entry) patience(o *outcome) time.Duration {
	wait := e.cache.opts.StaleWait
	if wait < 0 {
		wait = time.Second
	}
	if o != nil && o.fail != nil {
		wait <<= min(o.fail.slow, 16)
	}
	return min(wait, e.cache.opts.FetchTimeout)
}

// stale returns a value that may be beyond its TTL, and warns of it if it is.
func (e *entry) stale(ctx context.Context, o *outcome) *Secret {
	e.touch()
	if e.cache.clock.Since(o.secret.fetched) >= e.cache.opts.TTL {
		e.cache.counters.stale.Add(1)
		if !e.warned.Swap(true) {
			e.logStale(ctx, o)
		}
	}
	return o.secret
}

// refreshBehind has the value refreshed and waits for nothing. It reports false if
// that may not be: nothing runs behind a read in serverless mode.
func (e *entry) refreshBehind(ctx context.Context, o *outcome) bool {
	if e.cache.clock.Both() {
		return false
	}
	if leader := e.leader.Load(); leader != nil {
		e = leader
	}
	if e.pausing(o) {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.gone && e.flight == nil && e.last.Load() == o {
		if o != nil && o.fail != nil && e.state(o) == Failing {
			o.fail.retried.Store(true)
		}
		e.startLocked(ctx, opGet)
	}
	return true
}

func (e *entry) refresh(ctx context.Context) (*Secret, error) {
	after := e.cache.number.Load()
	return e.wait(ctx, want{
		op:    opRefresh,
		held:  func(o *outcome) bool { return o.flight > after || e.limited(o) },
		joins: func(f *flight) bool { return f.number > after },
	})
}

func (e *entry) refreshIf(ctx context.Context, versionID string) (*Secret, error) {
	if o := e.last.Load(); o != nil && o.secret != nil && o.secret.versionID != versionID {
		return e.get(ctx)
	}
	after := e.cache.number.Load()
	return e.wait(ctx, want{
		op: opRefresh,
		held: func(o *outcome) bool {
			return o.flight > after || e.limited(o) || o.fail == nil && o.secret.versionID != versionID
		},
		joins: func(f *flight) bool { return f.number > after },
	})
}

func (e *entry) refreshAfter(ctx context.Context, t time.Time) (*Secret, error) {
	// The number as well as the instant: a flight of our own would else not
	// count where the clock stands still (in a synctest bubble) or t lies ahead.
	after := e.cache.number.Load()
	return e.wait(ctx, want{
		op:    opRefresh,
		held:  func(o *outcome) bool { return o.flight > after || e.cache.after(o.began, t) },
		joins: func(f *flight) bool { return f.number > after || e.cache.after(f.began, t) && f.number > e.believed() },
	})
}

// after reports whether a call that began at an instant began after t. Where the
// monotonic clock stood still, the two may be hours further apart than it says.
func (c *Cache) after(began, t time.Time) bool {
	return began.After(t) && (!c.clock.Both() || c.clock.Since(began) < c.clock.Since(t))
}

// believed returns the number that a flight must be above to be believed.
func (e *entry) believed() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.floor
}

// limited reports whether Options.MinRefresh forbids a forced read after o,
// which then is the answer, be it a failure: callers that were refused a login
// come in numbers.
func (e *entry) limited(o *outcome) bool {
	return e.cache.clock.Since(o.began) < e.cache.opts.MinRefresh
}

// invalidate forgets what is held, and disbelieves a flight that is under way.
func (e *entry) invalidate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.floor = e.cache.number.Load()
	e.last.Store(nil)
}

// shun has a flight that is under way disbelieved if it turns out to be for one of
// the secrets.
func (e *entry) shun(ids map[string]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.flight != nil {
		e.flight.shunned = append(e.flight.shunned, ids)
	}
}

// retire makes the entry one that must not be read for, unless it is just now.
func (e *entry) retire() bool {
	if !e.mu.TryLock() {
		return false
	}
	defer e.mu.Unlock()
	if e.flight != nil {
		return false
	}
	e.gone = true
	e.last.Store(nil) // a Handle that has it must not go its own way with that
	return true
}
