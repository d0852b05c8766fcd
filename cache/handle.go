package cache

import (
	"context"
	"sync/atomic"
	"time"
)

// A Handle is one secret of a [Cache], found once: a read through it costs a look
// at the clock and no lookup. It is safe for concurrent use and valid as long as
// the Cache.
type Handle struct {
	entry atomic.Pointer[entry]
}

// Handle returns a handle on the AWSCURRENT version of the secret. It does no I/O.
func (c *Cache) Handle(secretID string) *Handle {
	h := &Handle{}
	h.entry.Store(c.entry(key{id: secretID}))
	return h
}

// Get is [Cache.Get] for the Handle's secret.
func (h *Handle) Get(ctx context.Context) (*Secret, error) {
	if s := h.entry.Load().fresh(); s != nil {
		return s, nil
	}
	return h.get(ctx)
}

func (h *Handle) get(ctx context.Context) (*Secret, error) {
	e := h.entry.Load()
	for {
		s, err := e.do(func(e *entry) (*Secret, error) { return e.get(ctx) })
		if err != errMoved { //nolint:errorlint // It is never wrapped.
			return s, err
		}
		e = h.found()
	}
}

// found looks the entry up again: the one that was found may have been evicted.
func (h *Handle) found() *entry {
	e := h.entry.Load()
	e = e.cache.entry(e.key)
	h.entry.Store(e)
	return e
}

// Peek returns the AWSCURRENT version that is held now, which may be beyond its
// TTL, and false if there is none that a read might return. It never waits; if the
// value wants to be refreshed, that begins behind it, but not in serverless mode.
func (h *Handle) Peek() (*Secret, bool) {
	e := h.entry.Load()
	if s := e.fresh(); s != nil {
		return s, true
	}
	if e.last.Load() == nil {
		e = h.found()
	}
	o := e.last.Load()
	if e.cache.closed.Load() {
		return nil, false
	}
	switch e.state(o) {
	case Dead:
		return nil, false
	case Fresh:
	case Aging, Expired, Failing:
		e.refreshBehind(e.cache.done, o)
	}
	return o.secret, true
}

// A Status is what is known of a secret at a moment.
type Status struct {
	State     State         // what a read would come to
	VersionID string        // of the version held, empty if none is
	Age       time.Duration // since the start of the call that read it
	Err       error         // of the last call, if it failed: an [*Error]
	Failures  int           // how many calls in a row have failed
}

// Status returns what is known of the secret now. It never waits and starts
// nothing. A program is healthy as long as State is not [Dead].
func (h *Handle) Status() Status {
	e := h.entry.Load()
	if e.last.Load() == nil {
		e = h.found()
	}
	o := e.last.Load()
	status := Status{State: e.state(o)}
	if e.cache.closed.Load() {
		status.State, status.Err = Dead, ErrClosed
		return status
	}
	if o == nil {
		return status
	}
	if o.secret != nil {
		status.VersionID, status.Age = o.secret.versionID, e.cache.clock.Since(o.secret.fetched)
	}
	if o.fail != nil {
		status.Err, status.Failures = e.named(o.fail.err), o.fail.count
	}
	return status
}
