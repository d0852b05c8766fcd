package rotation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/internal/useragent"
)

// stagePrepared is a label of our own, on a value that is stored and not yet
// AWSPENDING. There is one per secret, so what a broken call leaves is one label.
const stagePrepared = "KEYTURN_PREPARED"

// Rotate rotates the secret, without RotateSecret and without a function: it
// takes the four steps itself and returns the id of the version that is
// AWSCURRENT then. It is for programs that have a schedule of their own.
//
// A rotation that was cut off is completed, not replaced: if a version is
// AWSPENDING, this is what becomes current. So the answer to an error, an
// [*Error] always, is to call it again. Several calls at once, in several
// programs, complete the same rotation; a function that rotates the secret too
// does no harm, and whether rotation is enabled is of no account.
//
// It needs the permissions that the function needs.
func (h *Handler) Rotate(ctx context.Context, secretID string) (versionID string, err error) {
	for range 3 {
		versionID, err = h.rotate(ctx, secretID)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != ReasonNotPending && e.Reason != ReasonNoVersion {
			break
		}
		// The rotation that this call had joined was completed by others, and so
		// was another one since.
	}
	return versionID, err
}

func (h *Handler) rotate(ctx context.Context, secretID string) (versionID string, err error) {
	s := &step{Handler: h, event: Event{Step: stepCreate, SecretID: secretID}, manual: true}
	if err := s.begin(ctx); err != nil {
		return "", newError(s.event, err)
	}
	for _, name := range []string{stepCreate, stepSet, stepTest, stepFinish} {
		e := s.event
		e.Step = name
		if err := h.handle(ctx, &step{Handler: h, event: e, manual: true}); err != nil {
			return "", err
		}
	}
	s.end(ctx)
	return s.event.ClientRequestToken, nil
}

// begin finds the version that is AWSPENDING, or makes one.
//
// PutSecretValue would move AWSPENDING off another version without a question:
// off that of somebody who began a moment before and has changed the password
// by now, which would be lost with it. UpdateSecretVersionStage moves a label
// only from where it is told it is. So the value is stored first, under a label
// of ours, and then made AWSPENDING; whoever comes second finds out, and joins.
func (s *step) begin(ctx context.Context) error {
	if s.event.SecretID == "" {
		return Problem(ReasonBadEvent, "name one", errors.New("no secret is named"))
	}
	out, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: aws.String(s.event.SecretID)}, useragent.Tag)
	if err != nil {
		return err
	}
	if err := refuseForeign(out); err != nil {
		return err
	}
	s.see(out)
	if s.join() {
		return nil
	}
	for range 3 {
		if err = s.prepare(ctx); !errors.Is(err, errReplaced) {
			return err
		}
	}
	return err
}

// errReplaced says that a value was made from one that is not AWSCURRENT any more:
// somebody else has rotated from beginning to end meanwhile.
var errReplaced = errors.New("AWSCURRENT was replaced while its successor was made; nothing was changed, call again")

// prepare stores a value and makes it AWSPENDING, or joins who was faster.
func (s *step) prepare(ctx context.Context) error {
	current, err := s.current(ctx)
	if err != nil {
		return err
	}
	mine := newToken()
	s.event.ClientRequestToken = mine
	next, err := s.put(ctx, current, stagePrepared)
	if err != nil {
		return err
	}
	joined := false
	err = s.settle(ctx, func() (bool, error) {
		if err := s.describe(ctx); err != nil {
			return false, err
		}
		if joined = s.join(); joined {
			return true, nil
		}
		if s.holder != current.VersionID() {
			return false, errReplaced
		}
		err := s.moveLabel(ctx, stagePending, s.pendingHolder, mine)
		_, elsewhere := errors.AsType[*types.InvalidParameterException](err)
		if elsewhere {
			return false, nil
		}
		return err == nil, err
	})
	if errors.Is(err, errUnsettled) {
		err = fmt.Errorf("AWSPENDING is on version %q and does not move; call again", s.pendingHolder)
	}
	if err == nil && !joined {
		err = s.confirm(ctx, current, next)
	}
	s.preparedHolder = mine
	return err
}

// confirm sees that AWSCURRENT was not replaced in the last moment, before
// AWSPENDING moved. If what is AWSPENDING now cannot follow then, nobody has set
// it, or will: the check comes before.
func (s *step) confirm(ctx context.Context, current, next *Value) error {
	if err := s.describe(ctx); err != nil {
		return err
	}
	if s.holder == current.VersionID() || s.holder == s.event.ClientRequestToken {
		return nil
	}
	now, err := s.current(ctx)
	if err != nil || now.VersionID() == s.event.ClientRequestToken || s.target.Check(now, next) == nil {
		return err
	}
	if err := s.moveLabel(ctx, stagePending, s.event.ClientRequestToken, ""); err != nil {
		return err
	}
	return errReplaced
}

// join makes the rotation that is under way, if there is one, that of this call.
func (s *step) join() bool {
	if s.pendingHolder == "" || s.pendingHolder == s.holder {
		return false
	}
	s.event.ClientRequestToken = s.pendingHolder
	return true
}

// end takes AWSPENDING off, as the service does after a rotation of its own, and
// our own label. Where one stays it means nothing, and the next call takes it off.
func (s *step) end(ctx context.Context) {
	for _, l := range []struct{ label, holder string }{{stagePending, s.event.ClientRequestToken}, {stagePrepared, s.preparedHolder}} {
		if l.holder == "" {
			continue
		}
		if err := s.moveLabel(ctx, l.label, l.holder, ""); err != nil {
			s.opts.Logger.LogAttrs(ctx, slog.LevelDebug, "a label is left behind by a rotation",
				slog.String("secret_id", s.event.SecretID),
				slog.String("version_id", l.holder),
				slog.String("label", l.label),
				slog.Any("error", err))
		}
	}
}

// moveLabel moves a label from one version to another; "" is none.
func (s *step) moveLabel(ctx context.Context, label, from, to string) error {
	in := &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String(s.event.SecretID), VersionStage: aws.String(label),
	}
	if from != "" {
		in.RemoveFromVersionId = aws.String(from)
	}
	if to != "" {
		in.MoveToVersionId = aws.String(to)
	}
	_, err := s.client.UpdateSecretVersionStage(ctx, in, useragent.Tag)
	return err
}

// newToken returns a UUID: what the service recommends, and within its limits.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
