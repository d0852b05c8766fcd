package cache

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// What BatchGetSecretValue takes at once, and how many calls Prefetch makes at
// the same time.
const (
	batchSize   = 20
	batchCalls  = 4
	singleCalls = 8
)

// A batchAPI can read many secrets at once.
type batchAPI interface {
	BatchGetSecretValue(context.Context, *secretsmanager.BatchGetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error)
}

// Prefetch reads the AWSCURRENT versions of the secrets that are not held below
// TTL, 20 in a call of BatchGetSecretValue, and waits until they are there or ctx
// ends. Readers of those secrets share the calls. It needs the permission
// secretsmanager:BatchGetSecretValue besides the usual; without it, where the
// service throttles it, and for a client that cannot do it, the secrets are read
// one by one. The error joins an [*Error] for each secret that there is no value
// of; the others are held.
func (c *Cache) Prefetch(ctx context.Context, secretIDs ...string) error {
	run := &prefetch{cache: c, ctx: ctx, left: make(chan struct{})}
	defer close(run.left)
	var begun, all []ticket
	numbers := make(map[*entry]uint64) // of the flights to wait for
	seen := make(map[string]bool)
	for _, id := range secretIDs {
		if seen[id] {
			continue
		}
		seen[id] = true
		t, fresh, err := c.board(ctx, id)
		if err != nil {
			return err
		}
		defer t.entry.leave(t.held, nil)
		if !fresh {
			all = append(all, t)
			numbers[t.entry] = max(numbers[t.entry], t.number)
		}
		if t.flight != nil {
			begun = append(begun, t)
		}
	}
	if len(begun) > 0 && !c.fly(func() { run.fetchAll(begun) }) {
		return ErrClosed // and so is told to whoever waits for those flights
	}
	var failed []error
	for _, t := range all {
		_, err := c.read(t.key, func(e *entry) (*Secret, error) {
			number, ok := numbers[e]
			if !ok {
				number = t.number // it has moved: who reads for it now reads anew
			}
			return e.wait(ctx, want{
				op:    opGet,
				held:  func(o *outcome) bool { return o.flight >= number },
				joins: func(f *flight) bool { return f.number >= number && f.number > e.believed() },
			})
		})
		if errors.Is(err, ErrClosed) {
			return ErrClosed
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// A prefetch is one call of Prefetch.
type prefetch struct {
	cache *Cache
	ctx   context.Context // the caller's: for no call, only to see that the caller has gone
	left  chan struct{}   // closed when the caller waits for nothing any more
}

// take waits for a turn to call, and returns what gives it back. In serverless mode
// it makes sure that a caller who gives up has left all its flights by then: what
// nobody else waits for is not begun.
func (p *prefetch) take(turn chan struct{}) (back func()) {
	turn <- struct{}{}
	if p.cache.clock.Both() && p.ctx.Err() != nil {
		<-p.left
	}
	return func() { <-turn }
}

// A ticket is for a flight that Prefetch waits for.
type ticket struct {
	key    key
	entry  *entry  // the one for the key
	flight *flight // the one of the entry that Prefetch has to run, or nil
	held   *flight // the one that Prefetch is one of the waiters of, or nil
	number uint64  // of the flight to wait for, which may be over
}

// fetch reads the secret when it has got its turn.
func (p *prefetch) fetch(t ticket, turn chan struct{}) answer {
	defer p.take(turn)()
	return t.entry.fetch(t.flight.ctx, t.flight.began, t.entry.key)
}

// board finds out which flight brings the secret, and begins one if none does.
// It reports whether none is needed.
func (c *Cache) board(ctx context.Context, id string) (t ticket, fresh bool, err error) {
	t.key = key{id: id}
	for {
		e := c.entry(t.key)
		if leader := e.leader.Load(); leader != nil {
			e = leader
		}
		e.mu.Lock()
		if e.gone || e.leader.Load() != nil {
			e.mu.Unlock()
			continue // it has moved since
		}
		o := e.last.Load()
		t.entry = e
		switch {
		case c.closed.Load():
			err = ErrClosed
		case e.state(o) == Fresh || e.state(o) == Aging:
			fresh = true
		case e.pausing(o):
			t.number = o.flight
		case e.flight != nil:
			t.number, t.held = e.flight.number, e.flight
		case ctx.Err() != nil:
			t.number = c.number.Load() + 1
		default:
			t.flight = e.beginLocked(ctx, opGet)
			t.number, t.held = t.flight.number, t.flight
		}
		if t.held != nil {
			t.held.waiters++
		}
		e.mu.Unlock()
		return t, fresh, err
	}
}

// fetchAll runs the flights, as many at once as the clients can.
func (p *prefetch) fetchAll(tickets []ticket) {
	c := p.cache
	var wg sync.WaitGroup
	defer wg.Wait()
	turn, turnSingle := make(chan struct{}, batchCalls), make(chan struct{}, singleCalls)
	// Each on a goroutine of its own, which waits for its turn to call: what
	// comes after the call may wait for another secret's.
	single := func(t ticket) {
		wg.Go(func() {
			t.entry.runWith(t.flight, func() answer { return t.entry.consider(t.flight, p.fetch(t, turnSingle)) })
		})
	}
	groups := make(map[string][]ticket) // by Region; of those there is one client
	for _, t := range tickets {
		region := arnRegion(t.entry.key.id)
		if region == c.region {
			region = ""
		}
		if t.entry.key.id == "" {
			single(t)
			continue
		}
		groups[region] = append(groups[region], t)
	}
	for _, members := range groups {
		api, optFns := c.batchSource(members[0].entry.key.id)
		if api == nil {
			for _, t := range members {
				single(t)
			}
			continue
		}
		for chunk := range slices.Chunk(members, batchSize) {
			wg.Go(func() {
				for _, t := range p.fetchBatch(api, optFns, chunk, turn) {
					single(t)
				}
			})
		}
	}
}

// batchSource returns the client for a secret, if it can read many at once. One
// that cannot be had is nobody's here: the flights find out themselves.
func (c *Cache) batchSource(id string) (api batchAPI, optFns []func(*secretsmanager.Options)) {
	ended := safely(func() {
		if client, fns, err := c.source(id); err == nil {
			api, _ = client.(batchAPI)
			optFns = fns
		}
	})
	if !ended {
		return nil, nil
	}
	return api, optFns
}

// safely runs f on a goroutine of its own and waits for it. It reports false if f
// panicked, or ended its goroutine.
func safely(f func()) (ended bool) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if recover() != nil {
				ended = false
			}
		}()
		f()
		ended = true
	})
	wg.Wait()
	return ended
}

// fetchBatch ends the flights of a batch, with one call and one more for each
// further page, and returns those that are to be read one by one. It makes its
// calls when it has got its turn.
func (p *prefetch) fetchBatch(api batchAPI, optFns []func(*secretsmanager.Options), tickets []ticket, turn chan struct{}) (left []ticket) {
	answers := p.callBatch(api, optFns, tickets, turn)
	var wg sync.WaitGroup
	var reports []func()
	for _, t := range tickets {
		a, ok := answers[t.entry.key.id]
		switch {
		case !ok || a.err != nil && len(p.cache.opts.Replicas) > 0 && transient(a.err):
			left = append(left, t)
		case t.entry.plain(a):
			if report := t.entry.settle(t.flight, a); report != nil {
				reports = append(reports, report)
			}
			t.flight.cancel()
		default:
			// By itself: it makes further calls, or the program's Validate takes
			// its time or waits for another of them.
			wg.Go(func() { t.entry.finish(t.flight, a) })
		}
	}
	for _, report := range reports {
		report()
	}
	wg.Wait()
	return left
}

// plain reports whether an answer is taken without a look at it.
func (e *entry) plain(a answer) bool {
	if e.cache.clock.Both() {
		return false // its log is written before its readers go on
	}
	o := e.last.Load()
	return a.err != nil || e.cache.opts.Validate == nil && (o == nil || !movesBack(o.secret, a.secret))
}
