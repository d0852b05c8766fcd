package mysql

import (
	"context"
	"errors"
	"sync"
	"time"
)

// limits bound the time of logins, as [context.WithTimeout] does, with one timer for
// them all. It stays set when they are over: a login takes milliseconds, its limit is
// seconds. A timer that is set wakes a thread of the runtime to wait for it, and a
// dialler that is told of the deadline sets a second one: on loopback that was 16 of
// the 28 microseconds of CPU that a login took beside the driver's own work.
type limits struct {
	mu       sync.Mutex // protects following
	underWay map[*limited]struct{}
	set      bool // the timer is, for the first that may be over its limit or sooner
}

// A limited is the context of a login whose time is bounded.
type limited struct {
	context.Context // of the caller; ends with errLimit as its cause
	end             context.CancelCauseFunc
	deadline        time.Time
}

var errLimit = errors.New("the login has taken too long")

// withTimeout returns a context that ends with ctx, or else after d. The caller calls
// cancel when the login is over.
func (ls *limits) withTimeout(ctx context.Context, d time.Duration) (_ context.Context, cancel context.CancelFunc) {
	deadline := time.Now().Add(d)
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(deadline) {
		return context.WithCancel(ctx)
	}
	l := &limited{deadline: deadline}
	l.Context, l.end = context.WithCancelCause(ctx)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.underWay == nil {
		ls.underWay = make(map[*limited]struct{})
	}
	ls.underWay[l] = struct{}{}
	if !ls.set {
		ls.set = true
		time.AfterFunc(d, ls.enforce)
	}
	return l, func() {
		ls.mu.Lock()
		delete(ls.underWay, l)
		ls.mu.Unlock()
		l.end(nil)
	}
}

// enforce ends what is over its limit.
func (ls *limits) enforce() {
	for _, l := range ls.over() {
		l.end(errLimit)
	}
}

// over returns the logins that are over their limit, and sets the timer again if there
// are others.
func (ls *limits) over() []*limited {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var over []*limited
	var next *limited
	for l := range ls.underWay {
		switch {
		case time.Until(l.deadline) <= 0:
			over = append(over, l)
			delete(ls.underWay, l)
		case next == nil || l.deadline.Before(next.deadline):
			next = l
		}
	}
	ls.set = next != nil
	if ls.set {
		time.AfterFunc(time.Until(next.deadline), ls.enforce)
	}
	return over
}

// Deadline implements [context.Context].
func (l *limited) Deadline() (time.Time, bool) { return l.deadline, true }

// Err implements [context.Context]. Contexts made from this one say
// [context.Canceled] in its place; their cause tells.
func (l *limited) Err() error {
	err := l.Context.Err()
	if err != nil && overLimit(l.Context) {
		return context.DeadlineExceeded
	}
	return err
}

// overLimit reports whether ctx has ended because the login took too long.
func overLimit(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errLimit) }
