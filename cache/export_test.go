package cache

import "time"

// Freeze makes c count as if the machine had been stopped for d just now: the
// wall clock has moved on, the monotonic clock has not. It is of consequence in
// serverless mode alone.
func (c *Cache) Freeze(d time.Duration) { c.clock.Stop(d) }
