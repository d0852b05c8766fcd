package cache

import (
	"context"
	"sync/atomic"
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
