package cache

import (
	"context"
	"math/rand/v2"
	"time"
)

// A flight is one read from the service, shared by all who wait for it.
type flight struct {
	number uint64
	began  time.Time
	ctx    context.Context // of this very call, from its start to its end
	cancel context.CancelFunc
	op     op
	done   chan struct{} // closed at its end, or when it was left

	outcome *outcome // written before done is closed; nil if it was left

	// The entry's mu protects following.
	waiters int
	over    bool              // done is closed
	shunned []map[string]bool // the IDs of secrets that were invalidated since it began
}

// shuns reports whether an answer is of a secret that was invalidated since the
// flight began.
func (f *flight) shuns(a answer) bool {
	if a.secret == nil {
		return false
	}
	for _, ids := range f.shunned {
		for id := range ids {
			if means(id, a.secret.arn) {
				return true
			}
		}
	}
	return false
}

// An answer is what a flight brought.
type answer struct {
	secret *Secret
	err    error
	arn    string // what the secret ID means, if the answer tells for sure
}

// startLocked starts a flight, or returns nil if the Cache is closed. The
// caller holds e.mu.
func (e *entry) startLocked(ctx context.Context, op op) *flight {
	f := e.beginLocked(ctx, op)
	if !e.cache.fly(func() { e.run(f) }) {
		e.flight = nil
		f.cancel()
		return nil
	}
	return f
}

// beginLocked makes a flight, which somebody has to run. The caller holds e.mu.
func (e *entry) beginLocked(ctx context.Context, op op) *flight {
	// Detached: the first reader to come keeps its values (traces hang on
	// them), but its end is not the other readers'.
	ctx = context.WithoutCancel(ctx)
	if op == opRefresh {
		ctx = context.WithValue(ctx, forcedKey{}, true)
	}
	f := &flight{number: e.cache.number.Add(1), began: time.Now(), op: op, done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(ctx)
	e.flight = f
	return f
}

// run is a flight, from the call to the outcome.
func (e *entry) run(f *flight) { e.runWith(f, func() answer { return e.ask(f) }) }

// finish is what is left of a flight when the service's answer is there.
func (e *entry) finish(f *flight, a answer) {
	e.runWith(f, func() answer { return e.consider(f, a) })
}

func (e *entry) runWith(f *flight, ask func() answer) {
	defer f.cancel()
	defer context.AfterFunc(e.cache.done, f.cancel)()
	var a answer
	answered := false
	// Deferred, so that a client that panics, or ends the goroutine as a failing
	// test does, leaves an error to the readers and not a flight without end.
	defer func() {
		if value := recover(); !answered {
			a = answer{err: panicked("the client", value)}
		}
		e.land(f, a)
	}()
	a = ask()
	answered = true
}

// land ends a flight.
func (e *entry) land(f *flight, a answer) {
	if report := e.settle(f, a); report != nil {
		report()
	}
}

// settle gives the readers of a flight its outcome. It returns what is then to be
// told to the log and to OnChange, which may take their time, or nil.
func (e *entry) settle(f *flight, a answer) (report func()) {
	c := e.cache
	e.mu.Lock()
	if f.over {
		e.mu.Unlock()
		return nil // left; nobody waits for it
	}
	before := e.last.Load()
	o := e.outcome(f, before, a)
	e.flight = nil
	var ch *change
	// What is held may come from a later one, by the secret's ARN.
	if f.shuns(a) {
		e.floor = max(e.floor, f.number)
		e.last.Store(nil)
	}
	if f.number > e.floor && (before == nil || before.flight < f.number) {
		e.last.Store(o)
		merged := c.found(e, a.arn)
		if ch = changed(e.key, before, o); ch == nil {
			ch = merged
		}
	}
	if o.fail == nil {
		e.warned.Store(false)
	}
	f.outcome, f.over = o, true
	if c.clock.Both() {
		// The readers do the rest: behind them nothing may run.
		if ch != nil {
			e.change.Store(ch)
		}
		e.mu.Unlock()
		e.log(f.ctx, before, o)
		close(f.done)
		return nil
	}
	e.mu.Unlock()
	close(f.done)
	return func() {
		e.log(f.ctx, before, o)
		if ch != nil && c.opts.OnChange != nil {
			c.changes.Post(*ch)
		}
	}
}

// leaveLocked ends a flight that nobody waits for any more. If err is not nil the
// flight counts as failed with it. The caller holds e.mu, and once it does not any
// more calls what is returned, which writes the log.
func (e *entry) leaveLocked(f *flight, err error) (log func()) {
	log = func() {}
	if f.over {
		return log
	}
	f.cancel()
	f.over = true
	if e.flight == f {
		e.flight = nil
	}
	if before := e.last.Load(); err != nil && f.number > e.floor {
		o := e.outcome(f, before, answer{err: err})
		o.fail.slow = 1
		if before != nil && before.fail != nil {
			o.fail.slow += before.fail.slow
		}
		e.last.Store(o)
		e.cache.found(e, "")
		log = func() { e.log(f.ctx, before, o) }
	}
	close(f.done)
	return log
}

// tellChange tells OnChange what a flight found out, if nobody has yet.
func (e *entry) tellChange() {
	if e.change.Load() == nil {
		return
	}
	if ch := e.change.Swap(nil); ch != nil && e.cache.opts.OnChange != nil {
		e.cache.changes.Post(*ch)
	}
}

// changed returns the change from before to o that OnChange hears of, or nil.
func changed(k key, before, o *outcome) *change {
	if before == nil || before.secret == nil || o.secret == nil || before.secret.versionID == o.secret.versionID ||
		k.stage != "" || k.version != "" {
		return nil
	}
	return &change{before.secret, o.secret}
}

// outcome returns what the entry has after a flight.
func (e *entry) outcome(f *flight, before *outcome, a answer) *outcome {
	c := e.cache
	o := &outcome{flight: f.number, began: f.began, secret: a.secret, read: f.number, aging: c.aging()}
	if before != nil {
		o.prior, o.left = before.prior, before.left
		switch {
		case a.secret == nil:
			o.secret, o.read, o.aging = before.secret, before.read, before.aging
		case before.secret != nil && before.secret.versionID != a.secret.versionID:
			if o.prior, o.left = before.secret, f.number; !c.same(a.secret.arn, before.secret.arn) {
				o.prior = nil // of another secret, that had the name before
			}
			c.counters.changes.Add(1)
		}
	}
	if a.err != nil {
		o.fail = &failure{err: e.fail(f.op, f.began, a.err), ended: time.Now()}
		o.fail.final = !o.fail.err.Transient
		if before != nil && before.fail != nil {
			o.fail.count = before.fail.count
			o.fail.final = o.fail.final || before.fail.final
		}
		o.fail.pause, o.fail.stale = backoff(o.fail.count, e.longest(o))
		o.fail.count++
		c.counters.failures.Add(1)
		if a.secret != nil {
			o.aging = 0 // it stands in for what was rejected: look again soon
		}
	}
	if o.secret != nil && !c.clock.Both() {
		o.quiet = c.clock.At(o.secret.fetched) + min(o.aging, c.opts.TTL)
		if o.fail != nil {
			// A read that may not ask again need not think either.
			rest := min(c.clock.At(o.fail.ended)+o.fail.pause, c.clock.At(o.secret.fetched)+c.opts.TTL)
			o.quiet = max(o.quiet, rest)
		}
	}
	return o
}

// aging returns the age from which a value wants to be refreshed: about 0.8 TTL,
// and another one each time, so that fleets that started together spread. Where
// nothing runs in the background there is no such age.
func (c *Cache) aging() time.Duration {
	ttl := c.opts.TTL
	if c.clock.Both() {
		return ttl
	}
	return ttl*3/4 + rand.N(ttl/10+1)
}

// The back-off between the reads of an entry that fails. It ends sooner where it
// keeps a value from readers who have none: a service that fails answers again any
// moment, a policy is mended by people.
const (
	firstBackoff  = time.Second
	lastBackoff   = time.Minute
	coldBackoff   = 8 * time.Second
	deniedBackoff = 30 * time.Second
)

// longest returns the longest back-off after such an outcome.
func (e *entry) longest(o *outcome) time.Duration {
	switch {
	case o.fail.final:
		return deniedBackoff
	case e.state(o) == Dead:
		return coldBackoff
	}
	return lastBackoff
}

// backoff returns the pause after so many failures before this one, spread over
// half of itself so that fleets do not ask together, and what it can be at most.
func backoff(failures int, longest time.Duration) (pause, most time.Duration) {
	d := longest
	if failures < 6 { // 1 s, 2 s, .. 32 s
		d = min(firstBackoff<<failures, longest)
	}
	return d/2 + rand.N(d*2/5), d
}
