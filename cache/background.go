package cache

import (
	"context"
	"time"
)

// Background runs f on a goroutine that [Cache.Close] cancels and waits for. It
// reports false, and does not run f, when the Cache is closed, and in serverless
// mode, where nothing runs behind a request. Package dbconn tries out new versions
// so.
func (c *Cache) Background(f func(context.Context)) bool {
	return !c.clock.Both() && c.fly(func() { f(c.done) })
}

// Since returns how long ago t was, as the Cache counts ages: in serverless mode
// by the wall clock where the monotonic one stood still. t must be a reading of
// time.Now.
func (c *Cache) Since(t time.Time) time.Duration { return c.clock.Since(t) }
