package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/proxy"
	"github.com/keyturn/keyturn/smtest"
)

const (
	shortest = 200 * time.Millisecond // of the faults
	longest  = 5 * time.Second

	// denial is how long the service denies access to AWSCURRENT, at most. A denial is
	// final: a cache beyond its TTL says so to its readers, which is its contract, and
	// does not ask again before its back-off is over. So one begins when every cache has
	// TTL left for both (see ready), and nobody is told.
	denial  = 2500 * time.Millisecond
	backOff = 4 * time.Second
)

// Streams of random numbers, so that what one does changes nothing for the others.
const (
	serviceStream = iota + 1
	databaseStream
	secretStream = 100
)

func stream(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

// span returns a duration, short ones more often than long ones.
func span(r *rand.Rand, from, to time.Duration) time.Duration {
	x := r.Float64()
	return from + time.Duration(x*x*float64(to-from))
}

// A choice is one of several, with how often it is made.
type choice[T any] struct {
	weight int
	of     T
}

func choose[T any](r *rand.Rand, from []choice[T]) T {
	all := 0
	for _, c := range from {
		all += c.weight
	}
	n := r.IntN(all)
	for _, c := range from {
		if n -= c.weight; n < 0 {
			return c.of
		}
	}
	panic("unreachable")
}

// A damage is what a fault of a database or of its network does for a time.
type damage func(ctx context.Context, db *database, d time.Duration) error

type namedDamage struct {
	kind kind
	do   damage
}

var damages = []choice[namedDamage]{
	{3, namedDamage{netReset, func(ctx context.Context, db *database, d time.Duration) error {
		for until := time.Now().Add(d); ctx.Err() == nil && time.Now().Before(until); {
			db.network.Drop()
			_ = sleep(ctx, 200*time.Millisecond)
		}
		return nil
	}}},
	{2, namedDamage{netRefuse, func(ctx context.Context, db *database, d time.Duration) error {
		db.network.Set(proxy.Fault{Refuse: true})
		defer db.network.Set(proxy.Fault{})
		db.network.Drop()
		_ = sleep(ctx, d)
		return nil
	}}},
	{2, namedDamage{netHole, func(ctx context.Context, db *database, d time.Duration) error {
		db.network.Hold()
		defer db.network.Release()
		_ = sleep(ctx, d)
		return nil
	}}},
	// After the silence there is nobody at the other end.
	{1, namedDamage{netHole, func(ctx context.Context, db *database, d time.Duration) error {
		db.network.Hold()
		defer db.network.Release()
		_ = sleep(ctx, d)
		db.network.Drop()
		return nil
	}}},
	{3, namedDamage{netSlow, func(ctx context.Context, db *database, d time.Duration) error {
		db.network.Lag(5*time.Millisecond + d/50)
		defer db.network.Lag(0)
		_ = sleep(ctx, d)
		return nil
	}}},
	{2, namedDamage{dbRestart, func(ctx context.Context, db *database, d time.Duration) error {
		return db.restart(ctx, d/2)
	}}},
	{2, namedDamage{dbCrowded, func(ctx context.Context, db *database, d time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		crowd(ctx, db.connect)
		return nil
	}}},
}

// harm has one fault after the other at a database, until ctx ends. What it returns
// is an error of the program: a server that does not come up again.
func (s *soak) harm(ctx context.Context, db *database, r *rand.Rand) error {
	for sleep(ctx, span(r, time.Second, 8*time.Second)) == nil {
		what, d := choose(r, damages), span(r, shortest, longest)
		end := s.faults.begin(db.name, what.kind)
		err := what.do(ctx, db, d)
		end()
		if err != nil {
			return fmt.Errorf("%s, %s: %w", db.name, what.kind, err)
		}
	}
	return nil
}

type trouble struct {
	kind  kind
	fault smtest.Fault
	most  time.Duration // 0: as any other
}

var troubles = []choice[trouble]{
	{2, trouble{kind: smThrottled, fault: smtest.Fault{Err: smtest.Throttling}}},
	{1, trouble{kind: smThrottled, fault: smtest.Fault{Err: smtest.Throttling, Probability: 0.5}}},
	{1, trouble{kind: smDown, fault: smtest.Fault{Err: smtest.InternalServiceError}}},
	{1, trouble{kind: smDown, fault: smtest.Fault{Err: smtest.ServiceUnavailable}}},
	{1, trouble{kind: smLost, fault: smtest.Fault{LoseRequest: true, Probability: 0.7}}},
	{1, trouble{kind: smLost, fault: smtest.Fault{LoseAnswer: true, Probability: 0.7}}},
	{2, trouble{kind: smSlow, fault: smtest.Fault{Delay: 300 * time.Millisecond}}},
	{1, trouble{kind: smSlow, fault: smtest.Fault{DelayAnswer: 1500 * time.Millisecond}}},
	{1, trouble{kind: smDenied, fault: smtest.Fault{Err: smtest.AccessDenied}, most: denial}},
	{1, trouble{kind: smDenied, fault: smtest.Fault{Err: smtest.AccessDenied, Operation: "GetSecretValue", Stage: "AWSPENDING"}}},
	{1, trouble{kind: smDenied, fault: smtest.Fault{Err: smtest.AccessDeniedByKMS, Operation: "GetSecretValue"}, most: denial}},
	{1, trouble{kind: smStale, fault: smtest.Fault{Stale: 2 * time.Second, Probability: 0.5}}},
}

// ready reports an error as long as there is a cache whose TTL would end before one
// that begins now is forgotten: one that could not read the secret in the trouble before.
func (s *soak) ready() error {
	for _, p := range s.pools {
		if p.cache == nil {
			continue
		}
		ttl := cmp.Or(p.ttl, defaultTTL)
		if st := p.cache.Handle(p.rotated.id).Status(); st.State == cache.Dead || st.Age+denial+backOff > ttl {
			return fmt.Errorf("%s, %s: %v old", p.database.name, p.name, st.Age)
		}
	}
	return nil
}

// trouble has the service in one trouble after the other, until ctx ends.
func (s *soak) trouble(ctx context.Context, r *rand.Rand) error {
	for sleep(ctx, span(r, time.Second/2, 5*time.Second)) == nil {
		what, d := choose(r, troubles), span(r, shortest, longest)
		if what.most > 0 {
			d = min(d, what.most)
			_ = eventually(ctx, s.ready) // it fails when ctx ends, and then all do
		}
		end, remove := s.faults.begin("", what.kind), s.sm.Inject(what.fault)
		_ = sleep(ctx, d)
		remove()
		end()
	}
	return nil
}
