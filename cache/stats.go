package cache

import "sync/atomic"

// Stats are the counts of a [Cache] since [New]. Reads that returned at once are
// not among them: counting them would cost as much as they do.
type Stats struct {
	Entries    int    // what is held now, as Options.MaxEntries counts
	Calls      uint64 // of GetSecretValue
	BatchCalls uint64 // of BatchGetSecretValue
	Failures   uint64 // reads from the service that failed, of secrets, not calls
	Waits      uint64 // reads that waited for a call
	Stale      uint64 // reads that returned a value beyond its TTL
	Changes    uint64 // versions that were replaced by another
	Rejections uint64 // versions that Options.Validate rejected
	Evictions  uint64 // entries that went for want of room
}

type counters struct {
	calls, batches, failures, waits, stale, changes, rejections, evictions atomic.Uint64
}

// Stats returns the counts so far. It never waits for I/O.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	entries := len(c.ring)
	c.mu.Unlock()
	n := &c.counters
	return Stats{
		Entries:    entries,
		Calls:      n.calls.Load(),
		BatchCalls: n.batches.Load(),
		Failures:   n.failures.Load(),
		Waits:      n.waits.Load(),
		Stale:      n.stale.Load(),
		Changes:    n.changes.Load(),
		Rejections: n.rejections.Load(),
		Evictions:  n.evictions.Load(),
	}
}
