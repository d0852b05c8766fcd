package cache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

const (
	randomBackoff = time.Minute // the longest there is
	randomLabel   = "blue"      // one of our own
	randomAccount = "210987654321"
	randomMark    = "s3cr3t" // in every value, and in no error
)

var randomStages = []string{cache.Current, cache.Previous, cache.Pending, randomLabel}

// A randomModel is what TestRandom knows to be true: the history of the service,
// the calls that reached it, what was done to the Cache, and what readers saw. But
// for what its mu protects it is the business of one goroutine.
//
// It knows the truth from the service itself, and nothing of how the Cache works
// but what its documentation says: that there are keys, and what they share.
type randomModel struct {
	seed               uint64
	step               atomic.Int64
	serverless, evicts bool

	slots   []*randomSlot
	places  map[string]randomPlace // by secret ID
	values  map[string]string      // by ARN and version ID
	outages []randomSpan
	closed  time.Time                 // zero until then
	lookers map[randomKey][]time.Time // readers that may have begun a call
	peeks   map[randomKey][]time.Time
	seen    map[randomKey][]randomSighting

	trace         []string
	reads, errors int

	mu       sync.Mutex // protects following
	running  int        // readers
	finished []*randomRead
	failures []string
	calls    map[randomKey][]*randomCall
	freezes  []randomFreeze
	forgets  []randomForget
}

type (
	// A randomSlot is where a secret is, and after it those that take its name.
	randomSlot struct {
		index   int
		server  *smtest.Server
		admin   *secretsmanager.Client
		name    string
		named   bool     // the name leads there, not only ARNs
		count   int      // of versions
		here    []string // versions of the secret that is there
		arns    []string
		history []randomState
		denials []randomSpan
		allow   func() // ends a denial, nil if there is none
	}

	// A randomState is what the service has in a slot, until the next state.
	randomState struct {
		from          time.Time
		arn           string
		labels        map[string]string // label -> version ID
		deleted, gone bool              // marked for it, and for good
	}

	// A randomPlace is what a secret ID leads to: whatever is in the slot, unless
	// the ID is a full ARN.
	randomPlace struct {
		slot *randomSlot
		arn  string
	}

	randomSpan     struct{ from, to time.Time } // to is zero until its end
	randomSighting struct{ end, fetched time.Time }

	// A randomFreeze is a time for which the monotonic clock stood still.
	randomFreeze struct {
		at time.Time
		d  time.Duration
	}

	// A randomForget is a call of Invalidate, with the ARNs that the Cache knew the
	// ID to mean.
	randomForget struct {
		at   time.Time
		id   string
		arns []string
	}

	randomKey struct{ id, stage, version string }

	// A randomCall is a call of the service, for one key.
	randomCall struct {
		began, ended  time.Time
		ctx           context.Context //nolint:containedctx // It tells whether the call was given up.
		batch, forced bool
		result        randomResult
		arn           string
	}
)

type randomResult int

const (
	randomUnderWay randomResult = iota
	randomGivenUp               // or it said nothing of the key
	randomSucceeded
	randomFailed  // for a reason that may pass
	randomRefused // for another
)

func newRandomModel(seed uint64) *randomModel {
	return &randomModel{
		seed: seed, places: make(map[string]randomPlace), values: make(map[string]string),
		lookers: make(map[randomKey][]time.Time), peeks: make(map[randomKey][]time.Time), seen: make(map[randomKey][]randomSighting), calls: make(map[randomKey][]*randomCall),
	}
}

func (m *randomModel) where() string {
	return fmt.Sprintf("seed %d, step %d, %s: ", m.seed, m.step.Load(), stamp(time.Now()))
}

func stamp(t time.Time) string { return t.Format("02 15:04:05.000000000") }

func (m *randomModel) note(format string, args ...any) {
	m.trace = append(m.trace, m.where()+fmt.Sprintf(format, args...))
}

func (m *randomModel) fail(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failLocked(format, args...)
}

func (m *randomModel) failLocked(format string, args ...any) {
	if len(m.failures) < 5 { // the rest is their doing, most likely
		m.failures = append(m.failures, m.where()+fmt.Sprintf(format, args...))
	}
}

func (m *randomModel) failed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failures
}

func (s *randomSlot) String() string { return fmt.Sprintf("%s (slot %d)", s.name, s.index) }

func (s *randomSlot) now() randomState { return s.history[len(s.history)-1] }

// next makes a version. Secrets share the IDs of versions: nothing but the ARN
// tells them apart.
func (s *randomSlot) next() (version, value string) {
	s.count++
	version = fmt.Sprintf("version-%024d", s.count)
	return version, s.value(version)
}

func (s *randomSlot) value(version string) string {
	return fmt.Sprintf("%s of %v, %s", randomMark, s, version)
}

func partialARN(arn string) string { return arn[:len(arn)-len("-AbCdEf")] }

// enlist notes the ways to ask for the secret in a slot.
func (m *randomModel) enlist(s *randomSlot, arn string) {
	if s.named {
		m.places[s.name] = randomPlace{s, ""}
	}
	m.places[partialARN(arn)] = randomPlace{s, ""}
	m.places[arn] = randomPlace{s, arn}
}

// observe asks the service for the truth.
func (m *randomModel) observe(s *randomSlot) {
	now := randomState{from: time.Now(), labels: make(map[string]string)}
	out, err := s.admin.DescribeSecret(context.Background(), &secretsmanager.DescribeSecretInput{SecretId: aws.String(s.name)})
	_, now.gone = errors.AsType[*types.ResourceNotFoundException](err)
	switch {
	case now.gone:
	case err != nil:
		m.fail("DescribeSecret: %v", err)
	default:
		now.arn, now.deleted = *out.ARN, out.DeletedDate != nil
		for version, labels := range out.VersionIdsToStages {
			for _, label := range labels {
				now.labels[label] = version
			}
		}
		version := s.here[len(s.here)-1]
		m.values[now.arn+version] = s.value(version)
	}
	s.history = append(s.history, now)
}

// ever reports whether f is true of a state that what an ID leads to was in from
// one instant to another, both included.
func (p randomPlace) ever(from, to time.Time, f func(randomState) bool) bool {
	until := to
	for _, s := range slices.Backward(p.slot.history) {
		if until.Before(from) {
			break
		}
		here := !s.deleted && !s.gone && (p.arn == "" || p.arn == s.arn)
		if !s.from.After(to) {
			if !here {
				s = randomState{from: s.from}
			}
			if f(s) {
				return true
			}
		}
		until = s.from
	}
	return false
}

// lastSpan returns the last span that had begun at t, or nil.
func lastSpan(spans []randomSpan, t time.Time) *randomSpan {
	for i := len(spans) - 1; i >= 0; i-- {
		if !spans[i].from.After(t) {
			return &spans[i]
		}
	}
	return nil
}

// answering returns since when the service has been answering at t, if it was.
func (m *randomModel) answering(t time.Time) (since time.Time, ok bool) {
	last := lastSpan(m.outages, t)
	if last == nil {
		return time.Time{}, true
	}
	// What was under way goes on hanging: a batch, then a call, then one that
	// confirms that.
	since = last.to.Add(3 * randomFetchTimeout)
	return since, !last.to.IsZero() && !since.After(t)
}

// age returns how old at an instant is what was read at another, to a reader that
// came at start: what happens to the clocks later, it cannot know.
func (m *randomModel) age(fetched, at, start time.Time) time.Duration {
	age, ahead := at.Sub(fetched), time.Duration(0)
	for _, f := range m.freezes {
		if f.at.After(fetched) && f.at.Before(start) {
			ahead += f.d
		}
	}
	if ahead > time.Second {
		age += ahead
	}
	return age
}

// A randomClient is a client of the Cache: that of a Region, which leads to another
// account's secrets too, by their ARNs. It notes the calls.
type randomClient struct {
	*secretsmanager.Client // that of the account itself
	other                  *secretsmanager.Client
	model                  *randomModel
}

func (c *randomClient) of(id string) *secretsmanager.Client {
	if strings.Contains(id, ":"+randomAccount+":") {
		return c.other
	}
	return c.Client
}

func (c *randomClient) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	k := randomKey{*in.SecretId, aws.ToString(in.VersionStage), aws.ToString(in.VersionId)}
	call := c.model.enter(ctx, k, false)
	out, err := c.of(k.id).GetSecretValue(ctx, in, opts...)
	arn := ""
	if err == nil {
		arn = *out.ARN
	}
	c.model.leave(call, arn, err)
	return out, err
}

// BatchGetSecretValue asks both accounts, as the service does by itself.
func (c *randomClient) BatchGetSecretValue(ctx context.Context, in *secretsmanager.BatchGetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.BatchGetSecretValueOutput, error) {
	calls := make(map[string]*randomCall)
	ids := make(map[*secretsmanager.Client][]string)
	for _, id := range in.SecretIdList {
		calls[id] = c.model.enter(ctx, randomKey{id: id, stage: cache.Current}, true)
		ids[c.of(id)] = append(ids[c.of(id)], id)
	}
	out := &secretsmanager.BatchGetSecretValueOutput{}
	var err error
	clients := []*secretsmanager.Client{c.other, c.Client}
	if len(calls)%2 == 0 {
		slices.Reverse(clients) // the service promises no order
	}
	for _, client := range clients {
		var some *secretsmanager.BatchGetSecretValueOutput
		if err != nil || len(ids[client]) == 0 {
			continue
		}
		if some, err = client.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{SecretIdList: ids[client]}, opts...); err == nil {
			out.SecretValues = append(out.SecretValues, some.SecretValues...)
			out.Errors = append(out.Errors, some.Errors...)
		}
	}
	for _, one := range out.Errors {
		c.model.leave(calls[*one.SecretId], "", errors.New(*one.ErrorCode))
		delete(calls, *one.SecretId)
	}
	for _, call := range calls {
		if err != nil && (refusal(err) || strings.Contains(err.Error(), "Throttling")) {
			c.model.leave(call, "", context.Canceled) // each is to be asked for by itself
		} else {
			c.model.leave(call, "", err)
		}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func refusal(err error) bool {
	return slices.ContainsFunc([]string{"AccessDenied", "ResourceNotFound", "InvalidRequest"}, func(code string) bool {
		return strings.Contains(err.Error(), code)
	})
}

// enter notes the beginning of a call, and checks that the key has none under way.
// One whose context has ended is none: its last reader has left. In serverless
// mode a batch goes on for the others of its keys.
func (m *randomModel) enter(ctx context.Context, k randomKey, batch bool) *randomCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	call := &randomCall{began: time.Now(), ctx: ctx, batch: batch, forced: cache.Forced(ctx)}
	if ctx.Err() != nil {
		return call
	}
	for _, before := range slices.Backward(m.calls[k]) {
		if before.underWay() && (!m.serverless || !batch && !before.batch) {
			m.failLocked("a call for %v beside one since %s", k, stamp(before.began))
		}
		if call.began.Sub(before.began) > time.Minute {
			break
		}
	}
	m.checkHeld(k, call)
	m.calls[k] = append(m.calls[k], call)
	return call
}

func (call *randomCall) underWay() bool {
	return call.result == randomUnderWay && call.ctx.Err() == nil
}

// checkHeld checks that a failure is held for half a second at least. That can be
// told of a name only, what answers for an ARN may be another key's, and not of
// AWSPREVIOUS, which is asked for again when AWSCURRENT has moved.
func (m *randomModel) checkHeld(k randomKey, call *randomCall) {
	last := m.last(k, call.began)
	if last == nil || last.result == randomSucceeded || k.stage == cache.Previous || last.batch || call.batch || call.forced || m.evicts || strings.HasPrefix(k.id, "arn:") {
		return
	}
	if n := len(m.forgets); n > 0 && !m.forgets[n-1].at.Before(last.began) {
		return
	}
	if m.age(last.ended, call.began, call.began) < 500*time.Millisecond {
		m.failLocked("a call for %v %v after one that failed", k, call.began.Sub(last.ended))
	}
}

func (m *randomModel) leave(call *randomCall, arn string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	call.ended, call.arn = time.Now(), arn
	switch {
	case err == context.Canceled || call.ctx.Err() == context.Canceled: //nolint:errorlint // They are not wrapped.
		call.result = randomGivenUp
	case err == nil:
		call.result = randomSucceeded
	case refusal(err):
		call.result = randomRefused
	default:
		call.result = randomFailed
	}
	if took := call.ended.Sub(call.began); took > randomFetchTimeout {
		m.failLocked("a call took %v", took)
	}
}

// last returns the last call for a key that was answered before t, or nil.
func (m *randomModel) last(k randomKey, t time.Time) *randomCall {
	for _, call := range slices.Backward(m.calls[k]) {
		if call.result > randomGivenUp && call.ended.Before(t) {
			return call
		}
	}
	return nil
}

// came and went note a reader.

func (m *randomModel) came() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running++
}

func (m *randomModel) went(o *randomRead) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	m.finished = append(m.finished, o)
}

// froze notes that the clock is about to stand still.
func (m *randomModel) froze(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.freezes = append(m.freezes, randomFreeze{time.Now(), d})
}

// forget notes a call of Invalidate that is about to be made.
func (m *randomModel) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one := randomForget{at: time.Now(), id: id}
	if m.places[id].arn != "" {
		one.arns = []string{id}
	}
	for k := range m.calls {
		if k.id == id {
			one.arns = append(one.arns, m.meant(k, one.at))
		}
	}
	m.forgets = append(m.forgets, one)
}

// meant returns the ARN that the Cache had learnt for a key at t. A call that was
// under way at an Invalidate taught it nothing.
func (m *randomModel) meant(k randomKey, t time.Time) string {
	for _, call := range slices.Backward(m.calls[k]) {
		if call.result == randomSucceeded && !call.batch && call.ended.Before(t) && !slices.ContainsFunc(m.forgets, func(f randomForget) bool {
			return !f.at.Before(call.began) && !f.at.After(call.ended)
		}) {
			return call.arn
		}
	}
	return ""
}

// check holds what the readers got against the truth.
func (m *randomModel) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.serverless && m.running == 0 {
		for k, calls := range m.calls {
			if last := calls[len(calls)-1]; last.underWay() {
				m.failLocked("a call for %v since %s, for which nobody waits", k, stamp(last.began))
			}
		}
	}
	for _, o := range m.finished {
		if o.gets() && o.timeout > 0 || o.op == "Peek" {
			m.lookers[o.key()] = append(m.lookers[o.key()], o.start)
		}
		if o.op == "Peek" {
			m.peeks[o.key()] = append(m.peeks[o.key()], o.start)
		}
	}
	for _, o := range m.finished {
		m.reads++
		if o.end.After(o.deadline) && o.end.After(o.start) {
			m.complain(o, "it waited beyond its context")
		}
		switch {
		case o.err != nil:
			m.errors++
			m.checkError(o)
		case o.secret != nil:
			m.checkSecret(o)
		case o.op == "Status":
			m.checkStatus(o)
		case o.op != "Peek" && o.op != "Prefetch":
			m.complain(o, "it returned neither a secret nor an error")
		}
	}
	m.finished = nil
}

// gets reports whether the read takes what is held.
func (o *randomRead) gets() bool {
	return o.op == "Get" || o.op == "GetStage" || o.op == "GetVersion" || o.op == "Handle.Get"
}

// plain reports whether besides only one key answers it: not so AWSPREVIOUS and
// versions.
func (o *randomRead) plain() bool {
	return o.gets() && o.op != "GetVersion" && o.stage != cache.Previous
}

func (o *randomRead) byARN() bool { return strings.HasPrefix(o.id, "arn:") }

func (o *randomRead) key() randomKey {
	if o.op == "GetVersion" {
		return randomKey{id: o.id, version: o.version}
	}
	return randomKey{id: o.id, stage: o.stage}
}

func (m *randomModel) complain(o *randomRead, format string, args ...any) {
	what := ""
	if o.secret != nil {
		what = fmt.Sprintf(" = %s %s, read at %s", o.secret.ARN(), o.secret.VersionID(), stamp(o.secret.Fetched()))
	}
	m.failLocked("%s(%s, %s%s %q) from %s to %s with a context of %v%s: %s", o.op, o.id, o.stage, o.version, o.ids, stamp(o.start), stamp(o.end),
		o.timeout, what, fmt.Sprintf(format, args...))
}

func (m *randomModel) checkError(o *randomRead) {
	failed, ok := errors.AsType[*cache.Error](o.err)
	if errors.Is(o.err, cache.ErrClosed) {
		if m.closed.IsZero() {
			m.complain(o, "%v", o.err)
		}
		return
	}
	switch {
	case strings.Contains(o.err.Error(), randomMark):
		m.complain(o, "an error quotes a value: %v", o.err)
	case !ok:
		m.complain(o, "it is no *cache.Error: %v", o.err)
	case o.op != "Prefetch" && failed.SecretID != o.id:
		m.complain(o, "its error is of another: %v", o.err)
	case m.mustHold(o):
		m.complain(o, "there is a value, and yet: %v", o.err)
	case errors.Is(o.err, context.DeadlineExceeded) || errors.Is(o.err, context.Canceled):
		if o.end.Before(o.deadline) {
			m.complain(o, "another reader's end: %v", o.err)
		}
	case o.op == "RefreshAfter" && !failed.Began.After(o.after) && failed.Began.Before(o.start):
		m.complain(o, "the call began before that: %v", o.err)
	case m.mustAnswer(o):
		m.complain(o, "the service answers, and yet: %v", o.err)
	}
}

// mustHold reports whether a value was held that an error of the service, or the
// end of a context, cannot take from a read: nobody has refused it since it was
// seen.
func (m *randomModel) mustHold(o *randomRead) bool {
	seen := m.seen[o.key()]
	if !o.plain() || m.evicts || len(seen) == 0 {
		return false
	}
	last := seen[len(seen)-1]
	if !last.end.Before(o.start) || m.age(last.fetched, o.end, o.end) >= randomTTL+randomMaxStale ||
		len(m.forgets) > 0 && !m.forgets[len(m.forgets)-1].at.Before(last.fetched) {
		return false
	}
	return !m.any(o, func(_ randomKey, call *randomCall) bool {
		return call.result == randomRefused && !call.ended.Before(last.fetched)
	})
}

// any reports whether f is true of a call for the secret and the label of a read,
// by whatever ID.
func (m *randomModel) any(o *randomRead, f func(randomKey, *randomCall) bool) bool {
	for k, calls := range m.calls {
		if k.stage == o.stage && m.places[k.id].slot == m.places[o.id].slot &&
			slices.ContainsFunc(calls, func(call *randomCall) bool { return f(k, call) }) {
			return true
		}
	}
	return false
}

// mustAnswer reports whether nothing stood between a read and its answer: for as
// long as a failure is held the service has answered, and the version was there.
func (m *randomModel) mustAnswer(o *randomRead) bool {
	since := o.start.Add(-randomBackoff)
	if o.op == "RefreshAfter" && o.after.Before(since) {
		since = o.after // any failure after that is an answer
	}
	if answering, ok := m.answering(o.end); !ok || answering.After(since) {
		return false
	}
	ids := o.ids
	if o.op != "Prefetch" {
		ids = []string{o.id}
	}
	for _, id := range ids {
		place := m.places[id]
		denial := lastSpan(place.slot.denials, o.end)
		if denial != nil && (denial.to.IsZero() || denial.to.After(since)) || place.slot.history[0].from.After(since) {
			return false
		}
		if place.ever(since, o.end, func(s randomState) bool {
			if o.op != "GetVersion" {
				return s.labels[o.stage] == ""
			}
			for _, version := range s.labels {
				if version == o.version {
					return false
				}
			}
			return true
		}) {
			return false
		}
	}
	return true
}

func (m *randomModel) checkStatus(o *randomRead) {
	s := o.status
	ok := false
	switch s.State {
	case cache.Fresh, cache.Aging:
		ok = s.VersionID != "" && s.Age < randomTTL
	case cache.Expired, cache.Failing:
		ok = s.VersionID != "" && s.Age >= randomTTL && s.Age < randomTTL+randomMaxStale
	case cache.Dead:
		ok = s.VersionID == "" || s.Age >= randomTTL || !m.closed.IsZero()
	}
	if !ok {
		m.complain(o, "%+v", s)
	}
}

func (m *randomModel) checkSecret(o *randomRead) {
	s, place := o.secret, m.places[o.id]
	if want, ok := m.values[s.ARN()+s.VersionID()]; !ok || s.Text() != want || s.Name() != place.slot.name {
		m.complain(o, "it has the value %q, want %q", s.Text(), want)
	}
	if o.op == "GetVersion" && s.VersionID() != o.version {
		m.complain(o, "it is another version")
	}
	if !place.ever(s.Fetched(), o.end, func(at randomState) bool {
		return at.arn == s.ARN() && (o.op == "GetVersion" || at.labels[o.stage] == s.VersionID())
	}) {
		m.complain(o, "it was never that since it was read")
	}
	if !m.closed.IsZero() && o.start.After(m.closed) {
		m.complain(o, "the Cache is closed")
	}
	m.checkAge(o)
	m.checkForced(o)
	m.checkForgotten(o)
	m.checkRefused(o)
	m.checkOrder(o)
}

// checkAge checks the promise on age, and on how long a read of an old value waits.
// RefreshAfter promises what it is asked for instead.
func (m *randomModel) checkAge(o *randomRead) {
	fetched := o.secret.Fetched()
	if o.op == "RefreshAfter" {
		return
	}
	if age := m.age(fetched, o.start, o.end); age >= randomTTL+randomMaxStale {
		m.complain(o, "it was %v old", age)
	}
	age := m.age(fetched, o.end, o.start)
	if waited := o.end.Sub(o.start); age >= randomTTL && o.plain() && !m.serverless && waited > randomStaleWait {
		m.complain(o, "it waited %v", waited)
	}
	since, ok := m.answering(o.end)
	since = since.Add(randomBackoff)
	// Who gives up takes what there is, and Peek always does; in serverless mode
	// nothing is refreshed behind that.
	if age < randomTTL+randomBackoff+randomStaleWait || !ok || since.After(o.start) || !o.end.Before(o.deadline) && o.op != "Peek" ||
		o.op == "Peek" && m.serverless {
		return
	}
	if o.op == "Peek" && !slices.ContainsFunc(m.lookers[o.key()], func(at time.Time) bool {
		return at.After(since) && at.Sub(fetched) >= randomTTL && o.start.Sub(at) > randomStaleWait
	}) {
		return // nobody who came before has had it refreshed
	}
	m.complain(o, "it is %v old, and the service has answered since %s", age, stamp(since.Add(-randomBackoff)))
}

// checkForced checks that a forced read is one.
func (m *randomModel) checkForced(o *randomRead) {
	since := o.start
	switch o.op {
	default:
		return
	case "Refresh":
		since = since.Add(-randomMinRefresh)
	case "RefreshIf":
		if o.secret.VersionID() != o.version {
			return
		}
		// Another was held, and a call that was under way brought it back.
		since = since.Add(-randomMinRefresh - 2*randomFetchTimeout)
	case "RefreshAfter":
		if o.after.Before(since) {
			since = o.after.Add(1)
		}
	}
	if o.secret.Fetched().Before(since) {
		m.complain(o, "that is too early")
	}
}

// checkForgotten checks that what was read before an Invalidate is not returned
// after it, also if that was by another ID which is known to be the secret's.
func (m *randomModel) checkForgotten(o *randomRead) {
	arn, fetched := o.secret.ARN(), o.secret.Fetched()
	for _, f := range slices.Backward(m.forgets) {
		if !f.at.After(fetched) {
			return
		}
		known := f.id == o.id || !m.evicts && slices.Contains(f.arns, arn) && (o.id == arn || m.meant(o.key(), f.at) == arn)
		if f.at.Before(o.start) && known {
			m.complain(o, "it was invalidated at %s, as %s", stamp(f.at), f.id)
			return
		}
	}
}

// checkRefused checks that the service is not overruled where it says that we may
// not have the secret.
func (m *randomModel) checkRefused(o *randomRead) {
	if m.age(o.secret.Fetched(), o.start, o.start) < randomTTL || m.evicts || !m.refused(o) {
		return
	}
	m.complain(o, "the service had refused it")
}

// refused reports whether the service refused a secret after it was read, and was
// asked for it by no ID since, nor for an AWSCURRENT that left it as AWSPREVIOUS.
func (m *randomModel) refused(o *randomRead) bool {
	refused := m.last(o.key(), o.start)
	if refused == nil || refused.result != randomRefused || !refused.began.After(o.secret.Fetched()) {
		return false
	}
	for id, place := range m.places {
		for _, stage := range []string{o.key().stage, cache.Current} {
			if place.slot != m.places[o.id].slot || stage != o.key().stage && o.stage != cache.Previous {
				continue
			}
			if last := m.last(randomKey{id, stage, o.key().version}, o.start); last != nil && last.ended.After(refused.ended) {
				return false
			}
		}
	}
	return true
}

// checkOrder checks that no reader gets what is older than what one before it got.
// AWSPREVIOUS and versions may be answered by more than one key, and so may an ARN
// when its own was evicted.
func (m *randomModel) checkOrder(o *randomRead) {
	fetched, k := o.secret.Fetched(), o.key()
	if o.stage == cache.Previous || o.op == "GetVersion" || m.evicts && o.byARN() {
		return
	}
	for _, before := range slices.Backward(m.seen[k]) {
		if before.end.Before(o.start) && before.fetched.After(fetched) {
			m.complain(o, "one before was read at %s", stamp(before.fetched))
			break
		}
		if o.start.Sub(before.end) > time.Minute {
			break
		}
	}
	m.seen[k] = append(m.seen[k], randomSighting{o.end, fetched})
}
