package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/clock"
	"github.com/keyturn/keyturn/internal/queue"
)

// A Cache holds secrets in process. It is safe for concurrent use. Make one
// with [New], share it in the whole program, and close it last.
type Cache struct {
	client API
	region string  // of the client, empty if it does not say
	opts   Options // complete, never changed
	clock  *clock.Clock

	// table finds entries, for reads without a lock.
	table atomic.Pointer[table]

	closed atomic.Bool // written by Close, with mu held

	// done ends when the Cache is closed; every flight's context ends with it.
	done   context.Context
	cancel context.CancelFunc

	clients  sync.Map      // Region -> *made: what Options.ClientFor returned
	number   atomic.Uint64 // of the last flight that was started
	counters counters
	changes  *queue.Queue[change] // for OnChange: whoever found a change calls it

	// mu protects following, and writes to table. An entry's mu may be held
	// when it is taken; with it held an entry's is only tried for.
	mu      sync.Mutex
	ring    []*entry          // all entries, in the order in which eviction looks at them
	hand    int               // where it looks next
	arns    map[string]*entry // full ARN -> the entry of the name that was found to mean it
	flights sync.WaitGroup    // the goroutines that read from the service: no Add once closed is set
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
	c := &Cache{
		client: client,
		region: regionOf(client),
		opts:   complete,
		clock:  clock.New(complete.Serverless.serverless()),
		arns:   make(map[string]*entry),
	}
	c.changes = queue.New(c.tell, nil)
	c.table.Store(newTable(0))
	// The root of every flight's context: no caller's, because no caller owns
	// a flight, and ended by Close.
	c.done, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Get returns the AWSCURRENT version of the secret. Below TTL it returns what is
// held, at once and without looking at ctx. Beyond it waits for a read of the
// service, which all callers share: until ctx ends if nothing is held, else for
// Options.StaleWait, and then it returns what is held. While the service does not
// answer it returns that at once, up to Options.MaxStale. A failure with nothing
// to return instead is held for a moment too. The error is an [*Error], or
// [ErrClosed].
func (c *Cache) Get(ctx context.Context, secretID string) (*Secret, error) {
	k := key{id: secretID}
	if e := c.table.Load().find(k); e != nil {
		if s := e.fresh(); s != nil {
			return s, nil
		}
	}
	return c.read(k, func(e *entry) (*Secret, error) { return e.get(ctx) })
}

// GetStage is [Cache.Get] for the version under another staging label:
// [Pending], [Previous], or one of your own. If the secret has no such version
// the error matches [ErrNotFound]. The version that AWSCURRENT was last seen to
// leave answers for AWSPREVIOUS, for its TTL.
func (c *Cache) GetStage(ctx context.Context, secretID, stage string) (*Secret, error) {
	k := stageKey(secretID, stage)
	if e := c.table.Load().find(k); e != nil && stage != Previous {
		if s := e.fresh(); s != nil {
			return s, nil
		}
	}
	return c.read(k, func(e *entry) (*Secret, error) { return e.get(ctx) })
}

// GetVersion is [Cache.Get] for the version with that ID, whatever labels it has
// or has lost. If there is none the error matches [ErrNotFound]. The versions
// that AWSCURRENT is on, and was last seen to leave, need no call of their own.
func (c *Cache) GetVersion(ctx context.Context, secretID, versionID string) (*Secret, error) {
	return c.read(key{id: secretID, version: versionID}, func(e *entry) (*Secret, error) { return e.get(ctx) })
}

// Refresh reads the AWSCURRENT version from the service and returns it: the
// answer of a call that began after Refresh was called, shared with everybody
// who wants one. Within Options.MinRefresh of the start of the last call it
// returns that one's answer instead. It never sleeps, and waits no longer than
// ctx.
func (c *Cache) Refresh(ctx context.Context, secretID string) (*Secret, error) {
	return c.read(key{id: secretID}, func(e *entry) (*Secret, error) { return e.refresh(ctx) })
}

// RefreshIf is [Cache.Refresh] if versionID is still the AWSCURRENT version
// held, and [Cache.Get] if it is not. A caller whose credential was refused
// gives the version of that credential: however many were refused, one call
// is made.
func (c *Cache) RefreshIf(ctx context.Context, secretID, versionID string) (*Secret, error) {
	return c.read(key{id: secretID}, func(e *entry) (*Secret, error) { return e.refreshIf(ctx, versionID) })
}

// RefreshAfter returns the version under stage as a call saw it that began
// after the instant t: one that is held, one that is under way, or one of its
// own. It does not look at Options.MinRefresh; callers with the same t share
// one call instead. An instant that has not come yet means now.
//
// It is what package retry asks with after a refusal: what was read before the
// refusal is of no use to it, what anybody read since is.
func (c *Cache) RefreshAfter(ctx context.Context, secretID, stage string, t time.Time) (*Secret, error) {
	return c.read(stageKey(secretID, stage), func(e *entry) (*Secret, error) { return e.refreshAfter(ctx, t) })
}

// Invalidate forgets what is held of the secret, under every label and version:
// the next read asks the service, and a call that is under way does not bring
// back what it began to read before.
func (c *Cache) Invalidate(secretID string) {
	c.mu.Lock()
	ids := map[string]bool{secretID: true}
	for _, e := range c.ring {
		if e.key.id == secretID && e.knownARN() != "" {
			ids[e.knownARN()] = true
		}
	}
	var affected, unknown []*entry
	for _, e := range c.ring {
		switch {
		case ids[e.key.id] || ids[e.knownARN()]:
			affected = append(affected, e)
		case e.knownARN() != e.key.id:
			unknown = append(unknown, e) // a name may come to mean another secret
		}
	}
	c.mu.Unlock()
	for _, e := range affected {
		e.invalidate()
	}
	for _, e := range unknown {
		e.shun(ids) // a call that is under way may be for this secret
	}
}

// Close cancels the calls in progress, waits for their end, and makes every
// later read return [ErrClosed]. It is safe to call more than once. Close the
// pools that use the Cache first.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed.Store(true)
	c.mu.Unlock()
	c.cancel()
	c.flights.Wait()
}

// fly runs f on a goroutine that Close waits for. It reports false, and does
// not run f, when the Cache is closed.
func (c *Cache) fly(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return false
	}
	c.flights.Go(f)
	return true
}

// A change is one for OnChange.
type change struct{ old, new *Secret }

func (c *Cache) tell(ch change) {
	if !c.closed.Load() {
		c.opts.OnChange(ch.old, ch.new)
	}
}
