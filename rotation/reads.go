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
		s.see(out)
		if err := refuseForeign(out); err != nil {
			return false, err
		}
		// Absent is allowed: it is null until rotation is first configured.
		if out.RotationEnabled != nil && !*out.RotationEnabled && !s.manual {
			return false, Problem(ReasonDisabled, "enable it with rotate-secret, or stop calling the function; a rotation that was "+
				"cancelled half-way is completed by Handler.Rotate too; do not take AWSPENDING off a version that the target accepts",
				errors.New("rotation is not enabled for the secret"))
		}
		stages, known := out.VersionIdsToStages[s.event.ClientRequestToken]
		switch {
		case !known:
			refusal = Problem(ReasonNoVersion, "start the rotation with rotate-secret, which makes one, "+
				"and do not invent a ClientRequestToken", errors.New("the secret has no such version"))
			return false, nil
		case slices.Contains(stages, stageCurrent):
			done = true
			return true, nil
		case !slices.Contains(stages, stagePending):
			refusal = Problem(ReasonNotPending, "start a new one with rotate-secret", fmt.Errorf(
				"the version is not AWSPENDING (its labels: %q): the rotation it belongs to was given up", stages))
			return false, nil
		}
		return true, nil
	})
	if errors.Is(err, errUnsettled) {
		err = refusal
	}
	return done, err
}

// refuseForeign refuses secrets that are not ours to rotate.
func refuseForeign(out *secretsmanager.DescribeSecretOutput) error {
	if service := aws.ToString(out.OwningService); service != "" {
		return Problem(ReasonManaged, "use that service, and Keyturn in the applications alone",
			fmt.Errorf("the secret is managed by the service %q, which rotates it", service))
	}
	if out.DeletedDate != nil {
		return Problem(ReasonDeleted, "restore it, or take it off the rotation", errors.New("the secret is marked for deletion"))
	}
	return nil
}

// describe learns anew which versions have the labels.
func (s *step) describe(ctx context.Context) error {
	out, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(s.event.SecretID)}, useragent.Tag)
	if err == nil {
		s.see(out)
	}
	return err
}

func (s *step) see(out *secretsmanager.DescribeSecretOutput) {
	s.holder, s.pendingHolder, s.preparedHolder = "", "", ""
	for id, stages := range out.VersionIdsToStages {
		if slices.Contains(stages, stageCurrent) {
			s.holder = id
		}
		if slices.Contains(stages, stagePending) {
			s.pendingHolder = id
		}
		if slices.Contains(stages, stagePrepared) {
			s.preparedHolder = id
		}
	}
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
	if isCopy(current, pending) {
		return Problem(ReasonEdited, fmt.Sprintf("take that label off version %s (update-secret-version-stage) and start a new rotation",
			s.event.ClientRequestToken), errors.New("AWSPENDING is a copy of AWSCURRENT, left behind by rotate-secret with "+
			"RotateImmediately=false, and would change nothing"))
	}
	err := s.target.Check(current, pending)
	if err == nil {
		return nil
	}
	return Problem(ReasonEdited, fmt.Sprintf("put a version with the former user, host and other keys as AWSCURRENT, repeat "+
		"the rotation, and edit it then; or, if the target does not accept AWSPENDING yet, take that label off version %s "+
		"(update-secret-version-stage) and start a new rotation", s.event.ClientRequestToken),
		fmt.Errorf("AWSPENDING does not fit AWSCURRENT (version %s): %w; one of them was edited after the rotation began",
			current.VersionID(), err))
}

// isCopy reports whether nothing is to be rotated.
func isCopy(current, pending *Value) bool {
	return current.VersionID() != pending.VersionID() && current.Text() == pending.Text()
}

// current reads AWSCURRENT, until what GetSecretValue and DescribeSecret say is
// one version: a value from before the last change would be the wrong
// credential, and would lose what was edited since.
func (s *step) current(ctx context.Context) (*Value, error) {
	var v *Value
	var lastErr error
	err := s.settle(ctx, func() (bool, error) {
		var err error
		v, err = s.get(ctx, s.stageInput(stageCurrent))
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
		return nil, Problem(ReasonNoValue, "put a first value into the secret", fmt.Errorf("no version is AWSCURRENT: %w", lastErr))
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

func (s *step) stageInput(stage string) *secretsmanager.GetSecretValueInput {
	return &secretsmanager.GetSecretValueInput{SecretId: aws.String(s.event.SecretID), VersionStage: aws.String(stage)}
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
		return nil, Problem(ReasonNoValue, "repeat the rotation from its first step, createSecret",
			fmt.Errorf("AWSPENDING has no value: %w", notFound))
	}
	return v, err
}

func (s *step) get(ctx context.Context, in *secretsmanager.GetSecretValueInput) (*Value, error) {
	out, err := s.client.GetSecretValue(ctx, in, useragent.Tag)
	if err != nil {
		return nil, err
	}
	if out.SecretString == nil {
		return nil, Problem(ReasonBadValue, "store the credential as text (SecretString)",
			fmt.Errorf("version %s is binary", aws.ToString(out.VersionId)))
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
