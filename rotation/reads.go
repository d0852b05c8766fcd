package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/internal/redact"
	"github.com/keyturn/keyturn/internal/useragent"
)

// admit decides whether this call belongs to a rotation that is under way, in
// the order of AWS's own functions. It reports whether all is done already.
func (s *step) admit(ctx context.Context) (done bool, err error) {
	var refusal error
	err = s.settle(ctx, func() (bool, error) {
		out, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(s.event.SecretID)}, useragent.Tag)
		if err != nil {
			return false, err
		}
		s.holder = holderOf(out)
		if service := aws.ToString(out.OwningService); service != "" {
			return false, fmt.Errorf("the secret is managed by the service %q, which rotates it: use that service", service)
		}
		if out.DeletedDate != nil {
			return false, errors.New("the secret is marked for deletion: restore it, or take it off the rotation")
		}
		// Absent is allowed: it is null until rotation is first configured.
		if out.RotationEnabled != nil && !*out.RotationEnabled {
			return false, errors.New("rotation is not enabled for the secret: enable it (rotate-secret), or stop calling the function")
		}
		stages, known := out.VersionIdsToStages[s.event.ClientRequestToken]
		switch {
		case !known:
			refusal = errors.New("the secret has no such version: start the rotation with rotate-secret, which makes one, " +
				"and do not invent a ClientRequestToken")
			return false, nil
		case slices.Contains(stages, stageCurrent):
			done = true
			return true, nil
		case !slices.Contains(stages, stagePending):
			refusal = fmt.Errorf("the version is not AWSPENDING (its labels: %q): the rotation it belongs to was given up; "+
				"start a new one with rotate-secret", stages)
			return false, nil
		}
		return true, nil
	})
	if errors.Is(err, errUnsettled) {
		err = refusal
	}
	return done, err
}

// describe learns anew which version has AWSCURRENT.
func (s *step) describe(ctx context.Context) error {
	out, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(s.event.SecretID)}, useragent.Tag)
	if err == nil {
		s.holder = holderOf(out)
	}
	return err
}

func holderOf(out *secretsmanager.DescribeSecretOutput) string {
	for id, stages := range out.VersionIdsToStages {
		if slices.Contains(stages, stageCurrent) {
			return id
		}
	}
	return ""
}

// both returns AWSCURRENT and AWSPENDING, checked against each other. They are
// the same if the rotation has ended in the meantime.
func (s *step) both(ctx context.Context) (current, pending *Value, err error) {
	pending, err = s.pending(ctx)
	if err != nil {
		return nil, nil, err
	}
	current, err = s.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	if current.VersionID() == pending.VersionID() {
		return pending, pending, nil
	}
	return current, pending, s.check(current, pending)
}

// check keeps a rotation from going on after somebody has edited the secret.
func (s *step) check(current, pending *Value) error {
	err := s.target.Check(current, pending)
	if err == nil {
		return nil
	}
	return fmt.Errorf("AWSPENDING does not fit AWSCURRENT (version %s): %w; one of them was edited after the rotation began: "+
		"put a version with the former user and host as AWSCURRENT and repeat the rotation, or, if the target does not "+
		"accept AWSPENDING yet, take that label off version %s (update-secret-version-stage) and start a new rotation",
		current.VersionID(), err, s.event.ClientRequestToken)
}

// current reads AWSCURRENT, until what GetSecretValue and DescribeSecret say is
// one version: a value from before the last change would be the wrong
// credential, and would lose what was edited since.
func (s *step) current(ctx context.Context) (*Value, error) {
	in := &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(s.event.SecretID), VersionStage: aws.String(stageCurrent),
	}
	var v *Value
	var lastErr error
	err := s.settle(ctx, func() (bool, error) {
		var err error
		v, err = s.get(ctx, in)
		if err != nil {
			lastErr = err
			if isNotFound(err) {
				return false, nil
			}
			return false, err
		}
		if v.VersionID() == s.holder {
			return true, nil
		}
		lastErr = fmt.Errorf("GetSecretValue says version %s, DescribeSecret says %q; repeat the rotation", v.VersionID(), s.holder)
		return false, s.describe(ctx)
	})
	switch {
	case !errors.Is(err, errUnsettled):
		return v, err
	case isNotFound(lastErr):
		return nil, fmt.Errorf("no version is AWSCURRENT: put a first value into the secret: %w", lastErr)
	default:
		return nil, fmt.Errorf("which version is AWSCURRENT does not settle: %w", lastErr)
	}
}

// pendingInput asks for the version alone, not for the label as well: the value
// of a version never changes, while the label may have gone on.
func (s *step) pendingInput() *secretsmanager.GetSecretValueInput {
	return &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(s.event.SecretID), VersionId: aws.String(s.event.ClientRequestToken),
	}
}

// pending reads the value that createSecret has stored, which may take a moment
// to appear.
func (s *step) pending(ctx context.Context) (*Value, error) {
	var v *Value
	var notFound error
	err := s.settle(ctx, func() (bool, error) {
		var err error
		v, err = s.get(ctx, s.pendingInput())
		if isNotFound(err) {
			notFound = err
			return false, nil
		}
		return err == nil, err
	})
	if errors.Is(err, errUnsettled) {
		return nil, fmt.Errorf("AWSPENDING has no value: repeat the rotation from its first step, createSecret: %w", notFound)
	}
	return v, err
}

func (s *step) get(ctx context.Context, in *secretsmanager.GetSecretValueInput) (*Value, error) {
	out, err := s.client.GetSecretValue(ctx, in, useragent.Tag)
	if err != nil {
		return nil, err
	}
	if out.SecretString == nil {
		return nil, fmt.Errorf("version %s is binary: store the credential as text (SecretString)", aws.ToString(out.VersionId))
	}
	return &Value{versionID: aws.ToString(out.VersionId), text: redact.Hide(*out.SecretString)}, nil
}

func isNotFound(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}

const (
	settleFirst = 50 * time.Millisecond
	settleMax   = time.Second
)

var errUnsettled = errors.New("not settled")

// settle calls f until it reports true or fails. After Options.SettleTime it
// gives up, with errUnsettled.
func (s *step) settle(ctx context.Context, f func() (bool, error)) error {
	start := time.Now()
	for delay := settleFirst; ; delay = min(2*delay, settleMax) {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		if time.Since(start)+delay > s.opts.SettleTime {
			return errUnsettled
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
