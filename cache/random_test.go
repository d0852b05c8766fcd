package cache_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

var randomSeeds = flag.Uint64("random.seeds", 8, "TestRandom runs the seeds from 1 to this")

const randomSteps = 1250 // of a seed: 10,000 in all

// The times are short, so that their ends are met often.
const (
	randomTTL          = time.Minute
	randomMaxStale     = 10 * time.Minute
	randomStaleWait    = time.Second
	randomMinRefresh   = 100 * time.Millisecond
	randomFetchTimeout = 3 * time.Second
	randomLatency      = 150 * time.Millisecond // at most, of a service that answers
)

// TestRandom drives a Cache with many readers through rotations, outages,
// throttling, denials, label moves, deletions, clock jumps and cancellations, and
// after each step holds what the readers got against the history of the service.
// What is checked is in random_model_test.go.
//
// To run one seed: go test ./cache -run 'TestRandom/seed=17$' -random.seeds=17. It
// fixes what is done and when, but neither the Cache's own jitter nor who comes
// first of those who come at the same instant.
func TestRandom(t *testing.T) {
	for seed := uint64(1); seed <= *randomSeeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newRandomRun(t, seed).run() })
		})
	}
}

// A randomRun is a Cache, the service behind it, and those who read.
type randomRun struct {
	*randomModel

	t       *testing.T
	rng     *rand.Rand // of the one who drives: readers are told what to do
	cache   *cache.Cache
	handles map[string]*cache.Handle
	servers []*smtest.Server
	readers sync.WaitGroup

	endOutage, endLatency func() // nil if there is none
	calm                  int    // for so many steps yet, seconds pass and not hours
}

// newRandomRun makes four secrets. Three have the same name: one is in another
// Region, and one in another account, to which only an ARN leads. The low bits of
// the seed choose the kind of Cache.
func newRandomRun(t *testing.T, seed uint64) *randomRun {
	r := &randomRun{t: t, rng: rand.New(rand.NewPCG(seed, 0)), handles: make(map[string]*cache.Handle), randomModel: newRandomModel(seed)}
	r.serverless, r.evicts = seed&1 != 0, seed&2 != 0
	home, region, account := smtest.New(nil), smtest.New(&smtest.Options{Region: "eu-west-1"}), smtest.New(&smtest.Options{Account: randomAccount})
	r.servers = []*smtest.Server{home, region, account}
	for i, name := range []string{"prod/db", "prod/api", "prod/db", "prod/db"} {
		s := &randomSlot{index: i, server: r.servers[max(0, i-1)], name: name, named: i < 2}
		s.admin = s.server.Client()
		r.slots = append(r.slots, s)
		r.create(s)
	}

	once := func(o *secretsmanager.Options) { o.RetryMaxAttempts = 1 } // so that the calls are the Cache's
	here := &randomClient{Client: home.Client(once), other: account.Client(once), model: r.randomModel}
	there := &randomClient{Client: region.Client(once), model: r.randomModel}
	opts := &cache.Options{
		TTL: randomTTL, MaxStale: randomMaxStale, StaleWait: randomStaleWait, MinRefresh: randomMinRefresh,
		FetchTimeout: randomFetchTimeout, Serverless: cache.Off,
		ClientFor: func(region string) cache.API {
			if region == "us-east-1" {
				return here
			}
			return there
		},
	}
	if r.serverless {
		opts.Serverless = cache.On
	}
	if r.evicts {
		opts.MaxEntries = 16
	}
	var client cache.API = here
	if seed&4 != 0 {
		client = clientFunc(here.GetSecretValue) // it has no batches, and does not say its Region
	}
	c, err := cache.New(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	r.cache = c
	return r
}

func (r *randomRun) run() {
	for step := 1; step <= randomSteps && len(r.failed()) == 0; step++ {
		r.step.Store(int64(step))
		r.act()
		for range 1 + min(r.rng.IntN(20), r.rng.IntN(20), r.rng.IntN(20)) {
			r.read(r.think())
		}
		time.Sleep(r.pause())
		synctest.Wait()
		r.check()
	}
	r.finish()
}

// finish closes the Cache under its readers and waits for them. What is left
// behind then, the bubble finds.
func (r *randomRun) finish() {
	start := time.Now()
	r.cache.Close()
	if waited := time.Since(start); waited != 0 {
		r.fail("Close took %v", waited)
	}
	r.closed = time.Now()
	time.Sleep(time.Nanosecond)
	for range 20 {
		r.read(r.think())
	}
	r.readers.Wait()
	r.check()
	for _, srv := range r.servers {
		srv.Close()
	}
	for _, text := range r.failed() {
		r.t.Error(text)
	}
	if r.t.Failed() {
		for _, line := range r.trace[max(0, len(r.trace)-25):] {
			r.t.Log(line)
		}
	}
	r.t.Logf("%d reads, %d of them errors; %+v", r.reads, r.errors, r.cache.Stats())
}

// pause returns how long a step takes: mostly so short that calls are still under
// way at its end, now and then so long that it is a jump of the clock.
func (r *randomRun) pause() time.Duration {
	longest := 50 * time.Millisecond
	switch n := r.rng.IntN(100); {
	case r.calm > 0:
		r.calm--
		longest = 30 * time.Second
	case n < 2:
		longest = 3 * time.Hour
	case n < 7:
		longest = 4 * time.Minute
	case n < 17:
		longest = 30 * time.Second
	case n < 40:
		longest = 2 * time.Second
	}
	return r.below(longest)
}

func (r *randomRun) below(d time.Duration) time.Duration {
	return time.Duration(r.rng.Int64N(int64(d)))
}

func (r *randomRun) oneIn(n int) bool { return r.rng.IntN(n) == 0 }

func oneOf[T any](r *randomRun, from []T) T { return from[r.rng.IntN(len(from))] }

// act does one thing to the service or to the Cache. A nanosecond on either side
// tells it from what else is done.
func (r *randomRun) act() {
	time.Sleep(time.Nanosecond)
	defer time.Sleep(time.Nanosecond)
	switch n := r.rng.IntN(100); {
	case n < 25:
		s := oneOf(r, r.slots)
		r.mutate(s)
		r.observe(s)
	case n < 30 && r.endOutage == nil && r.calm == 0:
		r.beginOutage()
	case n < 45 && r.endOutage != nil:
		r.note("the outage ends")
		r.endOutage()
		r.endOutage = nil
		switch r.rng.IntN(4) {
		case 0:
			time.Sleep(randomBackoff + r.below(4*time.Minute)) // and nobody looks
		case 1:
			r.calm = 10
		}
	case n >= 45 && n < 52:
		r.changeLatency()
	case n >= 52 && n < 60:
		r.changeAccess(oneOf(r, r.slots))
	case n >= 60 && n < 68:
		id := r.id(oneOf(r, r.slots))
		r.note("Invalidate(%s)", id)
		r.forget(id)
		r.cache.Invalidate(id)
	case n >= 68 && n < 72 && r.serverless:
		d := r.below(oneOf(r, []time.Duration{2 * time.Second, time.Minute, 3 * time.Hour}))
		r.note("frozen for %v", d)
		r.froze(d)
		r.cache.Freeze(d)
	}
}

// mutate changes a secret as its owners do.
func (r *randomRun) mutate(s *randomSlot) {
	now := s.now()
	pending, previous := now.labels[cache.Pending], now.labels[cache.Previous]
	switch n := r.rng.IntN(100); {
	case now.gone:
		r.create(s)
	case n < 3:
		r.remove(s, true)
		r.observe(s)
		r.create(s)
	case now.deleted || n < 5:
		r.remove(s, now.deleted)
	case n < 25:
		r.put(s, cache.Current)
	case n < 45 && pending == "":
		r.put(s, cache.Pending)
	case n < 60 && pending != "":
		r.move(s, cache.Current, pending)
	case n < 70 && pending != "":
		r.move(s, cache.Pending, "")
	case n < 80 && previous != "":
		r.move(s, cache.Current, previous) // a rollback
	case n < 85:
		r.move(s, cache.Previous, oneOf(r, s.here))
	case n < 97:
		r.move(s, randomLabel, oneOf(r, s.here))
	default:
		r.move(s, randomLabel, "")
	}
}

// create, remove, put and move are the service's operations.

func (r *randomRun) create(s *randomSlot) {
	version, value := s.next()
	out, err := s.admin.CreateSecret(r.t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String(s.name), ClientRequestToken: aws.String(version), SecretString: aws.String(value),
	})
	r.note("%v is created with %s: %v", s, version, err)
	s.here = []string{version}
	s.arns = append(s.arns, *out.ARN)
	r.enlist(s, *out.ARN)
	r.observe(s)
}

func (r *randomRun) remove(s *randomSlot, atOnce bool) {
	_, err := s.admin.DeleteSecret(r.t.Context(), &secretsmanager.DeleteSecretInput{SecretId: aws.String(s.name), ForceDeleteWithoutRecovery: aws.Bool(atOnce)})
	r.note("%v is deleted, at once %v: %v", s, atOnce, err)
}

func (r *randomRun) put(s *randomSlot, label string) {
	version, value := s.next()
	_, err := s.admin.PutSecretValue(r.t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String(s.name), ClientRequestToken: aws.String(version), SecretString: aws.String(value), VersionStages: []string{label},
	})
	r.note("%v gets %s %s: %v", s, label, version, err)
	s.here = append(s.here, version)
}

func (r *randomRun) move(s *randomSlot, label, to string) {
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String(s.name), VersionStage: aws.String(label)}
	from := s.now().labels[label]
	if from == to {
		return
	}
	if from != "" {
		in.RemoveFromVersionId = aws.String(from)
	}
	if to != "" {
		in.MoveToVersionId = aws.String(to)
	}
	_, err := s.admin.UpdateSecretVersionStage(r.t.Context(), in)
	r.note("%s of %v goes from %q to %q: %v", label, s, from, to, err)
}

func (r *randomRun) beginOutage() {
	fault := oneOf(r, []smtest.Fault{
		{Err: smtest.Throttling},
		{Err: smtest.Throttling, Delay: r.below(randomFetchTimeout / 2)},
		{Err: smtest.InternalServiceError},
		{Err: smtest.InternalServiceError, Delay: r.below(2 * randomFetchTimeout)},
		{Delay: r.below(2 * randomFetchTimeout)},
		{DelayAnswer: r.below(2 * randomFetchTimeout)},
	})
	if r.oneIn(3) {
		fault.Stage = oneOf(r, randomStages)
	}
	servers := r.servers
	if r.oneIn(2) {
		servers = []*smtest.Server{oneOf(r, servers)}
	}
	r.note("an outage of %d servers: %v, %v before and %v after the call, %s", len(servers), fault.Err, fault.Delay, fault.DelayAnswer, fault.Stage)
	end := inject(fault, servers...)
	r.outages = append(r.outages, randomSpan{from: time.Now()})
	r.endOutage = func() { end(); r.outages[len(r.outages)-1].to = time.Now() }
}

// changeLatency makes the service slower or faster. It is one that answers all the
// same.
func (r *randomRun) changeLatency() {
	if r.endLatency != nil {
		r.endLatency()
	}
	fault := oneOf(r, []smtest.Fault{{Delay: r.below(randomLatency)}, {DelayAnswer: r.below(randomLatency)}})
	r.note("latency %v before and %v after the call", fault.Delay, fault.DelayAnswer)
	r.endLatency = inject(fault, r.servers...)
}

func (r *randomRun) changeAccess(s *randomSlot) {
	if s.allow != nil {
		r.note("access to %v is allowed", s)
		s.allow()
		s.allow = nil
		return
	}
	if !r.oneIn(2) {
		return
	}
	r.note("access to %v is denied", s)
	end := inject(smtest.Fault{SecretID: s.name, Err: smtest.AccessDenied}, s.server)
	s.denials = append(s.denials, randomSpan{from: time.Now()})
	s.allow = func() { end(); s.denials[len(s.denials)-1].to = time.Now() }
}

// inject puts a fault in force for the operations that the Cache uses.
func inject(fault smtest.Fault, servers ...*smtest.Server) (remove func()) {
	var all []func()
	for _, srv := range servers {
		for _, fault.Operation = range []string{"GetSecretValue", "BatchGetSecretValue"} {
			all = append(all, srv.Inject(fault))
		}
	}
	return func() {
		for _, remove := range all {
			remove()
		}
	}
}

// A randomRead is what a reader is told to do, and what came of it.
type randomRead struct {
	op      string
	id      string
	stage   string
	version string    // of GetVersion and RefreshIf
	after   time.Time // of RefreshAfter
	ids     []string  // of Prefetch
	delay   time.Duration
	timeout time.Duration // zero: the context has ended before

	start, end, deadline time.Time
	secret               *cache.Secret
	status               cache.Status
	err                  error
}

// think thinks out what a reader is to do.
func (r *randomRun) think() *randomRead {
	s := r.slots[0]
	if r.oneIn(2) {
		s = oneOf(r, r.slots)
	}
	o := &randomRead{id: r.id(s), stage: cache.Current}
	switch n := r.rng.IntN(100); {
	case n < 30:
		o.op = "Get"
	case n < 52:
		o.op, o.stage = "GetStage", oneOf(r, randomStages)
	case n < 60:
		o.op, o.version = "GetVersion", r.version(s)
	case n < 70:
		o.op = "Handle.Get"
	case n < 76:
		o.op = "Peek"
	case n < 78:
		o.op = "Status"
	case n < 83:
		o.op = "Refresh"
	case n < 89:
		o.op, o.version = "RefreshIf", r.version(s)
	case n < 95:
		o.op, o.stage = "RefreshAfter", oneOf(r, randomStages)
		o.after = time.Now().Add(2*time.Second - r.below(2*randomTTL))
	default:
		o.op = "Prefetch"
		for range 1 + r.rng.IntN(8) {
			o.ids = append(o.ids, r.id(oneOf(r, r.slots)))
		}
	}
	if r.oneIn(2) {
		o.delay = r.below(100 * time.Millisecond)
	}
	o.timeout = oneOf(r, []time.Duration{0, 1 + r.below(randomLatency), 1 + r.below(2*randomFetchTimeout), 5 * time.Minute, 5 * time.Minute})
	if r.handles[o.id] == nil {
		r.handles[o.id] = r.cache.Handle(o.id)
	}
	return o
}

// id returns one of the ways to ask for a secret.
func (r *randomRun) id(s *randomSlot) string {
	arn := s.arns[len(s.arns)-1]
	if r.oneIn(30) {
		arn = oneOf(r, s.arns) // of one that was deleted, perhaps
	}
	switch n := r.rng.IntN(3); {
	case n == 0 && s.named:
		return s.name
	case n == 1:
		return arn
	}
	return partialARN(arn)
}

// version returns a version's ID: one that has a label, most likely.
func (r *randomRun) version(s *randomSlot) string {
	if version := s.now().labels[oneOf(r, randomStages)]; version != "" && !r.oneIn(4) {
		return version
	}
	return oneOf(r, slices.Concat(s.here, []string{"version-of-no-secret-whatever-it-is"}))
}

// read has a reader do as it is told.
func (r *randomRun) read(o *randomRead) {
	c, h := r.cache, r.handles[o.id]
	r.readers.Go(func() {
		time.Sleep(o.delay)
		r.came()
		o.start = time.Now()
		o.deadline = o.start.Add(o.timeout)
		ctx, cancel := context.WithDeadline(context.Background(), o.deadline)
		defer cancel()
		switch o.op {
		case "Get":
			o.secret, o.err = c.Get(ctx, o.id)
		case "GetStage":
			o.secret, o.err = c.GetStage(ctx, o.id, o.stage)
		case "GetVersion":
			o.secret, o.err = c.GetVersion(ctx, o.id, o.version)
		case "Handle.Get":
			o.secret, o.err = h.Get(ctx)
		case "Peek":
			o.secret, _ = h.Peek()
		case "Status":
			o.status = h.Status()
		case "Refresh":
			o.secret, o.err = c.Refresh(ctx, o.id)
		case "RefreshIf":
			o.secret, o.err = c.RefreshIf(ctx, o.id, o.version)
		case "RefreshAfter":
			o.secret, o.err = c.RefreshAfter(ctx, o.id, o.stage, o.after)
		case "Prefetch":
			o.err = c.Prefetch(ctx, o.ids...)
		}
		o.end = time.Now()
		r.went(o)
	})
}
