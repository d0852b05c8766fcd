package cache

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/internal/useragent"
)

// What BatchGetSecretValue takes at once, and how many calls Prefetch makes at
// the same time.
const (
	batchSize    = 20
	batchCalls   = 4
	singlesCalls = 8
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
	var begun, all []ticket
	for _, id := range secretIDs {
		t, fresh, err := c.board(ctx, id)
		if err != nil {
			return err
		}
		if !fresh {
			all = append(all, t)
		}
		if t.flight != nil {
			begun = append(begun, t)
		}
	}
	if len(begun) > 0 && !c.fly(func() { c.fetchAll(begun) }) {
		return ErrClosed // and so is told to whoever waits for those flights
	}
	var failed []error
	for _, t := range all {
		_, err := c.read(t.key, func(e *entry) (*Secret, error) {
			return e.wait(ctx, want{
				op:    opGet,
				held:  func(o *outcome) bool { return o.flight >= t.number },
				joins: func(f *flight) bool { return f.number >= t.number },
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

// A ticket is for a flight that Prefetch waits for.
type ticket struct {
	key    key
	entry  *entry  // which has the flight that Prefetch has to run, or nil
	flight *flight // that one, or nil
	number uint64  // the flight's, or that of the last one if none was needed
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
		switch {
		case c.closed.Load():
			err = ErrClosed
		case e.state(o) == Fresh || e.state(o) == Aging:
			fresh = true
		case e.pausing(o):
			t.number = o.flight
		case e.flight != nil:
			t.number = e.flight.number
		case ctx.Err() != nil:
			t.number = c.number.Load() + 1
		default:
			t.entry, t.flight = e, e.beginLocked(ctx, opGet)
			t.number = t.flight.number
		}
		e.mu.Unlock()
		return t, fresh, err
	}
}

// fetchAll runs the flights, as many at once as the clients can.
func (c *Cache) fetchAll(tickets []ticket) {
	type group struct {
		api    batchAPI
		optFns []func(*secretsmanager.Options)
		region string
	}
	groups := make(map[string]*group)
	members := make(map[string][]ticket)
	var singles []ticket
	for _, t := range tickets {
		region := arnRegion(t.entry.key.id)
		if region == c.region {
			region = ""
		}
		g := groups[region]
		if g == nil {
			api, optFns, err := c.source(t.entry.key.id)
			batch, _ := api.(batchAPI)
			if err != nil {
				batch = nil
			}
			g = &group{batch, optFns, region}
			groups[region] = g
		}
		if g.api == nil || t.entry.key.id == "" {
			singles = append(singles, t)
			continue
		}
		members[region] = append(members[region], t)
	}
	var mu sync.Mutex // protects singles
	var work []func()
	for region, g := range groups {
		for chunk := range slices.Chunk(members[region], batchSize) {
			work = append(work, func() {
				left := c.fetchBatch(g.api, g.optFns, chunk)
				mu.Lock()
				defer mu.Unlock()
				singles = append(singles, left...)
			})
		}
	}
	parallel(batchCalls, work)
	work = nil
	for _, t := range singles {
		work = append(work, func() { t.entry.run(t.flight) })
	}
	parallel(singlesCalls, work)
}

// parallel runs the functions, so many at once, and waits for them.
func parallel(limit int, work []func()) {
	var wg sync.WaitGroup
	next := make(chan func())
	for range min(limit, len(work)) {
		wg.Go(func() {
			for f := range next {
				f()
			}
		})
	}
	for _, f := range work {
		next <- f
	}
	close(next)
	wg.Wait()
}

// fetchBatch ends the flights of a batch, with one call and one more for each
// further page, and returns those that are to be read one by one.
func (c *Cache) fetchBatch(api batchAPI, optFns []func(*secretsmanager.Options), tickets []ticket) (left []ticket) {
	first := tickets[0].flight
	ctx, cancel := context.WithTimeout(context.WithoutCancel(first.ctx), c.opts.FetchTimeout)
	defer cancel()
	defer context.AfterFunc(c.done, cancel)()
	answers := make(map[string]answer)
	defer func() {
		if recover() != nil {
			left = tickets // each finds out what is the matter with the client
		}
	}()
	b := batch{tickets: tickets, began: time.Now(), cache: c}
	stop := alone(tickets, cancel)
	err := b.read(ctx, api, optFns, answers)
	stop()
	if err != nil && lasting(ctx, err) {
		err = callError(ctx, c.opts.FetchTimeout, err)
		for _, t := range tickets {
			if _, ok := answers[t.entry.key.id]; !ok {
				answers[t.entry.key.id] = answer{err: err}
			}
		}
	}
	for _, t := range tickets {
		a, ok := answers[t.entry.key.id]
		if !ok || a.err != nil && len(c.opts.Replicas) > 0 && transient(a.err) {
			left = append(left, t)
			continue
		}
		t.entry.finish(t.flight, a)
	}
	return left
}

// lasting reports whether to give up with the error of a batch, and not to read
// its secrets one by one: a service that does not answer will not answer twenty
// calls either, but one that throttles or denies this operation may.
func lasting(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	api, ok := serviceError(err)
	if !ok {
		return true
	}
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return api.ErrorCode() == "InternalServiceError" || ok && response.HTTPStatusCode() >= http.StatusInternalServerError
}

// alone calls cancel when all the flights have been left by their readers, until
// what it returns is called.
func alone(tickets []ticket, cancel func()) (stop func()) {
	var mu sync.Mutex
	left := len(tickets)
	var stops []func() bool
	for _, t := range tickets {
		stops = append(stops, context.AfterFunc(t.flight.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		}))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// A batch is what one call of BatchGetSecretValue is for.
type batch struct {
	cache   *Cache
	tickets []ticket
	began   time.Time
}

// read makes the calls, and puts what they bring under the secret IDs.
func (b *batch) read(ctx context.Context, api batchAPI, optFns []func(*secretsmanager.Options), answers map[string]answer) error {
	in := &secretsmanager.BatchGetSecretValueInput{}
	for _, t := range b.tickets {
		in.SecretIdList = append(in.SecretIdList, t.entry.key.id)
	}
	for {
		b.cache.counters.batches.Add(1)
		out, err := api.BatchGetSecretValue(ctx, in, append(slices.Clip(optFns), useragent.Tag)...)
		if err != nil {
			return err
		}
		if out == nil {
			return errors.New("the client returned neither values nor an error")
		}
		for _, value := range out.SecretValues {
			b.assign(value, answers)
		}
		for _, failed := range out.Errors {
			answers[aws.ToString(failed.SecretId)] = answer{err: batchError(failed)}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// assign finds out which of the secret IDs a value is for: the service does not
// say. An ARN is certain. A name is too, unless an ARN in the same call may have
// brought the value, of another account's secret of that name; such a name
// is left to be read by itself.
func (b *batch) assign(value types.SecretValueEntry, answers map[string]answer) {
	s := newSecret(&secretsmanager.GetSecretValueOutput{
		ARN: value.ARN, Name: value.Name, VersionId: value.VersionId, VersionStages: value.VersionStages,
		SecretString: value.SecretString, SecretBinary: value.SecretBinary, CreatedDate: value.CreatedDate,
	}, b.began, b.cache.clock)
	claimed := false
	for _, t := range b.tickets {
		id := t.entry.key.id
		if isARN(id) && (s.arn == id || strings.HasPrefix(s.arn, id+"-") && len(s.arn) == len(id)+7) {
			answers[id] = accept(t.entry.key, s)
			claimed = true
		}
	}
	if claimed {
		return
	}
	for _, t := range b.tickets {
		if t.entry.key.id == s.name && !isARN(s.name) {
			answers[s.name] = accept(t.entry.key, s)
		}
	}
}

// batchError returns the error of one secret of a batch, as the SDK returns that
// of a call for it.
func batchError(failed types.APIErrorType) error {
	code, message := aws.ToString(failed.ErrorCode), failed.Message
	switch code {
	case "ResourceNotFoundException":
		return &types.ResourceNotFoundException{Message: message}
	case "InvalidRequestException":
		return &types.InvalidRequestException{Message: message}
	case "InvalidParameterException":
		return &types.InvalidParameterException{Message: message}
	case "DecryptionFailure":
		return &types.DecryptionFailure{Message: message}
	case "InternalServiceError":
		return &types.InternalServiceError{Message: message}
	}
	return &smithy.GenericAPIError{Code: code, Message: aws.ToString(message)}
}
