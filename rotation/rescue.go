package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

// rescue sets AWSPENDING where AWSCURRENT is refused, for whatever version the
// target accepts. Without it nobody could change the password any more. Most
// often it finds that AWSPENDING is set, by an earlier call of this step. refused
// says why nothing helps; err ends the step.
func (s *step) rescue(ctx context.Context, a *actor, currentRefused error) (result string, refused, err error) {
	why := []error{currentRefused}
	for _, attempt := range []struct {
		result string
		try    func(context.Context, *actor) (refused, err error)
	}{
		{"set already", s.setAlready},
		{"set for an older version, AWSCURRENT being refused", s.setForPrevious},
		{"set for an older version, AWSCURRENT being refused", s.setForUnlabelled},
		{"set meanwhile", s.setAlready}, // by another delivery of this step, at work all the while
	} {
		refused, err := attempt.try(ctx, a)
		if err != nil || refused == nil {
			return attempt.result, nil, err
		}
		why = append(why, refused)
	}
	return "", errors.Join(why...), nil
}

func (s *step) setAlready(ctx context.Context, a *actor) (refused, err error) {
	err = s.target.Test(ctx, a.pending)
	if errors.Is(err, ErrRefused) {
		return fmt.Errorf("AWSPENDING: %w", err), nil
	}
	if err != nil {
		return nil, noVerdict(fmt.Errorf("logging in with AWSPENDING, to see whether it is set already: %w", err))
	}
	return nil, nil
}

// setForPrevious is for a target where AWSCURRENT has never arrived.
func (s *step) setForPrevious(ctx context.Context, a *actor) (refused, err error) {
	previous, err := s.get(ctx, s.stageInput(stagePrevious))
	if isNotFound(err) {
		return errors.New("AWSPREVIOUS: there is none"), nil
	}
	if err != nil {
		return nil, err
	}
	return s.setForOlder(ctx, a, "AWSPREVIOUS", previous)
}

// versionLister is asked of the client only when all else has failed: a client
// without it, or without the permission, is good for every other rotation.
type versionLister interface {
	ListSecretVersionIds(ctx context.Context, in *secretsmanager.ListSecretVersionIdsInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.ListSecretVersionIdsOutput, error)
}

// maxUnlabelled bounds the failed logins, for which some servers lock a user.
const maxUnlabelled = 3

// setForUnlabelled is for a rotation that was cut off after setSecret and then
// given up, by taking AWSPENDING off its version: the password that works is in
// that version, which has no label any more.
func (s *step) setForUnlabelled(ctx context.Context, a *actor) (refused, err error) {
	lister, ok := s.client.(versionLister)
	if !ok {
		return errors.New("unlabelled versions, not tried: the client has no ListSecretVersionIds"), nil
	}
	var versions []types.SecretVersionsListEntry
	pages := secretsmanager.NewListSecretVersionIdsPaginator(lister, &secretsmanager.ListSecretVersionIdsInput{
		SecretId: aws.String(s.event.SecretID), IncludeDeprecated: aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("unlabelled versions, not tried: %w", err), nil
		}
		versions = append(versions, page.Versions...)
	}
	versions = slices.DeleteFunc(versions, func(v types.SecretVersionsListEntry) bool { return len(v.VersionStages) > 0 })
	slices.SortFunc(versions, func(a, b types.SecretVersionsListEntry) int { // newest first
		return aws.ToTime(b.CreatedDate).Compare(aws.ToTime(a.CreatedDate))
	})
	why := []error{fmt.Errorf("unlabelled versions: %d, of which at most %d are tried", len(versions), maxUnlabelled)}
	for _, v := range versions[:min(len(versions), maxUnlabelled)] {
		value, err := s.get(ctx, &secretsmanager.GetSecretValueInput{
			SecretId: aws.String(s.event.SecretID), VersionId: v.VersionId,
		})
		if isNotFound(err) { // it never had a value
			continue
		}
		if err != nil {
			return nil, err
		}
		refused, err := s.setForOlder(ctx, a, "unlabelled", value)
		if err != nil || refused == nil {
			return nil, err
		}
		why = append(why, refused)
	}
	return errors.Join(why...), nil
}

// setForOlder acts for a version that was current once. refused says why it does
// not help; err ends the step.
func (s *step) setForOlder(ctx context.Context, a *actor, what string, older *Value) (refused, err error) {
	// It is not asked for a login before it is known to be the same user's.
	if err := s.target.Check(older, a.pending); err != nil {
		return fmt.Errorf("%s (version %s), not tried: %w", what, older.VersionID(), err), nil
	}
	refused, err = a.set(ctx, older)
	switch {
	case refused != nil:
		return fmt.Errorf("%s (version %s): %w", what, older.VersionID(), refused), nil
	case err != nil:
		return nil, fmt.Errorf("acting for %s (version %s), AWSCURRENT being refused: %w", what, older.VersionID(), err)
	}
	s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "AWSCURRENT is refused, the new password was set for an older version",
		slog.String("secret_id", s.event.SecretID),
		slog.String("version_id", s.event.ClientRequestToken),
		slog.String("older_version_id", older.VersionID()),
		slog.String("older", what))
	return nil, nil
}
