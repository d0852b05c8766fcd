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

	event Event

	// holder is the version that has AWSCURRENT, as the last DescribeSecret said.
	holder string
}

// run returns what was done, for the log.
func (s *step) run(ctx context.Context) (result string, err error) {
	steps := map[string]func(context.Context) (string, error){
		stepCreate: s.create, stepSet: s.set, stepTest: s.test, stepFinish: s.finish,
	}
	step := steps[s.event.Step]
	switch {
	case step == nil:
		return "", fmt.Errorf("unknown step: this function knows %s, %s, %s and %s", stepCreate, stepSet, stepTest, stepFinish)
	case s.event.SecretID == "" || s.event.ClientRequestToken == "":
		return "", errors.New("the event names no SecretId or no ClientRequestToken: let Secrets Manager call the function")
	}
	done, err := s.admit(ctx)
	if err != nil {
		return "", err
	}
	if done {
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
	if err := s.put(ctx, current); err != nil {
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
func (s *step) put(ctx context.Context, current *Value) error {
	random, err := s.client.GetRandomPassword(ctx, &secretsmanager.GetRandomPasswordInput{
		PasswordLength:          aws.Int64(int64(s.opts.PasswordLength)),
		ExcludeCharacters:       aws.String(s.opts.ExcludeCharacters),
		ExcludePunctuation:      aws.Bool(s.opts.ExcludePunctuation),
		RequireEachIncludedType: aws.Bool(true),
	}, useragent.Tag)
	if err != nil {
		return err
	}
	if aws.ToString(random.RandomPassword) == "" {
		return errors.New("GetRandomPassword gave an empty password")
	}
	next, err := s.target.Next(current, NewValue(*random.RandomPassword))
	if err != nil {
		return fmt.Errorf("AWSCURRENT (version %s) yields no next value: %w; put a version that is right and rotate again",
			current.VersionID(), err)
	}
	in := &secretsmanager.PutSecretValueInput{
		SecretId:           aws.String(s.event.SecretID),
		ClientRequestToken: aws.String(s.event.ClientRequestToken),
		SecretString:       aws.String(next.Text()),
		VersionStages:      []string{stagePending},
	}
	if s.event.RotationToken != "" {
		in.RotationToken = aws.String(s.event.RotationToken)
	}
	_, err = s.client.PutSecretValue(ctx, in, useragent.Tag)
	return err
}

// set makes the target accept AWSPENDING.
func (s *step) set(ctx context.Context) (string, error) {
	current, pending, err := s.both(ctx)
	if err != nil || current == pending {
		return alreadyCurrent, err
	}
	switch err := s.target.Test(ctx, pending); {
	case err == nil:
		return "set already", nil
	case !errors.Is(err, ErrRefused):
		return "", fmt.Errorf("logging in with AWSPENDING, to see whether it is set already: %w; "+
			"that is no verdict on the password, nothing was changed, repeat the rotation when the target answers", err)
	}

	err = s.setAs(ctx, Change{Current: current, Pending: pending, As: current})
	if err == nil {
		return "set", nil
	}
	if !errors.Is(err, ErrRefused) {
		return "", fmt.Errorf("acting as AWSCURRENT (version %s): %w; repeat the rotation", current.VersionID(), err)
	}
	return "set, AWSCURRENT being refused", s.rescue(ctx, pending, fmt.Errorf("AWSCURRENT (version %s): %w", current.VersionID(), err))
}

// setAs changes the credential, or finds that it is changed. Losing the
// connection at the commit says nothing; a login does.
func (s *step) setAs(ctx context.Context, c Change) error {
	err := s.target.Set(ctx, c)
	if err != nil && !errors.Is(err, ErrRefused) && s.target.Test(ctx, c.Pending) == nil {
		return nil
	}
	return err
}

// test logs in with AWSPENDING.
func (s *step) test(ctx context.Context) (string, error) {
	current, pending, err := s.both(ctx)
	if err != nil || current == pending {
		return alreadyCurrent, err
	}
	switch err := s.target.Test(ctx, pending); {
	case err == nil:
		return "tested", nil
	case errors.Is(err, ErrRefused):
		return "", fmt.Errorf("the target refuses AWSPENDING: %w; setSecret has not run, or the password was changed since: "+
			"repeat the rotation from its first step", err)
	default:
		return "", fmt.Errorf("logging in with AWSPENDING: %w; that is no verdict on the password, "+
			"repeat the rotation when the target answers", err)
	}
}

// finish moves AWSCURRENT. It does not log in once more: testSecret just has,
// and until the label has moved the target refuses AWSCURRENT. It does not take
// AWSPENDING off either, the service does that when the rotation is over.
func (s *step) finish(ctx context.Context) (string, error) {
	result := "promoted"
	var refusal error
	err := s.settle(ctx, func() (bool, error) {
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
	return result, err
}
