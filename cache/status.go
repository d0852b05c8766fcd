package cache

import (
	"iter"
	"slices"
	"time"
)

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
	if e.cache.closed.Load() {
		return Status{State: Dead, Err: ErrClosed}
	}
	return e.status(e.last.Load())
}

// Statuses returns what is known of each secret whose AWSCURRENT version the
// Cache has read, or tried to, under the ID that it was asked for: one that goes
// by its name and by its ARN is there twice. The order is no particular one, and
// once the Cache is closed there is none. It starts nothing, waits for nothing,
// and keeps nothing from being evicted; the loop may call the Cache.
//
// A secret that nobody reads any more grows old as well, until it is [Dead] of
// that alone: reads have failed only where Err is set.
func (c *Cache) Statuses() iter.Seq2[string, Status] {
	return func(yield func(string, Status) bool) {
		c.mu.Lock()
		entries := slices.Clone(c.ring)
		c.mu.Unlock()
		for _, e := range entries {
			o := e.last.Load()
			if e.key.stage != "" || e.key.version != "" || o == nil {
				continue
			}
			if c.closed.Load() || !yield(e.key.id, e.status(o)) {
				return
			}
		}
	}
}

// Keys returns the IDs of the secrets of which a version is held, of whichever label,
// each once, as they were asked for, in no particular order. It is what [Cache.Statuses]
// is for AWSCURRENT alone, without the statuses.
func (c *Cache) Keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		c.mu.Lock()
		ids := make(map[string]bool)
		for _, e := range c.ring {
			if o := e.last.Load(); o != nil && o.secret != nil {
				ids[e.key.id] = true
			}
		}
		c.mu.Unlock()
		for id := range ids {
			if !yield(id) {
				return
			}
		}
	}
}

// status returns what the outcome says of the entry's secret.
func (e *entry) status(o *outcome) Status {
	status := Status{State: e.state(o)}
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
