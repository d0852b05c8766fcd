package cache

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/clock"
	"github.com/keyturn/keyturn/internal/redact"
)

// mark is embedded under this name so that only its methods show, not a field.
type mark = redact.Mark

// A Secret is one version of a secret as one call of GetSecretValue returned
// it. It is immutable, shared by all readers, and safe for concurrent use.
//
// It never shows its value: every fmt verb, log/slog, encoding/json and
// encoding/xml print "[redacted]". In an unexported field, where they call no
// methods, they print names and dates, and an address in the place of the value.
// Only Text, Bytes and Decode give the value away.
type Secret struct {
	mark

	arn       string
	name      string
	versionID string
	stages    []string
	created   time.Time
	fetched   time.Time // start of the call, with its monotonic reading
	clock     *clock.Clock

	// A closure, not a string: fmt prints an unexported field by reflection
	// and would find the string.
	reveal func() string
}

// newSecret copies what a call that began at fetched returned. An answer without a
// value makes a Secret without reveal.
func newSecret(out *secretsmanager.GetSecretValueOutput, fetched time.Time, clock *clock.Clock) *Secret {
	s := &Secret{
		arn:       aws.ToString(out.ARN),
		name:      aws.ToString(out.Name),
		versionID: aws.ToString(out.VersionId),
		stages:    onlyCurrent,
		created:   aws.ToTime(out.CreatedDate),
		fetched:   fetched,
		clock:     clock,
	}
	if !slices.Equal(out.VersionStages, onlyCurrent) {
		s.stages = slices.Clone(out.VersionStages)
	}
	// The ARN ends in the name: no need to keep it twice.
	if i := strings.Index(s.arn, s.name); i >= 0 {
		s.name = s.arn[i : i+len(s.name)]
	}
	switch {
	case out.SecretString != nil:
		s.reveal = redact.Hide(*out.SecretString)
	case out.SecretBinary != nil:
		s.reveal = redact.Hide(string(out.SecretBinary))
	}
	return s
}

// onlyCurrent is what nearly every secret has for labels. Nobody writes to it.
var onlyCurrent = []string{Current}

// ARN returns the full ARN of the secret.
func (s *Secret) ARN() string { return s.arn }

// Name returns the friendly name of the secret.
func (s *Secret) Name() string { return s.name }

// VersionID returns the unique identifier of this version. Two Secrets of one
// ARN with the same version ID have the same value: the service never changes
// the contents of a version.
func (s *Secret) VersionID() string { return s.versionID }

// Stages returns the staging labels that were attached to this version when it
// was read. The slice is the caller's. Labels move: an old Secret shows where
// they were.
func (s *Secret) Stages() []string { return slices.Clone(s.stages) }

// Created returns when this version was created.
func (s *Secret) Created() time.Time { return s.created }

// Fetched returns the start of the call that read this version. What the
// service did after that instant, the Secret may not show.
func (s *Secret) Fetched() time.Time { return s.fetched }

// Age returns how long ago the call began that read this version: see
// [Secret.Fetched].
func (s *Secret) Age() time.Duration { return s.clock.Since(s.fetched) }

// Text returns the value as a string: the SecretString, or the SecretBinary's
// bytes unchanged.
func (s *Secret) Text() string { return s.reveal() }

// Bytes returns the value as bytes: the SecretBinary, or the SecretString's
// bytes. The slice is a copy and the caller's to change or to zero.
func (s *Secret) Bytes() []byte { return []byte(s.reveal()) }

// Decode decodes the value as JSON into v, as [json.Unmarshal] does. Its error
// names the secret, the version, the field and the type, and never quotes the
// value, which the errors of encoding/json, strconv and time do; for the same
// reason it wraps none of them.
func (s *Secret) Decode(v any) error {
	if err := redact.Decode(s.reveal(), v); err != nil {
		return fmt.Errorf("cache: secret %q (version %s): %w", s.name, s.versionID, err)
	}
	return nil
}

// Redacted is a string that prints as "[redacted]", for the secret fields of
// types that secrets are decoded into; string(r) is the text. It must be an
// exported field: of others fmt prints what they hold without asking them.
type Redacted string

// Format implements [fmt.Formatter].
func (Redacted) Format(s fmt.State, verb rune) { mark{}.Format(s, verb) }

// String implements [fmt.Stringer].
func (Redacted) String() string { return redact.Text }

// GoString implements [fmt.GoStringer].
func (Redacted) GoString() string { return redact.Text }

// LogValue implements [slog.LogValuer].
func (Redacted) LogValue() slog.Value { return mark{}.LogValue() }

// MarshalText implements [encoding.TextMarshaler].
func (Redacted) MarshalText() ([]byte, error) { return mark{}.MarshalText() }

// MarshalJSON implements [encoding/json.Marshaler].
func (Redacted) MarshalJSON() ([]byte, error) { return mark{}.MarshalJSON() }
