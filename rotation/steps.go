package rotation

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/internal/useragent"
)

// step is one call of the function. It lives as long as the call.
type step struct {
	*Handler

	event  Event
	manual bool // called by Rotate, not by the service

	// The versions that have AWSCURRENT, AWSPENDING and stagePrepared, as the last
	// DescribeSecret said; "" if there is none.
	holder, pendingHolder, preparedHolder string
}

// run returns what was done, for the log.
func (s *step) run(ctx context.Context) (result string, err error) {
	steps := map[string]func(context.Context) (string, error){
		stepCreate: s.create, stepSet: s.set, stepTest: s.test, stepFinish: s.finish,
	}
	step := steps[s.event.Step]
	switch {
	case step == nil:
		return "", Problem(ReasonBadEvent, "have Secrets Manager call the function, not something else",
			fmt.Errorf("unknown step: this function knows %s, %s, %s and %s", stepCreate, stepSet, stepTest, stepFinish))
	case s.event.SecretID == "" || s.event.ClientRequestToken == "":
		return "", Problem(ReasonBadEvent, "let Secrets Manager call the function",
			errors.New("the event names no SecretId or no ClientRequestToken"))
	}
	done, err := s.admit(ctx)
	if err != nil {
		return "", err
	}
	if done {
		if s.event.Step == stepFinish {
			return alreadyCurrent, s.finishAgain(ctx)
		}
		return alreadyCurrent, nil
	}
	return step(ctx)
}

const alreadyCurrent = "the version is AWSCURRENT already"

// create stores the next value as AWSPENDING, unless there is one. What it must
// never do is to store a second one for the same token: the first may be live.
func (s *step) create(ctx context.Context) (string, error) {
	current, err := s.current(ctx)
	if err != nil {
		return "", err
	}
	if current.VersionID() == s.event.ClientRequestToken {
		return alreadyCurrent, nil
	}

	// Not found may be the answer of a replica that lags behind. It is not
	// worth waiting for better: the service refuses to store another value.
	pending, err := s.get(ctx, s.pendingInput())
	if err == nil {
		return "stored already", s.check(current, pending)
	}
	if !isNotFound(err) {
		return "", err
	}

	result := "stored"
	if _, err := s.put(ctx, current, stagePending); err != nil {
		if _, ok := errors.AsType[*types.ResourceExistsException](err); !ok {
			return "", err
		}
		// Somebody else called with the same token was faster, or we were, and
		// the read above did not know.
		result = "stored already"
	}
	pending, err = s.pending(ctx)
	if err != nil {
		return "", err
	}
	return result, s.check(current, pending)
}

// put makes a value and stores it.
func (s *step) put(ctx context.Context, current *Value, stage string) (next *Value, err error) {
	next, err = s.next(ctx, current)
	if err != nil {
		return nil, err
	}
	in := &secretsmanager.PutSecretValueInput{
		SecretId:           aws.String(s.event.SecretID),
		ClientRequestToken: aws.String(s.event.ClientRequestToken),
		SecretString:       aws.String(next.Text()),
		VersionStages:      []string{stage},
	}
	if s.event.RotationToken != "" {
		in.RotationToken = aws.String(s.event.RotationToken)
	}
	_, err = s.client.PutSecretValue(ctx, in, useragent.Tag)
	return next, err
}

// next makes the value that is to follow.
func (s *step) next(ctx context.Context, current *Value) (next *Value, err error) {
	if issuer, ok := s.target.(Issuer); ok {
		next, err = issuer.Issue(ctx, current, s.event.ClientRequestToken)
		if err != nil {
			return nil, fmt.Errorf("having the target issue a credential: %w", err)
		}
		return next, nil
	}
	o := s.opts.Password
	random, err := s.client.GetRandomPassword(ctx, &secretsmanager.GetRandomPasswordInput{
		PasswordLength:          aws.Int64(int64(o.Length)),
		ExcludeCharacters:       aws.String(o.ExcludeCharacters),
		ExcludeNumbers:          aws.Bool(o.ExcludeNumbers),
		ExcludePunctuation:      aws.Bool(o.ExcludePunctuation),
		ExcludeUppercase:        aws.Bool(o.ExcludeUppercase),
		ExcludeLowercase:        aws.Bool(o.ExcludeLowercase),
		RequireEachIncludedType: aws.Bool(!o.AnyIncludedType),
	}, useragent.Tag)
	if err != nil {
		return nil, err
	}
	if aws.ToString(random.RandomPassword) == "" {
		return nil, errors.New("GetRandomPassword gave an empty password")
	}
	next, err = s.target.Next(current, NewValue(*random.RandomPassword))
	if err != nil {
		return nil, Problem(ReasonBadValue, "put a version that is right and rotate again",
			fmt.Errorf("AWSCURRENT (version %s) yields no next value: %w", current.VersionID(), err))
	}
	return next, nil
}

// test logs in with AWSPENDING, wherever applications will.
func (s *step) test(ctx context.Context) (string, error) {
	pending, err := s.pending(ctx)
	if err != nil {
		return "", err
	}
	current, err := s.current(ctx)
	if err != nil {
		return "", err
	}
	switch {
	case current.VersionID() == pending.VersionID():
		return alreadyCurrent, nil
	case isCopy(current, pending):
		// RotateSecret with RotateImmediately=false: nothing is rotated, the
		// function is to show that it could.
		return "tested a copy of AWSCURRENT", s.rehearse(ctx, pending)
	}
	if err := s.check(current, pending); err != nil {
		return "", err
	}
	return "tested", s.prove(ctx, current, pending)
}

// finish moves AWSCURRENT, after the same proof as in testSecret: a step called
// out of turn must not promote what nobody can use. It does not take AWSPENDING
// off, the service does that when the rotation is over.
func (s *step) finish(ctx context.Context) (string, error) {
	current, pending, err := s.both(ctx)
	if err != nil {
		return "", err
	}
	if current == pending {
		return alreadyCurrent, s.finishAgain(ctx)
	}
	if err := s.prove(ctx, current, pending); err != nil {
		return "", err
	}
	result, old, err := s.promote(ctx)
	if err != nil {
		return "", err
	}
	return result, s.cleanUp(ctx, old, pending)
}

// promote returns what was AWSCURRENT before, nil if somebody else moved it.
func (s *step) promote(ctx context.Context) (result string, old *Value, err error) {
	var refusal error
	err = s.settle(ctx, func() (bool, error) {
		// Reading both keeps a version without a value from becoming current,
		// which would be an outage for all readers, and an edit from being undone.
		current, pending, err := s.both(ctx)
		if err != nil {
			return false, err
		}
		if current == pending {
			result = alreadyCurrent
			return true, nil
		}
		_, err = s.client.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{
			SecretId:            aws.String(s.event.SecretID),
			VersionStage:        aws.String(stageCurrent),
			MoveToVersionId:     aws.String(s.event.ClientRequestToken),
			RemoveFromVersionId: aws.String(current.VersionID()),
		}, useragent.Tag)
		if _, ok := errors.AsType[*types.InvalidParameterException](err); !ok {
			result, old = "promoted", current
			return err == nil, err
		}
		// The label is not where we saw it: another delivery moved it, or an
		// earlier attempt of ours whose answer was lost, or what we saw was old.
		refusal = err
		return false, s.describe(ctx)
	})
	if errors.Is(err, errUnsettled) {
		err = fmt.Errorf("AWSCURRENT is on version %s and does not move: %w; repeat the rotation", s.holder, refusal)
	}
	return result, old, err
}

// finishAgain is finishSecret after the promotion.
func (s *step) finishAgain(ctx context.Context) error {
	if _, ok := s.target.(Finisher); !ok {
		return nil
	}
	pending, err := s.pending(ctx)
	if err != nil {
		return err
	}
	return s.cleanUp(ctx, nil, pending)
}

// cleanUp has the target remove what is left of the old credential. current is
// AWSCURRENT by now. Nothing of it can be undone, nor need be: applications have
// the new one.
func (s *step) cleanUp(ctx context.Context, old, current *Value) error {
	finisher, ok := s.target.(Finisher)
	if !ok {
		return nil
	}
	// A late repetition: what it would remove may be the next rotation's.
	if err := s.describe(ctx); err != nil {
		return notFinished(err)
	}
	if p := s.pendingHolder; p != "" && p != s.event.ClientRequestToken {
		return nil
	}
	if old == nil {
		var err error
		old, err = s.get(ctx, s.stageInput(stagePrevious))
		if err != nil && !isNotFound(err) {
			return notFinished(err)
		}
	}
	how, err := s.strategy(current)
	if err == nil {
		err = s.as(ctx, how, current, func(as *Value) error {
			return finisher.Finish(ctx, Change{Current: old, Pending: current, As: as})
		})
	}
	if err != nil {
		return notFinished(err)
	}
	return nil
}

func notFinished(err error) error {
	return Problem(ReasonNotFinished, "AWSCURRENT has moved and is good, repeat finishSecret or wait for the next rotation",
		fmt.Errorf("removing the old credential: %w", err))
}
