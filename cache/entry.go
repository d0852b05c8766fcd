package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// An entry is what the Cache knows of one secret under one staging label.
type entry struct {
	cache *Cache
	id    string
	stage string

	// last is how the last flight ended, nil before the first. Outcomes are
	// immutable and replaced whole, so that a read is one load.
	last atomic.Pointer[outcome]

	mu     sync.Mutex // protects following; never held across I/O
	flight *flight    // under way, or nil: one at a time
	number uint64     // of the last flight that was started
}

// An outcome is what a flight left behind.
type outcome struct {
	flight uint64    // its number
	began  time.Time // its start
	secret *Secret   // what it read; if it failed, what the one before it left
	err    *Error    // why it failed, or nil

	failures int       // how many flights in a row have failed, this one included
	retry    time.Time // when the next read of a failing entry may ask again
}

// An op is what a call of the Cache wants, and what its error says.
type op string

const (
	opGet     op = "get"     // a value, if need be one that is held
	opRefresh op = "refresh" // the service's answer
)

// state says what a read may do with an outcome.
type state int

const (
	empty   state = iota // wait for the service: there is nothing to return
	fresh                // take the value
	expired              // wait for the service a moment, then take the value
	failing              // take the value, and have the service asked behind it
	dead                 // take the error
)

// state decides, for every read there is. A value stays good until its TTL,
// whatever became of a forced read of it. Beyond that it is better than the
// error of a service that does not answer, but not than that of a service which
// says that we may not have it any more. A failure is held for its back-off: a
// wrong name in a hot path must not become an API bill.
func (e *entry) state(o *outcome) state {
	switch {
	case o == nil:
		return empty
	case o.secret != nil && time.Since(o.secret.fetched) < e.cache.opts.TTL:
		return fresh
	case o.err != nil && !o.err.Transient && time.Now().Before(o.retry):
		return dead
	case !e.servable(o):
		return empty
	case o.err != nil:
		return failing
	}
	return expired
}

// servable reports whether the outcome's value may be returned beyond its TTL.
func (e *entry) servable(o *outcome) bool {
	return o.secret != nil && (o.err == nil || o.err.Transient) &&
		time.Since(o.secret.fetched) < e.cache.opts.TTL+e.cache.opts.MaxStale
}

func (e *entry) get(ctx context.Context) (*Secret, error) {
	// The closed check comes first although it is the rarer case: a program
	// that closed its Cache must not go on by chance until the TTL.
	if e.cache.isClosed() {
		return nil, ErrClosed
	}
	o := e.last.Load()
	// The next outcome will do, whoever caused it.
	next, each := func(now *outcome) bool { return now != o }, func(*flight) bool { return true }
	switch e.state(o) {
	case fresh:
		return o.secret, nil
	case dead:
		return nil, o.err
	case failing:
		if time.Now().Before(o.retry) || e.start(ctx, o) {
			return o.secret, nil
		}
		return nil, ErrClosed
	case expired:
		// Started here and not by wait, which starts nothing for a reader
		// whose time is over: StaleWait may be none.
		if ctx.Err() == nil && !e.start(ctx, o) {
			return nil, ErrClosed
		}
		short, cancel := context.WithTimeout(ctx, e.cache.opts.StaleWait)
		defer cancel()
		s, err := e.wait(short, opGet, next, each)
		if err != nil && short.Err() != nil && ctx.Err() == nil && !e.cache.isClosed() {
			return o.secret, nil // the flight goes on
		}
		return s, err
	}
	return e.wait(ctx, opGet, next, each)
}

// start starts a flight, unless there is one or has been one since o, and waits
// for nothing. It reports false if the Cache is closed.
func (e *entry) start(ctx context.Context, o *outcome) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.flight != nil || e.last.Load() != o || e.startLocked(ctx, opGet) != nil
}

func (e *entry) refresh(ctx context.Context) (*Secret, error) {
	after := e.started()
	return e.wait(
		ctx, opRefresh,
		func(o *outcome) bool { return o.flight > after || e.limited(o) },
		func(f *flight) bool { return f.number > after },
	)
}

func (e *entry) refreshIf(ctx context.Context, versionID string) (*Secret, error) {
	if o := e.last.Load(); o != nil && o.secret != nil && o.secret.versionID != versionID {
		return e.get(ctx)
	}
	after := e.started()
	return e.wait(
		ctx, opRefresh,
		func(o *outcome) bool {
			return o.flight > after || e.limited(o) || o.err == nil && o.secret.versionID != versionID
		},
		func(f *flight) bool { return f.number > after },
	)
}

func (e *entry) refreshAfter(ctx context.Context, t time.Time) (*Secret, error) {
	// The number as well as the instant: a flight of our own would else not
	// count where the clock stands still (in a synctest bubble) or t lies ahead.
	after := e.started()
	return e.wait(
		ctx, opRefresh,
		func(o *outcome) bool { return o.flight > after || o.began.After(t) },
		func(f *flight) bool { return f.number > after || f.began.After(t) },
	)
}

// result is what a call returns that takes the outcome for its answer: a forced
// read its failure, any other read the value that is held, if that may be.
func (e *entry) result(op op, o *outcome) (*Secret, error) {
	if o.err == nil || op == opGet && e.servable(o) {
		return o.secret, nil
	}
	return nil, o.err
}

// started returns the number of the last flight that was started: a flight with
// a higher number began after now.
func (e *entry) started() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.number
}

// limited reports whether Options.MinRefresh forbids a forced read after o,
// which then is the answer, be it a failure: callers that were refused a login
// come in numbers.
func (e *entry) limited(o *outcome) bool { return time.Since(o.began) < e.cache.opts.MinRefresh }

// wait returns the result of the last flight if held accepts it, else of one
// that joins accepts: it waits out a flight that joins refuses, and starts one
// if there is none. It leaves a flight to its other readers when ctx ends.
func (e *entry) wait(ctx context.Context, op op, held func(*outcome) bool, joins func(*flight) bool) (*Secret, error) {
	for {
		if e.cache.isClosed() {
			return nil, ErrClosed
		}
		e.mu.Lock()
		if o := e.last.Load(); o != nil && held(o) {
			e.mu.Unlock()
			return e.result(op, o)
		}
		f := e.flight
		// A reader that has given up already starts no call.
		if f == nil && ctx.Err() == nil {
			if f = e.startLocked(ctx, op); f == nil {
				e.mu.Unlock()
				return nil, ErrClosed
			}
		}
		e.mu.Unlock()
		if f == nil {
			return nil, e.fail(op, time.Now(), ctx.Err())
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, e.fail(op, time.Now(), ctx.Err())
		case <-e.cache.done.Done():
			return nil, ErrClosed
		}
		// f's own outcome, and not the entry's last: that may be a later flight's
		// by now, and a failure where f brought what was asked for.
		if joins(f) {
			if e.cache.isClosed() {
				return nil, ErrClosed
			}
			return e.result(op, f.outcome)
		}
	}
}
