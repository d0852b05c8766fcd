package rotation

import (
	"context"
	"errors"
	"fmt"
)

// set makes the target accept AWSPENDING.
func (s *step) set(ctx context.Context) (string, error) {
	current, pending, err := s.both(ctx)
	if err != nil || current == pending {
		return alreadyCurrent, err
	}
	how, err := s.strategy(current)
	if err != nil {
		return "", err
	}
	if err := s.reach(ctx, current); err != nil {
		return "", err
	}
	a := &actor{s, how, pending}
	refused, err := a.set(ctx, current)
	switch {
	case err != nil:
		return "", fmt.Errorf("acting for AWSCURRENT (version %s): %w", current.VersionID(), err)
	case refused == nil:
		return "set", nil
	}
	refused = fmt.Errorf("AWSCURRENT (version %s): %w", current.VersionID(), refused)
	if how.Alternating {
		// No older version is a way out: AWSPREVIOUS is the partner's. And that
		// AWSPENDING may log in says nothing about the user of AWSCURRENT.
		return s.lockedOut(ctx, current, "nothing was changed; put the password that the user has into AWSCURRENT, "+
			"or give the user the password of AWSCURRENT, and repeat the rotation", refused)
	}
	result, refused, err := s.rescue(ctx, a, refused)
	if err != nil || refused == nil {
		return result, err
	}
	return s.lockedOut(ctx, current, "give the user the password of AWSCURRENT by hand, and let the rotation be repeated",
		fmt.Errorf("no version of the secret logs in, so nobody is there to set the password: %w", refused))
}

// lockedOut is what set returns if nobody may log in, unless AWSCURRENT has moved
// since it was read: then other calls have completed this rotation and may have
// set the next one's password, and that this step's are refused is as it should be.
func (s *step) lockedOut(ctx context.Context, current *Value, remedy string, refused error) (string, error) {
	if err := s.describe(ctx); err != nil {
		return "", Problem(ReasonLockedOut, remedy, fmt.Errorf("%w; whether AWSCURRENT has moved meanwhile is not known: %w", refused, err))
	}
	switch s.holder {
	case s.event.ClientRequestToken:
		return alreadyCurrent, nil
	case current.VersionID():
		return "", Problem(ReasonLockedOut, remedy, refused)
	}
	return "", Problem(ReasonNotPending, "let that rotation end, or start a new one with rotate-secret",
		fmt.Errorf("AWSCURRENT has moved from version %s to version %s while this step was at work: %w", current.VersionID(), s.holder, refused))
}

func (s *step) strategy(current *Value) (Strategy, error) {
	strategist, ok := s.target.(Strategist)
	if !ok {
		return Strategy{}, nil
	}
	how, err := strategist.Strategy(current)
	if err != nil {
		return Strategy{}, fmt.Errorf("AWSCURRENT (version %s) does not say how it is rotated: %w", current.VersionID(), err)
	}
	return how, nil
}

// actor sets AWSPENDING for the user of some version.
type actor struct {
	*step

	how     Strategy
	pending *Value
}

// set acts for the user of v, itself or by the superuser, after v has logged in.
// refused is the target's refusal of v; err ends the step.
func (a *actor) set(ctx context.Context, v *Value) (refused, err error) {
	if a.how.Superuser == "" {
		err = a.setAs(ctx, Change{Current: v, Pending: a.pending, As: v})
	} else {
		err = a.target.Test(ctx, v)
	}
	switch {
	case errors.Is(err, ErrRefused):
		return err, nil
	case err != nil:
		return nil, noVerdict(err)
	case a.how.Superuser != "":
		return nil, noVerdict(a.as(ctx, a.how, nil, func(super *Value) error {
			return a.setAs(ctx, Change{Current: v, Pending: a.pending, As: super})
		}))
	}
	return nil, nil
}

// as calls f with the value whose user acts: own, or the superuser's. Of that
// secret it tries the versions that a client tries: it may itself be in the
// midst of a rotation.
func (s *step) as(ctx context.Context, how Strategy, own *Value, f func(*Value) error) error {
	if how.Superuser == "" {
		return f(own)
	}
	var refusals []error
	tried := map[string]bool{}
	for _, stage := range []string{stageCurrent, stagePending, stageCurrent} {
		super, err := s.superuser(ctx, how.Superuser, stage)
		switch {
		case err != nil && stage == stagePending: // there may be none, and what AWSCURRENT met says more
			continue
		case err != nil:
			return err
		case tried[super.VersionID()]:
			continue
		}
		tried[super.VersionID()] = true
		err = f(super)
		if !errors.Is(err, ErrRefused) {
			return err
		}
		refusals = append(refusals, fmt.Errorf("%s (version %s): %w", stage, super.VersionID(), err))
	}
	return Problem(ReasonSuperuser, "nothing was changed; put the superuser's password into that secret and repeat the rotation",
		fmt.Errorf("the superuser (secret %s) does not log in: %w", how.Superuser, errors.Join(refusals...)))
}

// setAs changes the credential, or finds that it is changed. Losing the
// connection at the commit says nothing; a login does. It says so only if there
// is nothing besides the password, or the target can compare it.
func (a *actor) setAs(ctx context.Context, c Change) error {
	err := a.target.Set(ctx, c)
	if err == nil || errors.Is(err, ErrRefused) || isProblem(err) {
		return err
	}
	if a.target.Test(ctx, c.Pending) != nil {
		return err
	}
	if verifier, ok := a.target.(Verifier); ok {
		if verifier.Verify(ctx, c) != nil {
			return err
		}
	} else if a.how.Alternating {
		return err
	}
	return nil
}

// superuser reads a version of the superuser's secret.
func (s *step) superuser(ctx context.Context, id, stage string) (*Value, error) {
	in := s.stageInput(stage)
	in.SecretId = &id
	v, err := s.get(ctx, in)
	if err != nil {
		return nil, Problem(ReasonSuperuser, "give the function's role secretsmanager:GetSecretValue on it, "+
			"and kms:Decrypt on its key, and see that its name is right",
			fmt.Errorf("the superuser's secret %s cannot be read: %w", id, err))
	}
	return v, nil
}

// noVerdict is for errors of a target that are no refusal. What says itself what
// to do it leaves alone.
func noVerdict(err error) error {
	if err == nil || isProblem(err) {
		return err
	}
	return Problem(ReasonUnreachable, "that is no verdict on the password, repeat the rotation when the target answers", err)
}
