package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	replicaFirst  = 100 * time.Millisecond
	replicaMax    = 5 * time.Second
	replicaMargin = time.Second // for the error, before the function is ended
)

// prove sees that pending is good for what current is good for: on the server
// that was changed, and on every replica, which it waits for.
func (s *step) prove(ctx context.Context, current, pending *Value) error {
	how, err := s.strategy(current)
	if err != nil {
		return err
	}
	// Where the superuser acts, the secret's own server may be a replica.
	wait := s.newWait(ctx)
	if how.Superuser == "" {
		wait.until = time.Time{}
	}
	err = wait.repeat(ctx, func() (bool, error) {
		err := s.target.Test(ctx, pending)
		return err == nil || !errors.Is(err, ErrRefused), err
	})
	switch {
	case errors.Is(err, ErrRefused):
		return Problem(ReasonNotSet, "setSecret has not run, or the password was changed since: "+
			"repeat the rotation from its first step", fmt.Errorf("the target refuses AWSPENDING: %w", err))
	case err != nil:
		return noVerdict(fmt.Errorf("logging in with AWSPENDING: %w", err))
	}
	if verifier, ok := s.target.(Verifier); ok {
		err := s.as(ctx, how, pending, func(as *Value) error {
			return verifier.Verify(ctx, Change{Current: current, Pending: pending, As: as})
		})
		if err != nil {
			return noVerdict(fmt.Errorf("comparing what the users of AWSCURRENT and AWSPENDING may do: %w", err))
		}
	}
	return s.proveReplicas(ctx, current, pending)
}

// rehearse proves what can be proven without a change.
func (s *step) rehearse(ctx context.Context, v *Value) error {
	how, err := s.strategy(v)
	if err != nil {
		return err
	}
	if how.Superuser != "" {
		if _, err := s.superuser(ctx, how.Superuser, stageCurrent); err != nil {
			return err
		}
	}
	switch err := s.target.Test(ctx, v); {
	case errors.Is(err, ErrRefused):
		return Problem(ReasonLockedOut, "put the password that the user has into AWSCURRENT",
			fmt.Errorf("the target refuses AWSCURRENT: %w", err))
	case err != nil:
		return noVerdict(fmt.Errorf("logging in with AWSCURRENT: %w", err))
	}
	return s.proveReplicas(ctx, v, v)
}

// proveReplicas logs in to each, in rounds, until all of them have let v in.
func (s *step) proveReplicas(ctx context.Context, current, v *Value) error {
	replicated, nodes, err := s.replicas(ctx, current)
	if err != nil {
		return err
	}
	var errs []error
	err = s.newWait(ctx).repeat(ctx, func() (bool, error) {
		var left []Node
		errs = nil
		for _, n := range nodes {
			if err := replicated.TestAt(ctx, v, n); err != nil {
				left, errs = append(left, n), append(errs, fmt.Errorf("%s: %w", n, err))
			}
		}
		nodes = left
		return len(nodes) == 0, errors.Join(errs...)
	})
	if err != nil {
		return Problem(ReasonReplica, "AWSCURRENT has not moved; see that replication runs, or take the replica out of the list, "+
			"and repeat the rotation", fmt.Errorf("%d read replica(s) do not accept AWSPENDING in time: %w", len(nodes), err))
	}
	return nil
}

// reach sees that the replicas are there before anything is changed: one that is
// down now would hold up the promotion.
func (s *step) reach(ctx context.Context, current *Value) error {
	replicated, nodes, err := s.replicas(ctx, current)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		// Refused is good enough: on a repetition it has the new password.
		if err := replicated.TestAt(ctx, current, n); err != nil && !errors.Is(err, ErrRefused) {
			errs = append(errs, fmt.Errorf("%s: %w", n, err))
		}
	}
	if len(errs) > 0 {
		return Problem(ReasonReplica, "nothing was changed by this step; bring it back, or take it out of the list, and repeat the rotation",
			fmt.Errorf("a read replica is not there: %w", errors.Join(errs...)))
	}
	return nil
}

func (s *step) replicas(ctx context.Context, v *Value) (Replicated, []Node, error) {
	replicated, ok := s.target.(Replicated)
	if !ok {
		return nil, nil, nil
	}
	nodes, err := replicated.Replicas(ctx, v)
	if err != nil {
		return nil, nil, Problem(ReasonReplica, "see that their names resolve, or take them out of the list, and repeat the rotation",
			fmt.Errorf("which read replicas there are: %w", err))
	}
	return replicated, nodes, nil
}

// wait is a time that is bounded by an option, and by that of the function.
type wait struct{ until time.Time }

func (s *step) newWait(ctx context.Context) wait {
	until := time.Now().Add(s.opts.ReplicaWait)
	if end, ok := ctx.Deadline(); ok && end.Add(-replicaMargin).Before(until) {
		until = end.Add(-replicaMargin)
	}
	return wait{until}
}

// repeat calls f until it reports that there is no point in going on, or there is
// no time for another call, and returns its last error.
func (w wait) repeat(ctx context.Context, f func() (bool, error)) error {
	for delay := replicaFirst; ; delay = min(2*delay, replicaMax) {
		done, err := f()
		if done {
			return err
		}
		if time.Now().Add(delay).After(w.until) {
			return err
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
