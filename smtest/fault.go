package smtest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A Fault changes what happens to the calls it matches. Operation, SecretID, Stage,
// Caller and Region say which these are, Skip, Times, Probability and Rate to how
// many of them it applies, the other fields what happens; the zero Fault applies to
// every call and does nothing to it.
//
// A call goes through Before, Delay, LoseRequest, its effect or Err instead of it,
// After, DelayAnswer and LoseAnswer, in this order. If several faults apply, those
// before the effect do so in the order in which they were injected, up to the first
// that has an Err or LoseRequest; later ones do not count as matched. Those after
// the effect apply in the same order.
type Fault struct {
	// Operation is the API operation to match, such as GetSecretValue. Empty: any.
	Operation string

	// SecretID matches calls about that secret, in whichever way they and this
	// field name it: by name, ARN or partial ARN. Empty: any.
	SecretID string

	// Stage matches calls about that staging label; AWSCURRENT also those that leave
	// it unsaid. Empty: any.
	Stage string

	// Caller matches calls by that principal: its ARN, its access key id, or an
	// account for all of its principals. Empty: any.
	Caller string

	// Region matches calls for that AWS Region. Empty: any.
	Region string

	// Skip is how many matching calls pass before the fault applies to one.
	Skip int

	// Times is how many calls the fault applies to; the next ones pass. Zero: no
	// limit, until it is removed.
	Times int

	// Probability is that with which the fault applies to a matching call, from 0 to
	// 1. Zero: it applies to each. The calls it is to be are drawn from
	// Options.Seed: the same calls in the same order have the same fate.
	Probability float64

	// Rate is how many matching calls a second pass, in each account and Region; the
	// fault applies to those beyond. It is a token bucket that holds what may pass in
	// one second, one call at least. Zero: none pass.
	Rate float64

	// Before is called when the call has arrived and has had no effect yet. It may
	// block; it must return when ctx, the request's context, is done. It may call the
	// server, but such a call may match this fault again. The Call has what the
	// request says.
	Before func(ctx context.Context, c Call)

	// Delay is how long the call waits before its effect.
	Delay time.Duration

	// LoseRequest breaks the connection before the call has an effect.
	LoseRequest bool

	// Err is answered instead of the call's effect.
	Err *Error

	// Stale makes a read see the secrets as they were that long ago, as a replica of
	// the service does that lags behind: labels on the versions they have left,
	// versions and secrets that are not there yet. Nothing is older than the fault.
	// It matches reads alone: GetSecretValue, BatchGetSecretValue, DescribeSecret,
	// ListSecretVersionIds, ListSecrets, GetResourcePolicy. With a Probability, some
	// reads are up to date and some are not. Of several, the greatest counts.
	Stale time.Duration

	// After is called when the effect is done and the answer made, but before it is
	// written: what it changes comes too late for this answer. Otherwise as Before;
	// the Call has VersionID and Code of the answer.
	After func(ctx context.Context, c Call)

	// DelayAnswer is how long the finished answer is kept back.
	DelayAnswer time.Duration

	// LoseAnswer breaks the connection when the call has had its effect.
	LoseAnswer bool
}

// Forever as Fault.Delay or Fault.DelayAnswer leaves a call without an answer until
// its caller gives up.
const Forever time.Duration = math.MaxInt64

// An injected fault is a Fault in force. Its counters are protected by the server's
// mu.
type injected struct {
	Fault

	skip, left int
	random     *rand.Rand // nil without a Probability
	buckets    buckets
}

// Inject puts a fault in force for the calls that arrive from now on, and returns
// a function that takes it back, which may be called more than once. A call that
// already matched stays delayed. It panics if there is no such operation, or if
// the fault can apply to no call: a test that waits for it in vain proves nothing.
func (s *Server) Inject(f Fault) (remove func()) {
	mustKnow(f.Operation)
	f.mustMakeSense()
	s.mu.Lock()
	defer s.mu.Unlock()
	in := &injected{Fault: f, skip: f.Skip, left: f.Times}
	if f.Probability > 0 {
		// One source for each fault: what one draws does not change another's calls.
		in.random = rand.New(rand.NewPCG(s.opts.Seed, s.injections))
	}
	s.injections++
	if f.Stale > 0 && s.staleLocked() == 0 {
		s.epoch++
	}
	s.faults = append(s.faults, in)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dropFaultLocked(in)
	}
}

func (f Fault) mustMakeSense() {
	switch {
	case f.Probability < 0 || f.Probability > 1 || math.IsNaN(f.Probability):
		panic("smtest: a Fault's Probability is from 0 to 1")
	case f.Rate < 0 || math.IsNaN(f.Rate):
		panic("smtest: a Fault's Rate is not negative")
	case f.Stale > 0 && f.Operation != "" && !reads[f.Operation]:
		panic("smtest: " + f.Operation + " is no read: it cannot be stale")
	}
}

func (s *Server) dropFaultLocked(in *injected) {
	if i := slices.Index(s.faults, in); i >= 0 {
		s.faults = slices.Delete(s.faults, i, i+1)
	}
}

// matchLocked returns the faults that apply to a request, and counts them down.
func (s *Server) matchLocked(req *request) []*injected {
	var out []*injected
	for _, in := range slices.Clone(s.faults) {
		if !s.matchesLocked(in, req) || !in.applies(req) {
			continue
		}
		out = append(out, in)
		req.stale = max(req.stale, in.Stale)
		if in.Times > 0 {
			if in.left--; in.left == 0 {
				s.dropFaultLocked(in)
			}
		}
		if in.Err != nil || in.LoseRequest {
			break
		}
	}
	return out
}

// matchesLocked reports whether a fault is about such a request.
func (s *Server) matchesLocked(in *injected, req *request) bool {
	switch {
	case in.Operation != "" && in.Operation != req.operation,
		in.Stage != "" && !slices.Contains(req.target.stages, in.Stage),
		in.Region != "" && in.Region != req.store.region,
		in.Stale > 0 && !reads[req.operation],
		!req.caller.isMeant(in.Caller):
		return false
	}
	return in.SecretID == "" || s.aboutLocked(req.store, req.target.ids, in.SecretID)
}

// isMeant reports whether a caller is meant by its ARN, access key or account; empty
// means everybody.
func (c *caller) isMeant(who string) bool {
	return who == "" || who == c.arn || who == c.keyID || who == c.account
}

// aboutLocked reports whether the ids of a request that sees the store are about a
// secret.
func (s *Server) aboutLocked(st *store, ids []string, id string) bool {
	if slices.Contains(ids, id) {
		return true
	}
	now := timestamp()
	want, err := s.resolveLocked(st, id, now)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(ids, func(id string) bool {
		sec, err := s.resolveLocked(st, id, now)
		return err == nil && sec == want
	})
}

// applies reports whether this is one of the matching requests that a fault applies
// to.
func (in *injected) applies(req *request) bool {
	if in.skip > 0 {
		in.skip--
		return false
	}
	if in.random != nil && in.random.Float64() >= in.Probability {
		return false
	}
	return in.Rate == 0 || !in.buckets.take(req.store.place, "", in.Rate)
}

// errLose stands for a connection that a fault breaks.
var errLose = errors.New("smtest: connection lost")

// before runs the part of the faults that precedes the effect, without any lock.
// It returns the error to answer instead of the effect, if any.
func before(ctx context.Context, faults []*injected, c Call) (*Error, error) {
	for _, in := range faults {
		if in.Before != nil {
			in.Before(ctx, c)
		}
		if err := wait(ctx, in.Delay); err != nil {
			return nil, err
		}
		if in.LoseRequest {
			return nil, errLose
		}
		if in.Err != nil {
			return in.Err, nil
		}
	}
	return nil, nil
}

// after runs the part that follows the effect, without any lock.
func after(ctx context.Context, faults []*injected, c Call) error {
	for _, in := range faults {
		if in.After != nil {
			in.After(ctx, c)
		}
		if err := wait(ctx, in.DelayAnswer); err != nil {
			return err
		}
		if in.LoseAnswer {
			return errLose
		}
	}
	return nil
}

// wait waits for d, or until ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	if d == Forever {
		<-ctx.Done()
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
