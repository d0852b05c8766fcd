package cache

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Cache holds secrets in process. It is safe for concurrent use. Make one
// with [New], share it in the whole program, and close it last.
type Cache struct {
	client API
	opts   Options // complete, never changed

	// records holds a *record for every secret ID that was ever asked for.
	// Reads find theirs without a lock.
	records sync.Map

	// done ends when the Cache is closed; every flight's context ends with it.
	done   context.Context
	cancel context.CancelFunc

	mu      sync.Mutex     // protects the pair below: no Add once closed is true
	closed  bool           // set by Close
	flights sync.WaitGroup // the goroutines that read from the service
}

// A record is what the Cache knows of one secret ID: an entry for each staging
// label. AWSCURRENT's lies at hand, since nearly every read is of that.
type record struct {
	current entry
	others  sync.Map // staging label -> *entry
}

// New returns a Cache over client. It does no I/O and starts nothing. A nil
// opts means all defaults. The error is about client or opts.
func New(client API, opts *Options) (*Cache, error) {
	if client == nil {
		return nil, errors.New("cache: the client is nil; give it a *secretsmanager.Client")
	}
	complete, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cache{client: client, opts: complete}
	// The root of every flight's context: no caller's, because no caller owns
	// a flight, and ended by Close.
	c.done, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Get returns the AWSCURRENT version of the secret. Below TTL it returns what is
// held, at once and without looking at ctx. Beyond it waits for a read of the
// service, which all callers share: until ctx ends if nothing is held, else for
// Options.StaleWait, and then it returns what is held. While the service does not
// answer it returns that at once, up to Options.MaxStale. The error is an
// [*Error], or [ErrClosed].
func (c *Cache) Get(ctx context.Context, secretID string) (*Secret, error) {
	return c.entry(secretID, Current).get(ctx)
}

// GetStage is [Cache.Get] for the version under another staging label:
// [Pending], [Previous], or one of your own. If the secret has no such version
// the error matches [ErrNotFound].
func (c *Cache) GetStage(ctx context.Context, secretID, stage string) (*Secret, error) {
	return c.entry(secretID, stage).get(ctx)
}

// Refresh reads the AWSCURRENT version from the service and returns it: the
// answer of a call that began after Refresh was called, shared with everybody
// who wants one. Within Options.MinRefresh of the start of the last call it
// returns that one's answer instead. It never sleeps, and waits no longer than
// ctx.
func (c *Cache) Refresh(ctx context.Context, secretID string) (*Secret, error) {
	return c.entry(secretID, Current).refresh(ctx)
}

// RefreshIf is [Cache.Refresh] if versionID is still the AWSCURRENT version
// held, and [Cache.Get] if it is not. A caller whose credential was refused
// gives the version of that credential: however many were refused, one call
// is made.
func (c *Cache) RefreshIf(ctx context.Context, secretID, versionID string) (*Secret, error) {
	return c.entry(secretID, Current).refreshIf(ctx, versionID)
}

// RefreshAfter returns the version under stage as a call saw it that began
// after the instant t: one that is held, one that is under way, or one of its
// own. It does not look at Options.MinRefresh; callers with the same t share
// one call instead. An instant that has not come yet means now.
//
// It is what package retry asks with after a refusal: what was read before the
// refusal is of no use to it, what anybody read since is.
func (c *Cache) RefreshAfter(ctx context.Context, secretID, stage string, t time.Time) (*Secret, error) {
	return c.entry(secretID, stage).refreshAfter(ctx, t)
}

// Handle returns a handle on the secret, which saves the lookup on every read.
// It does no I/O.
func (c *Cache) Handle(secretID string) *Handle {
	return &Handle{c.entry(secretID, Current)}
}

// Close cancels the calls in progress, waits for their end, and makes every
// later read return [ErrClosed]. It is safe to call more than once. Close the
// pools that use the Cache first.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.flights.Wait()
}

// entry returns the entry for the secret and the label.
func (c *Cache) entry(secretID, stage string) *entry {
	found, ok := c.records.Load(secretID)
	if !ok {
		found, _ = c.records.LoadOrStore(secretID, &record{current: entry{cache: c, id: secretID, stage: Current}})
	}
	r := found.(*record)
	if stage == Current || stage == "" {
		return &r.current
	}
	other, ok := r.others.Load(stage)
	if !ok {
		other, _ = r.others.LoadOrStore(stage, &entry{cache: c, id: secretID, stage: stage})
	}
	return other.(*entry)
}

// isClosed reports whether Close was called.
func (c *Cache) isClosed() bool { return c.done.Err() != nil }

// fly runs f on a goroutine that Close waits for. It reports false, and does
// not run f, when the Cache is closed.
func (c *Cache) fly(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.flights.Go(f)
	return true
}

// A Handle is one secret of a [Cache], resolved once. It is safe for concurrent
// use and valid as long as the Cache.
type Handle struct{ entry *entry }

// Get is [Cache.Get] for the Handle's secret.
func (h *Handle) Get(ctx context.Context) (*Secret, error) { return h.entry.get(ctx) }

// Peek returns the AWSCURRENT version that is held now, however old it is, and
// false if none is held or the Cache is closed. It never waits.
func (h *Handle) Peek() (*Secret, bool) {
	o := h.entry.last.Load()
	if o == nil || o.secret == nil || h.entry.cache.isClosed() {
		return nil, false
	}
	return o.secret, true
}
