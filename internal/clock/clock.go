// Package clock tells how long ago something was, also where the machine was
// stopped meanwhile.
//
// Go's monotonic clock may stand still while a sandbox is frozen (golang/go#24595),
// and the wall clock alone is set now and then. So a [Clock] that counts by both
// takes the monotonic clock's word, unless the wall clock has gone more than a
// second further: then the machine was stopped, or the clock was wrong, and the
// wall clock's word is taken.
package clock

import (
	"sync"
	"sync/atomic"
	"time"
)

// gap is how far the clocks may be apart before that counts. What the wall clock
// is set by in daily operation is less.
const gap = time.Second

// A Clock measures ages. It is safe for concurrent use.
type Clock struct {
	start time.Time
	both  bool

	mu    sync.Mutex             // held by who adds to stops
	stops atomic.Pointer[[]stop] // of a test's making; nil in every program
}

// A stop is a time for which the monotonic clock is said to have stood still.
type stop struct {
	at time.Time
	d  time.Duration
}

// New returns a Clock that counts by both clocks, or by the monotonic one alone.
func New(both bool) *Clock { return &Clock{start: time.Now(), both: both} }

// Both reports whether the Clock counts by both clocks.
func (c *Clock) Both() bool { return c.both }

// Elapsed returns how long ago New was, by the monotonic clock alone: the
// cheapest reading there is, half the price of time.Now.
func (c *Clock) Elapsed() time.Duration { return time.Since(c.start) }

// At returns what Elapsed returned at t.
func (c *Clock) At(t time.Time) time.Duration { return t.Sub(c.start) }

// Since returns how long ago t was. t must be a reading of time.Now.
func (c *Clock) Since(t time.Time) time.Duration {
	if !c.both {
		return time.Since(t)
	}
	age, ahead := c.read(t)
	if ahead > gap {
		age += ahead
	}
	return age
}

// Stopped reports whether the clocks say that the machine was stopped since t.
// It is false if the Clock does not count by both.
func (c *Clock) Stopped(t time.Time) bool {
	if !c.both {
		return false
	}
	_, ahead := c.read(t)
	return ahead > gap
}

// Stop makes the Clock count as if the machine had been stopped for d just now. A
// test calls it: a stopped process does not stop the monotonic clock.
func (c *Clock) Stop(d time.Duration) {
	// What happens before and after it must not share its instant, as it would
	// in a synctest bubble.
	time.Sleep(time.Nanosecond)
	defer time.Sleep(time.Nanosecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	stops := []stop{{time.Now(), d}}
	if before := c.stops.Load(); before != nil {
		stops = append(stops, *before...)
	}
	c.stops.Store(&stops)
}

// read returns how long ago t was by the monotonic clock, and how much longer by
// the wall clock.
func (c *Clock) read(t time.Time) (age, ahead time.Duration) {
	now := time.Now()
	age = now.Sub(t)
	ahead = now.Round(0).Sub(t.Round(0)) - age
	stops := c.stops.Load()
	if stops == nil {
		return age, ahead
	}
	for _, stop := range *stops {
		if !stop.at.Before(t) {
			ahead += stop.d
		}
	}
	return age, ahead
}
