package cache

import (
	"sync/atomic"
	"time"
)

// An outcome is what a flight left behind.
type outcome struct {
	flight uint64    // its number
	began  time.Time // its start
	secret *Secret   // what it read; if it failed, what the one before it left
	read   uint64    // the number of the flight that read it
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
	final bool          // one of them not for a transient reason
	slow  int           // of those, how many at the end were left because they took too long

	retried atomic.Bool // the service is being asked again, behind the reads
}

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
	case o.fail.final:
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
		if o.prior == nil || own != nil && own.read > o.left {
			return nil
		}
		return e.borrowed(o.prior, own, o.left)
	}
	for _, s := range []*Secret{o.secret, o.prior} {
		if s != nil && s.versionID == e.key.version && (own == nil || own.secret == nil || own.secret.fetched.Before(s.fetched)) {
			return e.borrowed(s, own, 0)
		}
	}
	return nil
}

// borrowed returns the outcome of a flight that this entry did not make. Of its
// own it keeps the failure, if that came after the flight with the number.
func (e *entry) borrowed(s *Secret, own *outcome, number uint64) *outcome {
	o := &outcome{secret: s, aging: e.cache.opts.TTL}
	if own != nil && own.flight > number {
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
