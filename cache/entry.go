package cache

import (
	"context"
	"fmt"
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

// An outcome is what a flight left behind.
type outcome struct {
	flight uint64    // its number
	began  time.Time // its start
	secret *Secret   // what it read; if it failed, what the one before it left
	prior  *Secret   // the version that was held before that one
	left   uint64    // the number of the flight that saw prior replaced
	fail   *failure  // why it failed, or nil

	aging time.Duration // the age from which the secret wants to be refreshed
	quiet time.Duration // until then, by the clock's Elapsed, a read is done without a thought
}

// A failure is that of the last flight.
type failure struct {
	err   *Error
	ended time.Time
	pause time.Duration // after that, for which nobody but a forced read asks again
	stale time.Duration // after that, longer than pause, it says nothing about the service any more
	count int           // of flights in a row that have failed
	slow  int           // of those, how many at the end were left because they took too long

	retried atomic.Bool // the service is being asked again, behind the reads
}

// An op is what a call of the Cache wants, and what its error says.
type op string

const (
	opGet     op = "get"     // a value, if need be one that is held
	opRefresh op = "refresh" // the service's answer
)

// A State is what a read of a secret comes to: see [Status].
type State string

// The states that a secret goes through as its value grows old.
const (
	Fresh   State = "fresh"   // the value is returned
	Aging   State = "aging"   // the value is returned, and refreshed behind the reads
	Expired State = "expired" // a read waits for a newer value, for Options.StaleWait
	Failing State = "failing" // the value is returned although it could not be refreshed
	Dead    State = "dead"    // there is no value that may be returned
)

// state decides, for every read there is. A value stays good until its TTL,
// whatever became of a forced read of it. Beyond that it is better than the
// error of a service that does not answer, but not than that of a service which
// says that we may not have it any more.
func (e *entry) state(o *outcome) State {
	if o == nil || o.secret == nil {
		return Dead
	}
	opts := &e.cache.opts
	switch age := e.cache.clock.Since(o.secret.fetched); {
	case age < opts.TTL && age < o.aging:
		return Fresh
	case age < opts.TTL:
		return Aging
	case age >= opts.TTL+opts.MaxStale:
		return Dead
	case o.fail == nil:
		return Expired
	case !o.fail.err.Transient:
		return Dead
	case o.fail.retried.Load() || e.cache.clock.Since(o.fail.ended) < o.fail.stale:
		return Failing
	}
	// Nobody has asked for so long that the service may well answer again.
	return Expired
}

// pausing reports whether the back-off after a failure keeps reads from asking.
func (e *entry) pausing(o *outcome) bool {
	return o != nil && o.fail != nil && e.cache.clock.Since(o.fail.ended) < o.fail.pause
}

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
			if e.pausing(own) || e.refreshBehind(ctx, own) {
				return e.stale(ctx, o), nil
			}
			patience = e.patience(own)
		}
		w.stale, w.patience = o, patience
	case Dead:
		// A failure is held for its back-off: a wrong name in a hot path must
		// not become an API bill.
		if e.pausing(own) {
			return nil, e.named(own.fail.err)
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

// sibling returns what the entry of AWSCURRENT knows better than this one does
// itself, or nil. Contents of versions never change, so a version answers for its
// ID; and the one that AWSCURRENT has left is where AWSPREVIOUS went, whatever was
// read of that before. Neither is fresh beyond TTL after the read that showed it:
// access may have ended, and another rotation may have followed.
func (e *entry) sibling(own *outcome) *outcome {
	if e.key.version == "" && e.key.stage != Previous {
		return nil
	}
	current := e.cache.current(e.key.id)
	if current == nil {
		return nil
	}
	o := current.last.Load()
	if o == nil {
		return nil
	}
	if e.key.stage == Previous {
		if o.prior == nil || own != nil && own.flight > o.left {
			return nil
		}
		return e.borrowed(o.prior, own)
	}
	for _, s := range []*Secret{o.secret, o.prior} {
		if s != nil && s.versionID == e.key.version && (own == nil || own.secret == nil || own.secret.fetched.Before(s.fetched)) {
			return e.borrowed(s, own)
		}
	}
	return nil
}

// borrowed returns the outcome of a flight that this entry did not make.
func (e *entry) borrowed(s *Secret, own *outcome) *outcome {
	o := &outcome{secret: s, aging: e.cache.opts.TTL}
	if own != nil {
		o.fail = own.fail
	}
	return o
}

// current returns the entry of AWSCURRENT, or nil if nobody has read that.
func (c *Cache) current(id string) *entry {
	if e := c.table.Load().find(key{id: id}); e != nil {
		return e
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.arns[id]
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
		if o != nil && o.fail != nil {
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

// A want is what a read waits for.
type want struct {
	op    op
	held  func(*outcome) bool // accepts what the last flight left
	joins func(*flight) bool  // accepts a flight that is under way

	stale    *outcome      // what is returned instead when ctx ends or patience does, if not nil
	patience time.Duration // how long a flight may take until then
}

// wait returns the result of the last flight if w accepts it, else of one that w
// accepts: it waits out a flight that w does not, and starts one if there is
// none. It leaves a flight to its other readers when ctx ends.
func (e *entry) wait(ctx context.Context, w want) (*Secret, error) {
	c := e.cache
	for first := true; ; first = false {
		if c.closed.Load() {
			return nil, ErrClosed
		}
		f, o, err := e.join(ctx, w)
		switch {
		case err != nil:
			return nil, err
		case o != nil:
			return e.result(ctx, w.op, o)
		case f == nil && w.stale != nil:
			return e.stale(ctx, w.stale), nil
		case f == nil:
			return nil, e.gaveUp(ctx, w.op)
		}
		if first {
			c.counters.waits.Add(1)
		}
		switch e.await(ctx, w, f) {
		case landed:
			// f's own outcome, and not the entry's last: that may be a later
			// flight's by now, and a failure where f brought what was asked for.
			if o := f.outcome; o != nil && w.joins(f) {
				if c.closed.Load() {
					return nil, ErrClosed
				}
				return e.result(ctx, w.op, o)
			}
		case gaveUp:
			if w.stale == nil {
				return nil, e.gaveUp(ctx, w.op)
			}
			return e.stale(ctx, w.stale), nil
		case closed:
			return nil, ErrClosed
		}
	}
}

// join returns the last outcome if w accepts it, else the flight to wait for, as
// one of those who do; neither if ctx has ended: a reader that has given up
// starts no call.
func (e *entry) join(ctx context.Context, w want) (*flight, *outcome, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone || e.leader.Load() != nil {
		return nil, nil, errMoved
	}
	if o := e.last.Load(); o != nil && w.held(o) {
		return nil, o, nil
	}
	if e.flight != nil && e.cache.clock.Stopped(e.flight.began) {
		e.leaveLocked(e.flight, nil) // its connection did not outlive that
	}
	f := e.flight
	if f == nil {
		if ctx.Err() != nil {
			return nil, nil, nil
		}
		if f = e.startLocked(ctx, w.op); f == nil {
			return nil, nil, ErrClosed
		}
	}
	f.waiters++
	return f, nil, nil
}

// An ending is how the wait for a flight ended.
type ending int

const (
	landed ending = iota // it is over
	gaveUp               // ctx has ended, or patience
	closed               // the Cache is
)

// await waits for the flight, of which the caller is one of those who wait.
func (e *entry) await(ctx context.Context, w want, f *flight) ending {
	var patience <-chan time.Time
	if w.stale != nil {
		left := w.patience - e.cache.clock.Since(f.began)
		timer := time.NewTimer(max(left, 0))
		defer timer.Stop()
		patience = timer.C
	}
	ended, slow := landed, false
	select {
	case <-f.done:
	case <-ctx.Done():
		ended = gaveUp
	case <-patience:
		ended, slow = gaveUp, true
	case <-e.cache.done.Done():
		ended = closed
	}
	var err error
	if slow {
		err = fmt.Errorf("no answer within %v, and in serverless mode nothing goes on behind a read", w.patience)
	}
	e.leave(f, err)
	return ended
}

// leave takes one of those who wait off a flight. Behind the last one nothing may
// go on in serverless mode: the flight ends, and counts as failed if err is not nil.
func (e *entry) leave(f *flight, err error) {
	if f == nil {
		return
	}
	e.mu.Lock()
	f.waiters--
	log := func() {}
	if f.waiters == 0 && e.cache.clock.Both() {
		log = e.leaveLocked(f, err)
	}
	e.mu.Unlock()
	log()
}

// result is what a call returns that takes the outcome for its answer: a forced
// read its failure, any other read the value that is held, if that may be.
func (e *entry) result(ctx context.Context, op op, o *outcome) (*Secret, error) {
	switch {
	case o.fail == nil:
		return o.secret, nil
	case op == opGet && e.state(o) != Dead:
		return e.stale(ctx, o), nil
	}
	return nil, e.named(o.fail.err)
}

// gaveUp returns the error of a reader whose context has ended. What the service
// last said is a better answer than that, so it says both.
func (e *entry) gaveUp(ctx context.Context, op op) error {
	err := ctx.Err()
	if o := e.last.Load(); o != nil && o.fail != nil {
		err = fmt.Errorf("%w (the last call failed: %w)", err, o.fail.err.Err)
	}
	return e.fail(op, time.Now(), err)
}

// invalidate forgets what is held, and disbelieves a flight that is under way.
func (e *entry) invalidate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.floor = e.cache.number.Load()
	e.last.Store(nil)
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
