package retry_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

// A pause stops one caller for a while between two of its steps, as a busy machine
// does, the first time that it is asked about the password after arm.
type pause struct {
	password string
	skip     int // how often it is asked before that
	d        time.Duration
	armed    atomic.Bool
}

func (p *pause) usable(s *cache.Secret) bool {
	if s.Text() == p.password && p.armed.CompareAndSwap(true, false) {
		time.Sleep(p.d)
	}
	return true
}

func (p *pause) user(s *cache.Secret) string {
	if s.Text() == p.password && p.armed.Load() {
		if p.skip--; p.skip < 0 {
			p.armed.Store(false)
			time.Sleep(p.d)
		}
	}
	return ""
}

// One rotation follows the other. A caller has just seen AWSPENDING on the version of
// the first when somebody else is refused with that. There is no rotation under way as
// it saw the labels, but what it saw is from before the refusal: it must look again.
func TestRefusedBehindALook(t *testing.T) {
	p := &pause{password: "v2", d: 110 * time.Millisecond}
	bubble(t, &retry.Options{Usable: p.usable}, func(_ *testing.T, w *world) {
		w.db.latency = 100 * time.Millisecond
		w.do()
		second := w.pend("v2")
		w.db.setPassword("v2")
		w.do() // refused with v1, accepted with v2, which is AWSPENDING
		w.move(cache.Current, w.version(cache.Current), second)
		third := w.pend("v3")
		w.db.setPassword("v3")
		var callers sync.WaitGroup
		p.armed.Store(true)
		callers.Go(w.do) // stops when it has seen v2 under AWSPENDING
		time.Sleep(time.Millisecond)
		callers.Go(w.do) // refused with v2, and then on its way with v3 when the other goes on
		time.Sleep(106 * time.Millisecond)
		w.move(cache.Current, second, third)
		callers.Wait()
	})
}

// The label moves, and with it ends the quarantine of the version that a caller holds,
// just when the caller has been told that it must not try that: it must look again.
func TestQuarantineEndsBehindALook(t *testing.T) {
	// It is asked for the user of v1 when that is held, when it is read again, and when
	// it is to be known why it is not tried.
	p := &pause{password: "v1", skip: 2, d: 1100 * time.Millisecond}
	bubble(t, &retry.Options{User: p.user}, func(_ *testing.T, w *world) {
		w.db.latency = 200 * time.Millisecond
		w.do()
		second := w.pend("v2")
		w.db.setPassword("v2")
		w.do() // refused with v1, accepted with v2, which is AWSPENDING
		w.move(cache.Current, w.version(cache.Current), second)
		var callers sync.WaitGroup
		p.armed.Store(true)
		callers.Go(w.do)                    // stops when v1 was not offered to it
		time.Sleep(1090 * time.Millisecond) // AWSCURRENT may be read again
		callers.Go(w.do)                    // sees v2 there; the other goes on while it logs in
		callers.Wait()
	})
}
