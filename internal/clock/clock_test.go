package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/clock"
)

func TestSince(t *testing.T) {
	for _, test := range []struct {
		name             string
		both             bool
		stop             time.Duration // after a minute, and then another minute
		before, between  time.Duration // ages of what was before the stop, and after
		stopped, running bool          // Stopped of the two
	}{ // Stop itself takes two nanoseconds.
		{"one clock", false, time.Hour, 2 * time.Minute, time.Minute, false, false},
		{"both, running", true, 0, 2 * time.Minute, time.Minute, false, false},
		{"both, apart by what does not count", true, time.Second, 2 * time.Minute, time.Minute, false, false},
		{"both, stopped", true, time.Hour, time.Hour + 2*time.Minute, time.Minute, true, false},
		{"both, the wall clock set back", true, -time.Hour, 2 * time.Minute, time.Minute, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := clock.New(test.both)
			start := time.Now()
			time.Sleep(time.Minute)
			c.Stop(test.stop)
			after := time.Now()
			time.Sleep(time.Minute)
			if got := c.Since(start); got != test.before+2 {
				t.Errorf("%s: Since(before) = %v, want %v", test.name, got, test.before)
			}
			if got := c.Since(after); got != test.between {
				t.Errorf("%s: Since(after) = %v, want %v", test.name, got, test.between)
			}
			if c.Stopped(start) != test.stopped || c.Stopped(after) != test.running {
				t.Errorf("%s: Stopped = %v, %v, want %v, %v", test.name, c.Stopped(start), c.Stopped(after), test.stopped, test.running)
			}
			if got := c.Elapsed(); got != 2*time.Minute+2 || c.At(after) != time.Minute+2 {
				t.Errorf("%s: Elapsed %v, At %v", test.name, got, c.At(after))
			}
		})
	}
}

// Several stops add up, each for what was before it.
func TestStopsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.New(true)
		first := time.Now()
		c.Stop(time.Minute)
		time.Sleep(time.Second)
		second := time.Now()
		c.Stop(time.Hour)
		if got, want := c.Since(first), time.Hour+time.Minute+time.Second+4; got != want {
			t.Errorf("Since(first) = %v, want %v", got, want)
		}
		if got, want := c.Since(second), time.Hour+2; got != want {
			t.Errorf("Since(second) = %v, want %v", got, want)
		}
	})
}
