package cache

import (
	"context"
	"fmt"
	"time"
)

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
		case f == nil:
			return e.instead(ctx, w)
		}
		if first {
			c.counters.waits.Add(1)
		}
		switch e.await(ctx, w, f) {
		case landed:
			// f's own outcome, and not the entry's last: that may be a later
			// flight's by now, and a failure where f brought what was asked for.
			if o := f.outcome; o != nil && w.joins(f) && !c.clock.Stopped(f.began) {
				if c.closed.Load() {
					return nil, ErrClosed
				}
				return e.result(ctx, w.op, o)
			}
		case gaveUp:
			if ctx.Err() != nil || e.state(w.stale) != Dead {
				return e.instead(ctx, w)
			}
			w.stale = nil // too old by now: there is nothing else to wait for
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
	// What was on its way while the machine stood still is as old as that.
	if o := e.last.Load(); o != nil && w.held(o) && !e.cache.clock.Stopped(o.began) {
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
	if o.fail == nil {
		return o.secret, nil
	}
	if op == opGet {
		held := o
		if better := e.sibling(o); better != nil {
			held = better
		}
		if e.state(held) != Dead {
			return e.stale(ctx, held), nil
		}
	}
	return nil, e.named(o.fail.err)
}

// instead is what a reader gets who waits no longer: the value that was held when it
// began to wait, if that is not too old by now.
func (e *entry) instead(ctx context.Context, w want) (*Secret, error) {
	if w.stale != nil && e.state(w.stale) != Dead {
		return e.stale(ctx, w.stale), nil
	}
	return nil, e.gaveUp(ctx, w.op)
}

// gaveUp returns the error of a reader whose context has ended.
func (e *entry) gaveUp(ctx context.Context, op op) error {
	err := ctx.Err()
	if o := e.last.Load(); o != nil && o.fail != nil {
		err = &interruption{err, o.fail.err}
	}
	return e.fail(op, time.Now(), err)
}
