package smtest

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"
)

// The format of Save, Load and a journal. The names of the members are part of it; a
// change that an older Load would not understand raises stateVersion.

const stateVersion = 1

const stateFormat = "smtest"

// A header is the first line.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Records int    `json:"records"` // how many lines follow that are of the state at that time
}

// A record is every other line: what changed at one instant, all of it or, if the line
// is not whole, nothing.
type record struct {
	// Removed are ARNs of secrets that are no more. They need not have been there.
	Removed []string `json:"removed,omitempty"`

	// Secrets replace all of these secrets but their versions: those they name are
	// replaced or added, those in Gone are taken away, the others stay.
	Secrets []*savedSecret `json:"secrets,omitempty"`
}

// line returns a JSON object on a line of its own.
func line(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("smtest: record that JSON cannot hold") // A bug here: the types are ours.
	}
	return b.Bytes()
}

// A savedSecret is a secret in a record. Its account, Region and name are in its ARN.
type savedSecret struct {
	ARN      string        `json:"arn"`
	Seq      uint64        `json:"seq"`
	KMSKey   string        `json:"kmsKey,omitempty"`
	Created  time.Time     `json:"created"`
	Accessed time.Time     `json:"accessed,omitzero"`
	Deletion time.Time     `json:"deletion,omitzero"`
	Owner    string        `json:"owner,omitempty"`
	Rotation savedRotation `json:"rotation,omitzero"`

	// Primary is the Region of the secret that this one replicates. A replica has
	// nothing of what follows: it is the primary's.
	Primary string `json:"primary,omitempty"`

	Description string             `json:"description,omitempty"`
	Kind        string             `json:"kind,omitempty"`
	Tags        *[]savedPair       `json:"tags,omitempty"` // no tags any more are not none ever
	Changed     time.Time          `json:"changed,omitzero"`
	Policy      string             `json:"policy,omitempty"`
	Replicas    []savedReplication `json:"replicas,omitempty"`
	Labels      map[string]string  `json:"labels,omitempty"` // to version ids
	Versions    []savedVersion     `json:"versions,omitempty"`
	Gone        []string           `json:"gone,omitempty"`
}

// A savedVersion has the value in plain text: Text or Binary. It has neither if a
// rotation has not filled the version yet, or an earlier record has the value.
type savedVersion struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	Accessed time.Time `json:"accessed,omitzero"`
	KMSKey   string    `json:"kmsKey,omitempty"`
	Text     *string   `json:"text,omitempty"`
	Binary   []byte    `json:"binary,omitempty"`
}

type savedReplication struct {
	Region string `json:"region"`
	KMSKey string `json:"kmsKey,omitempty"`
	Failed string `json:"failed,omitempty"`
}

// A savedRotation is a rotationConfig without its Manager, and the run under way.
type savedRotation struct {
	Enabled          *bool          `json:"enabled,omitempty"`
	Function         string         `json:"function,omitempty"`
	Rules            *rotationRules `json:"rules,omitempty"`
	Since            time.Time      `json:"since,omitzero"`
	Rotated          time.Time      `json:"rotated,omitzero"`
	Tried            time.Time      `json:"tried,omitzero"`
	RetryAt          time.Time      `json:"retryAt,omitzero"`
	Failures         int            `json:"failures,omitempty"`
	CleanAt          time.Time      `json:"cleanAt,omitzero"`
	CleanFrom        string         `json:"cleanFrom,omitempty"`
	ExternalRole     string         `json:"externalRole,omitempty"`
	ExternalMetadata []savedPair    `json:"externalMetadata,omitempty"`
	Run              *savedRun      `json:"run,omitempty"`
}

type savedRun struct {
	Token     string `json:"token"`
	Temporary bool   `json:"temporary,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
}

type savedPair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A versionMark is what may change of a version: two that are equal need one record.
type versionMark struct {
	accessed int64
	kmsKey   string
	filled   bool
}

func (v *version) mark() versionMark {
	return versionMark{accessed: v.accessed.Unix(), kmsKey: v.kmsKey, filled: v.value != nil}
}

func (v *version) save() savedVersion {
	out := savedVersion{ID: v.id, Created: v.created, Accessed: v.accessed, KMSKey: v.kmsKey}
	if v.value != nil {
		out.Text, out.Binary = v.value.text, v.value.binary
	}
	return out
}

// save returns the secret without its versions.
func (sec *secret) save() *savedSecret {
	out := &savedSecret{
		ARN:      sec.arn,
		Seq:      sec.seq,
		KMSKey:   sec.kmsKey,
		Created:  sec.created,
		Accessed: sec.accessed,
		Deletion: sec.deletion,
		Owner:    sec.owner,
		Rotation: sec.saveRotation(),
		Primary:  sec.primary,
	}
	if sec.primary != "" {
		return out
	}
	out.Description, out.Kind, out.Changed = sec.description, sec.kind, sec.changed
	out.Labels = maps.Clone(sec.labels)
	if sec.tags != nil {
		tags := make([]savedPair, len(sec.tags))
		for i, t := range sec.tags {
			tags[i] = savedPair(t)
		}
		out.Tags = &tags
	}
	if sec.policy != nil {
		out.Policy = sec.policy.text
	}
	for _, r := range sec.replicas {
		out.Replicas = append(out.Replicas, savedReplication{Region: r.region, KMSKey: r.kmsKey, Failed: r.failed})
	}
	return out
}

// saveAll returns the secret with its versions.
func (sec *secret) saveAll() *savedSecret {
	out := sec.save()
	if sec.primary == "" {
		for _, v := range sec.sorted() {
			out.Versions = append(out.Versions, v.save())
		}
	}
	return out
}

func (sec *secret) saveRotation() savedRotation {
	c := &sec.rotation
	out := savedRotation{
		Enabled: c.enabled, Function: c.function, Rules: c.rules, Since: c.since, Rotated: c.rotated, Tried: c.tried,
		RetryAt: c.retryAt, Failures: c.failures, CleanAt: c.cleanAt, CleanFrom: c.cleanFrom, ExternalRole: c.externalRole,
	}
	for _, m := range c.externalMetadata {
		out.ExternalMetadata = append(out.ExternalMetadata, savedPair(m))
	}
	if sec.running() {
		out.Run = &savedRun{Token: sec.run.token, Temporary: sec.run.temp, Attempt: sec.run.attempt}
	}
	return out
}

func (r *savedRotation) load() rotationConfig {
	out := rotationConfig{
		enabled: r.Enabled, function: r.Function, rules: r.Rules, since: r.Since, rotated: r.Rotated, tried: r.Tried,
		retryAt: r.RetryAt, failures: r.Failures, cleanAt: r.CleanAt, cleanFrom: r.CleanFrom, externalRole: r.ExternalRole,
	}
	for _, m := range r.ExternalMetadata {
		out.externalMetadata = append(out.externalMetadata, metadataItem(m))
	}
	return out
}

func (v savedVersion) load() *version {
	out := &version{id: v.ID, created: v.Created, accessed: v.Accessed, kmsKey: v.KMSKey}
	if v.Text != nil || v.Binary != nil {
		out.value = &payload{text: v.Text, binary: v.Binary}
	}
	return out
}
