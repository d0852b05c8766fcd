package smtest

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	labelCurrent  = "AWSCURRENT"
	labelPending  = "AWSPENDING"
	labelPrevious = "AWSPREVIOUS"
)

// maxVersions is how many versions are kept before those without a label go,
// maxLabels how many labels all versions of a secret may have together.
const (
	maxVersions = 100
	maxLabels   = 20
	maxValue    = 65536
)

// A secret is what an account has under a name in one Region.
type secret struct {
	*content

	store     *store
	name, arn string
	kmsKey    string // empty: aws/secretsmanager
	created   time.Time
	accessed  time.Time // the day only
	deletion  time.Time // when it goes away for good; zero if it is not marked for deletion
	owner     string    // the service that manages it; empty: the user does
	seq       uint64    // its place in the order of creation in its store

	// primary is the Region whose secret this one replicates, empty if it is no
	// replica.
	primary  string
	replicas []*replication

	rotation rotationConfig
	run      *rotation // the one under way, or the last; nil if there was none
}

// A content is what a secret has in common with its replicas: they share it. Which
// version has which label is kept here and not with the version, so that a label
// cannot be on two of them. Labels move in labels.go only.
type content struct {
	description string
	kind        string // the type of a managed external secret
	tags        []tag  // empty but not nil if the last was removed
	changed     time.Time
	versions    map[string]*version
	labels      map[string]string // label -> version id
	policy      *policy           // the resource policy; nil if there is none
	history     []*past           // what stale reads see, oldest first
}

type version struct {
	id       string
	created  time.Time
	accessed time.Time
	kmsKey   string   // empty: aws/secretsmanager
	value    *payload // nil until PutSecretValue fills a version that RotateSecret made
}

// A payload is the value of a version: text, or binary if text is nil. It is
// written once and never changes.
type payload struct {
	text   *string
	binary []byte
}

func (p *payload) equal(q *payload) bool {
	if p == nil || q == nil {
		return p == q
	}
	if (p.text == nil) != (q.text == nil) {
		return false
	}
	if p.text != nil {
		return *p.text == *q.text
	}
	return bytes.Equal(p.binary, q.binary)
}

// newPayload checks a value from a request. Its errors never show it.
func newPayload(text *string, binary []byte) (*payload, *Error) {
	switch {
	case text != nil && binary != nil:
		return nil, invalidParameter("You can't specify both a binary secret value and a string secret value in the same secret.")
	case text != nil && *text != "":
		if len(*text) > maxValue {
			return nil, constraint("secretString", "Member must have length less than or equal to 65536")
		}
		if !utf8.ValidString(*text) {
			return nil, constraint("secretString", "Member must be valid UTF-8")
		}
		return &payload{text: text}, nil
	case len(binary) > 0:
		if len(binary) > maxValue {
			return nil, constraint("secretBinary", "Member must have length less than or equal to 65536")
		}
		return &payload{binary: binary}, nil
	default:
		return nil, invalidRequest("You must provide either SecretString or SecretBinary.")
	}
}

func (sec *secret) deleted() bool {
	return !sec.deletion.IsZero()
}

func (sec *secret) checkNotDeleted() *Error {
	if sec.deleted() {
		return invalidRequest("You can't perform this operation on the secret because it was marked for deletion.")
	}
	return nil
}

// checkPrimary refuses what is to be done to a replica's primary.
func (sec *secret) checkPrimary() *Error {
	if sec.primary != "" {
		return invalidParameter("Operation not permitted on a replica secret. Call must be made in primary secret's region.")
	}
	return nil
}

// owningService returns the service that a name says it belongs to, as in
// rds!db-1234; empty if it is a user's own.
func owningService(name string) string {
	service, rest, ok := strings.Cut(name, "!")
	if !ok || rest == "" || strings.ContainsAny(service, "/_+=.@") || strings.ToLower(service) != service {
		return ""
	}
	return service
}

// own makes a service the secret's owner, if there is one.
func (sec *secret) own(service string) {
	if service == "" {
		return
	}
	sec.owner = service
	sec.tags = []tag{{Key: "aws:secretsmanager:owningService", Value: service}}
}

// checkUnmanaged refuses what only the owning service may do.
func (sec *secret) checkUnmanaged() *Error {
	if sec.owner != "" {
		return invalidRequest("The secret is managed by another service, and you must use that service to update it.")
	}
	return nil
}

// put stores a value under a version id, with labels as PutSecretValue does it.
// The id of a version that has this very value changes nothing; the first version
// of all becomes AWSCURRENT too.
func (sec *secret) put(id string, val *payload, stages []string, now time.Time) (*version, *Error) {
	if v := sec.versions[id]; v != nil {
		switch {
		case v.value == nil:
			if err := sec.checkLabels(stages); err != nil {
				return nil, err
			}
			v.value = val
			sec.changed = now
			sec.attach(v, stages)
			return v, nil
		case v.value.equal(val):
			return v, nil
		default:
			return nil, sec.tokenUsed(id)
		}
	}
	if len(sec.versions) == 0 && !slices.Contains(stages, labelCurrent) {
		stages = append([]string{labelCurrent}, stages...)
	}
	if err := sec.checkLabels(stages); err != nil {
		return nil, err
	}
	if err := sec.checkVersions(now); err != nil {
		return nil, err
	}
	v := sec.newVersion(id, val, now)
	sec.attach(v, stages)
	sec.prune(now)
	return v, nil
}

// checkVersions reports whether one more version would be too many, if there is a
// quota.
func (sec *secret) checkVersions(now time.Time) *Error {
	quota := sec.store.opts.VersionQuota
	if quota == 0 || len(sec.versions) < quota {
		return nil
	}
	for _, v := range sec.versions {
		if sec.prunable(v, now) {
			return nil
		}
	}
	return &Error{Code: codeLimit, Message: "The request failed because it would exceed one of the Secrets Manager quotas."}
}

func (sec *secret) newVersion(id string, val *payload, now time.Time) *version {
	v := &version{id: id, created: now, kmsKey: sec.kmsKey, value: val}
	sec.versions[id] = v
	sec.changed = now
	return v
}

func (sec *secret) tokenUsed(id string) *Error {
	return exists("You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", id, sec.arn)
}

// get returns the version that a read means: by id, by label, or by both.
func (sec *secret) get(id, stage string) (*version, *Error) {
	if id == "" {
		stage = cmp.Or(stage, labelCurrent)
		v := sec.versions[sec.labels[stage]]
		if v == nil || v.value == nil {
			return nil, notFound("Secrets Manager can't find the specified secret value for staging label: %s", stage)
		}
		return v, nil
	}
	v := sec.versions[id]
	if v == nil {
		return nil, notFound("Secrets Manager can't find the specified secret value for VersionId: %s", id)
	}
	if stage != "" && sec.labels[stage] != id {
		return nil, invalidRequest("You provided a VersionStage that is not associated to the provided VersionId.")
	}
	if v.value == nil {
		return nil, notFound("Secrets Manager can't find the specified secret value for VersionId: %s", id)
	}
	return v, nil
}

// keyOf returns the key that a version is encrypted with. A replica has its own for
// all of them.
func (sec *secret) keyOf(v *version) string {
	if sec.primary != "" {
		return sec.kmsKey
	}
	return v.kmsKey
}

// touch notes a read. The service keeps only the day.
func (sec *secret) touch(v *version, now time.Time) {
	day := now.Truncate(24 * time.Hour)
	sec.accessed, v.accessed = day, day
}

// sorted returns the versions, oldest first.
func (sec *secret) sorted() []*version {
	out := make([]*version, 0, len(sec.versions))
	for _, v := range sec.versions {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *version) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id))
	})
	return out
}

// prune forgets the oldest versions without a label while there are more than the
// service keeps. It never forgets one of the last 24 hours.
func (sec *secret) prune(now time.Time) {
	limit := cmp.Or(sec.store.opts.VersionQuota, maxVersions)
	if len(sec.versions) <= limit {
		return
	}
	for _, v := range sec.sorted() {
		if len(sec.versions) <= limit {
			return
		}
		if sec.prunable(v, now) {
			delete(sec.versions, v.id)
		}
	}
}

func (sec *secret) prunable(v *version, now time.Time) bool {
	return now.Sub(v.created) >= 24*time.Hour && len(sec.stages(v.id)) == 0
}
