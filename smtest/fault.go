package smtest

import (
	"context"
	"slices"
	"time"
)

// A Fault changes what happens to the calls it matches. Operation, SecretID and
// Stage say which these are, the other fields what happens; the zero Fault
// matches every call and does nothing to it.
//
// A call goes through Before, Delay, its effect or Err instead of it, After and
// DelayAnswer, in this order. If several faults match, those before the effect
// apply in the order in which they were injected, up to the first that has an
// Err; later ones do not count as matched. Those after the effect apply in the
// same order.
type Fault struct {
	// Operation is the API operation to match, such as GetSecretValue. Empty: any.
	Operation string

	// SecretID matches calls about that secret, in whichever way they and this
	// field name it: by name, ARN or partial ARN. Empty: any.
	SecretID string

	// Stage matches calls about that staging label; AWSCURRENT also those that leave
	// it unsaid. Empty: any.
	Stage string

	// Times is how many calls the fault applies to; the next ones pass. Zero: no
	// limit, until it is removed.
	Times int

	// Before is called when the call has arrived and has had no effect yet. It may
	// block; it must return when ctx, the request's context, is done. It may call the
	// server, but such a call may match this fault again. The Call has what the
	// request says.
	Before func(ctx context.Context, c Call)

	// Delay is how long the call waits before its effect.
	Delay time.Duration

	// Err is answered instead of the call's effect.
	Err *Error

	// After is called when the effect is done and the answer made, but before it is
	// written: what it changes comes too late for this answer. Otherwise as Before;
	// the Call has VersionID and Code of the answer.
	After func(ctx context.Context, c Call)

	// DelayAnswer is how long the finished answer is kept back.
	DelayAnswer time.Duration
}

// An injected fault is a Fault in force. Times is counted down in left.
type injected struct {
	Fault
	left int
}

// Inject puts a fault in force for the calls that arrive from now on, and returns
// a function that takes it back, which may be called more than once. A call that
// already matched stays delayed. It panics if there is no such operation: a test
// that waits for a fault in vain proves nothing.
func (s *Server) Inject(f Fault) (remove func()) {
	mustKnow(f.Operation)
	in := &injected{Fault: f, left: f.Times}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, in)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dropFaultLocked(in)
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
		if !s.matchesLocked(in, req) {
			continue
		}
		out = append(out, in)
		if in.Times > 0 {
			if in.left--; in.left == 0 {
				s.dropFaultLocked(in)
			}
		}
		if in.Err != nil {
			break
		}
	}
	return out
}

func (s *Server) matchesLocked(in *injected, req *request) bool {
	if in.Operation != "" && in.Operation != req.operation {
		return false
	}
	if in.Stage != "" && !slices.Contains(req.target.stages, in.Stage) {
		return false
	}
	if in.SecretID == "" || slices.Contains(req.target.ids, in.SecretID) {
		return true
	}
	now := timestamp()
	want, err := s.resolveLocked(req.store, in.SecretID, now)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(req.target.ids, func(id string) bool {
		sec, err := s.resolveLocked(req.store, id, now)
		return err == nil && sec == want
	})
}

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
	}
	return nil
}

// wait waits for d, or until ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
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
