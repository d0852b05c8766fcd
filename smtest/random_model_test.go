package smtest_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/middleware"
)

// A randomSecret is what TestRandom knows of a secret: what it did to it, by the rules
// for labels as AWS documents them.
type randomSecret struct {
	name     string
	arn      string // empty: there is none
	old      string // the ARN of the one before, which leads nowhere
	deletion time.Time
	whole    string // what it was when it was marked for deletion
	versions map[string]*randomVersion
	labels   map[string]string // to version ids
	on       bool              // is rotation?
	retry    bool              // is a rotation that failed going to be retried?
}

type randomVersion struct {
	value   string // empty: none yet
	created time.Time
}

func (s *randomSecret) gone() bool {
	return s.arn == "" || s.deleted() && !time.Now().Before(s.deletion)
}

func (s *randomSecret) deleted() bool { return !s.deletion.IsZero() }

func (s *randomSecret) hasCurrent() bool { return s.labels[cur] != "" }

func (s *randomSecret) ids() []string { return slices.Sorted(maps.Keys(s.versions)) }

// id is one of the ways to name the secret.
func (s *randomSecret) id(r *randomRun) string {
	switch {
	case s.arn == "" || r.rng.IntN(2) == 0:
		return s.name
	default:
		return s.arn
	}
}

func (s *randomSecret) version(id string) *randomVersion {
	if s.versions == nil {
		s.versions, s.labels = make(map[string]*randomVersion), make(map[string]string)
	}
	v := s.versions[id]
	if v == nil {
		v = &randomVersion{created: time.Now()}
		s.versions[id] = v
	}
	return v
}

// put is a PutSecretValue that succeeded.
func (s *randomSecret) put(id, value string, stages []string) {
	if v := s.versions[id]; v != nil && v.value != "" {
		return // The same once more: it would have failed with another value.
	}
	first := len(s.versions) == 0
	s.version(id).value = value
	if len(stages) == 0 || first {
		stages = append([]string{cur}, stages...)
	}
	for _, label := range stages {
		if label != cur {
			s.labels[label] = id
		}
	}
	if !slices.Contains(stages, cur) {
		return
	}
	if s.labels[pend] == s.labels[cur] && s.labels[cur] != id {
		delete(s.labels, pend)
	}
	s.move(cur, id)
}

// move puts a label on a version, or takes it away. AWSPREVIOUS follows AWSCURRENT.
func (s *randomSecret) move(label, to string) {
	was := s.labels[label]
	switch {
	case to == "":
		delete(s.labels, label)
	case label == cur && was != "" && was != to:
		s.labels[prev] = was
		fallthrough
	default:
		s.labels[label] = to
	}
}

// rotated is the end of a rotation whose function fails at a step, or does not.
func (s *randomSecret) rotated(token, value, failAt string) {
	v := s.version(token)
	s.labels[pend] = token
	if failAt == "createSecret" {
		return
	}
	if v.value == "" {
		v.value = value
	}
	if failAt == "" {
		s.move(cur, token)
		delete(s.labels, pend)
	}
}

// check holds what the server shows of a secret against the model and against the
// invariants, which do not trust the model:
//
//   - S1: a label is on one version at most.
//   - S2: once there is a value there is AWSCURRENT, on a version with a value.
//   - S3: AWSPREVIOUS is on the version that AWSCURRENT was on before.
//   - S4: the value of a version never changes.
//   - S5: only versions without a label are forgotten, when they are over 100 and
//     older than 24 hours.
//   - S6: AWSCURRENT moves by calls that move it.
func (r *randomRun) check(sec *randomSecret) {
	r.t.Helper()
	if sec.gone() {
		if _, err := r.c.DescribeSecret(r.ctx(), &sm.DescribeSecretInput{SecretId: &sec.name}); err == nil {
			r.t.Errorf("%s: there is a secret %s that should be gone", r.what, sec.name)
		}
		if sec.arn != "" {
			*sec = randomSecret{name: sec.name, old: sec.arn}
		}
		return
	}
	if sec.old != "" {
		if _, err := r.c.DescribeSecret(r.ctx(), &sm.DescribeSecretInput{SecretId: &sec.old}); err == nil {
			r.t.Errorf("%s: the ARN of a secret that is gone leads to the next of its name", r.what)
		}
	}
	out, err := r.c.DescribeSecret(r.ctx(), &sm.DescribeSecretInput{SecretId: &sec.name})
	if err != nil {
		r.t.Errorf("%s: %v", r.what, err)
		return
	}
	if *out.ARN != sec.arn || (out.DeletedDate != nil) != sec.deleted() {
		r.t.Errorf("%s: ARN %s, DeletedDate %v, want %s, %v", r.what, *out.ARN, out.DeletedDate, sec.arn, sec.deletion)
	}
	labels := make(map[string]string)
	for id, stages := range out.VersionIdsToStages {
		for _, label := range stages {
			if labels[label] != "" {
				r.t.Errorf("%s: S1: %s is on two versions", r.what, label)
			}
			labels[label] = id
		}
	}
	// S3 and S6 are in the model: AWSCURRENT is where the calls have put it.
	if !maps.Equal(labels, sec.labels) {
		r.t.Errorf("%s: labels\n got %v\nwant %v", r.what, labels, sec.labels)
	}
	if labels[cur] != "" && labels[cur] == labels[prev] {
		r.t.Errorf("%s: S3: AWSPREVIOUS is on the AWSCURRENT version", r.what)
	}
	r.checkVersions(sec, labels)
	r.checkValues(sec, 1)
}

func (r *randomRun) checkVersions(sec *randomSecret, labels map[string]string) {
	r.t.Helper()
	shown := r.stages(sec.arn)
	for id, stages := range shown {
		if sec.versions[id] == nil {
			r.t.Errorf("%s: there is a version %s", r.what, id)
		}
		for _, label := range stages {
			if labels[label] != id {
				r.t.Errorf("%s: the lists differ in where %s is", r.what, label)
			}
		}
	}
	valued := false
	for id, v := range sec.versions {
		valued = valued || v.value != ""
		if _, ok := shown[id]; ok {
			continue
		}
		labelled := slices.Contains(slices.Collect(maps.Values(labels)), id)
		if labelled || len(shown) < 100 || time.Since(v.created) < 24*time.Hour {
			r.t.Errorf("%s: S5: version %s of %v is gone, %d are left", r.what, id, v.created, len(shown))
		}
		delete(sec.versions, id)
	}
	if v := sec.versions[labels[cur]]; valued && (v == nil || v.value == "") {
		r.t.Errorf("%s: S2: there is a value, and AWSCURRENT is on %q", r.what, labels[cur])
	}
}

// checkValues reads the current value and those of some versions: nothing of a secret
// that is marked for deletion.
func (r *randomRun) checkValues(sec *randomSecret, n int) {
	r.t.Helper()
	if sec.gone() {
		return
	}
	in := []*sm.GetSecretValueInput{{SecretId: &sec.arn}}
	ids := sec.ids()
	for range min(n, len(ids)) {
		in = append(in, &sm.GetSecretValueInput{SecretId: &sec.name, VersionId: aws.String(pick(r, ids))})
	}
	for _, in := range in {
		out, err := r.c.GetSecretValue(r.ctx(), in)
		if sec.deleted() {
			if got, want := apiError(err), "InvalidRequestException: You can't perform this operation on the secret because it was marked for deletion."; got != want {
				r.t.Errorf("%s: a read of a deleted secret: %s", r.what, got)
			}
			continue
		}
		id := aws.ToString(in.VersionId)
		if id == "" {
			id = sec.labels[cur]
		}
		want := ""
		if v := sec.versions[id]; v != nil {
			want = v.value
		}
		switch {
		case want == "" && err == nil:
			r.t.Errorf("%s: version %q has the value %q, want none", r.what, id, *out.SecretString)
		case want != "" && (err != nil || *out.SecretString != want || *out.VersionId != id):
			r.t.Errorf("%s: S4: version %q: %v, want %q", r.what, id, err, want)
		}
	}
}

var noMetadata middleware.Metadata

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
