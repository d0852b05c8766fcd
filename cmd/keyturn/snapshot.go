package main

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/redact"
)

const (
	stageCurrent  = cache.Current
	stagePending  = cache.Pending
	stagePrevious = cache.Previous
)

// stages are the labels that count, in the order in which versions are tried.
var stages = []string{stageCurrent, stagePending, stagePrevious}

// A snapshot is what Secrets Manager says about the secret. The checks are functions
// of it.
type snapshot struct {
	secret, region string

	described *secretsmanager.DescribeSecretOutput // nil: see failures
	labelled  map[string]*secretVersion            // by label
	other     []*secretVersion                     // with none of these labels, the newest first

	failures []failedCall
}

type failedCall struct {
	operation string // with the label that was asked for
	failure
}

type mark = redact.Mark

// A secretVersion is one version of the secret.
type secretVersion struct {
	mark

	id      string
	created time.Time // zero: not known
	text    func() string
	read    readState
}

// readState is what became of reading a value.
type readState int

const (
	notRead readState = iota
	wasRead
	isEmpty // the version has no value
	failed  // see snapshot.failures
)

// key names the secret's KMS key; "" if it is not known.
func (s *snapshot) key() string {
	switch {
	case s.described == nil:
		return ""
	case aws.ToString(s.described.KmsKeyId) == "":
		return "aws/secretsmanager"
	default:
		return *s.described.KmsKeyId
	}
}

// primaryRegion is where the secret's labels can be moved.
func (s *snapshot) primaryRegion() string {
	if s.described != nil && aws.ToString(s.described.PrimaryRegion) != "" {
		return *s.described.PrimaryRegion
	}
	return s.region
}

func (s *snapshot) deleted() bool { return s.described != nil && s.described.DeletedDate != nil }

// managedBy names the service that owns the secret, if one does.
func (s *snapshot) managedBy() string {
	if s.described == nil {
		return ""
	}
	return aws.ToString(s.described.OwningService)
}

// pending returns the version of a rotation that is not over: AWSPENDING, if it is
// not AWSCURRENT as well, which the service cleans up by itself.
func (s *snapshot) pending() *secretVersion {
	current, pending := s.labelled[stageCurrent], s.labelled[stagePending]
	if pending == nil || current != nil && current.id == pending.id {
		return nil
	}
	return pending
}

// look asks Secrets Manager. It reads values by label, as applications do: a policy
// may say which labels may be read, and of a request that names a version it would
// not know.
func look(ctx context.Context, api secretsAPI, secret, region string) *snapshot {
	s := &snapshot{secret: secret, region: region, labelled: make(map[string]*secretVersion)}
	out, err := api.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &secret})
	if err != nil {
		f := explain(secret, err)
		s.failures = append(s.failures, failedCall{"DescribeSecret", f})
		if !f.denied() {
			return s // it is not there, or nothing answers
		}
	}
	if err == nil {
		s.described = out
		for id, labels := range out.VersionIdsToStages {
			for _, label := range labels {
				if slices.Contains(stages, label) {
					s.label(label, id)
				}
			}
		}
		if s.deleted() {
			return s // nothing can be read
		}
		s.list(ctx, api)
	}
	for _, label := range stages {
		if s.described == nil || s.labelled[label] != nil {
			s.readLabel(ctx, api, label)
		}
	}
	return s
}

// label notes that a version has a label. Of one version there is one secretVersion.
func (s *snapshot) label(label, id string) *secretVersion {
	for _, v := range s.labelled {
		if v.id == id {
			s.labelled[label] = v
			return v
		}
	}
	v := &secretVersion{id: id}
	s.labelled[label] = v
	return v
}

// list learns how old the versions are, and which have no label.
func (s *snapshot) list(ctx context.Context, api secretsAPI) {
	pages := secretsmanager.NewListSecretVersionIdsPaginator(api, &secretsmanager.ListSecretVersionIdsInput{
		SecretId: &s.secret, IncludeDeprecated: aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			s.failures = append(s.failures, failedCall{"ListSecretVersionIds", explain(s.secret, err)})
			return
		}
		for _, entry := range page.Versions {
			id, known := aws.ToString(entry.VersionId), false
			for _, v := range s.labelled {
				if v.id == id {
					v.created, known = aws.ToTime(entry.CreatedDate), true
				}
			}
			if !known && len(entry.VersionStages) == 0 {
				s.other = append(s.other, &secretVersion{id: id, created: aws.ToTime(entry.CreatedDate)})
			}
		}
	}
	slices.SortFunc(s.other, func(a, b *secretVersion) int { return b.created.Compare(a.created) })
}

// readLabel reads the value of the version that has a label.
func (s *snapshot) readLabel(ctx context.Context, api secretsAPI, label string) {
	if v := s.labelled[label]; v != nil && v.read != notRead {
		return // it has two labels
	}
	out, err := api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.secret, VersionStage: &label})
	if err != nil {
		f, v := explain(s.secret, err), s.labelled[label]
		switch {
		case f.code == codeNotFound && v != nil:
			v.read = isEmpty
		case f.code == codeNotFound && label != stageCurrent:
			// DescribeSecret was denied, and there is no such label.
		default:
			s.failures = append(s.failures, failedCall{"GetSecretValue of " + label, f})
			if v != nil {
				v.read = failed
			}
		}
		return
	}
	// Should the label have moved since DescribeSecret, then this is the newer word.
	v := s.labelled[label]
	if v == nil || v.id != aws.ToString(out.VersionId) {
		v = s.label(label, aws.ToString(out.VersionId))
	}
	v.keep(out)
}

func (v *secretVersion) keep(out *secretsmanager.GetSecretValueOutput) {
	text := aws.ToString(out.SecretString)
	if out.SecretString == nil {
		text = string(out.SecretBinary)
	}
	v.text, v.read, v.created = redact.Hide(text), wasRead, aws.ToTime(out.CreatedDate)
}

// readUnlabelled reads a version that has no label. It reports whether it has a value.
func (v *secretVersion) readUnlabelled(ctx context.Context, api secretsAPI, secret string) (bool, error) {
	out, err := api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &secret, VersionId: &v.id})
	if err != nil {
		if f := explain(secret, err); f.code == codeNotFound {
			v.read = isEmpty
			return false, nil
		}
		return false, err
	}
	v.keep(out)
	return true, nil
}
