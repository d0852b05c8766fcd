package smtest

import (
	"maps"
	"slices"
)

// The rules by which staging labels move. They hold after every call: a label is
// on at most one version (by construction, see secret); AWSCURRENT is never taken
// away and never on a version without a value; AWSPREVIOUS is where AWSCURRENT
// last was.

// current returns the AWSCURRENT version, or nil.
func (sec *secret) current() *version {
	return sec.versions[sec.labels[labelCurrent]]
}

// stages returns the labels of a version, sorted; nil if it has none.
func (sec *secret) stages(id string) []string {
	var out []string
	for label, at := range sec.labels {
		if at == id {
			out = append(out, label)
		}
	}
	slices.Sort(out)
	return out
}

// stagesByVersion returns the labels of every version that has one.
func (sec *secret) stagesByVersion() map[string][]string {
	out := make(map[string][]string)
	for _, label := range slices.Sorted(maps.Keys(sec.labels)) {
		id := sec.labels[label]
		out[id] = append(out[id], label)
	}
	return out
}

// checkLabels reports whether adding the labels would leave too many.
func (sec *secret) checkLabels(stages []string) *Error {
	all := maps.Clone(sec.labels)
	for _, label := range stages {
		all[label] = ""
		if label == labelCurrent && sec.current() != nil {
			all[labelPrevious] = ""
			if sec.labels[labelPending] == sec.current().id && !slices.Contains(stages, labelPending) {
				delete(all, labelPending)
			}
		}
	}
	if len(all) > maxLabels {
		return &Error{
			Code:    codeLimit,
			Message: "The request failed because it would exceed the quota of 20 staging labels on all versions of the secret.",
		}
	}
	return nil
}

// attach moves labels to a version that was just stored, as PutSecretValue does.
func (sec *secret) attach(v *version, stages []string) {
	old := sec.current()
	for _, label := range stages {
		if label != labelCurrent {
			sec.labels[label] = v.id
		}
	}
	if !slices.Contains(stages, labelCurrent) {
		return
	}
	// A finished rotation whose AWSPENDING is still there is over now: the label
	// does not go on to AWSPREVIOUS with the version.
	if old != nil && old != v && sec.labels[labelPending] == old.id {
		delete(sec.labels, labelPending)
	}
	sec.moveCurrent(v)
}

// moveCurrent puts AWSCURRENT on v and AWSPREVIOUS on the version it leaves. All
// other labels stay where they are.
func (sec *secret) moveCurrent(v *version) {
	old := sec.current()
	if old == v {
		return
	}
	sec.labels[labelCurrent] = v.id
	if old != nil {
		sec.labels[labelPrevious] = old.id
	}
}

// moveLabel is UpdateSecretVersionStage: the label leaves the version from, if
// that is not empty, and goes to the version to, if that is not empty.
func (sec *secret) moveLabel(label, from, to string) *Error {
	at, attached := sec.labels[label]
	for _, id := range []string{from, to} {
		if id != "" && sec.versions[id] == nil {
			return invalidParameter("Not a valid version: %s", id)
		}
	}
	switch {
	case from == "" && to == "":
		return invalidParameter("You must specify MoveToVersionId, RemoveFromVersionId, or both.")
	case from == "" && attached && at != to:
		return invalidParameter("The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to "+
			"version %s, so you must explicitly reference that version in RemoveFromVersionId.", label, at)
	case from != "" && at != from:
		return invalidParameter("Version stage %s not found in version %s", label, from)
	case to == "" && label == labelCurrent:
		return invalidParameter("You can only move staging label AWSCURRENT to a different secret version. " +
			"It can’t be completely removed.")
	case to == "":
		delete(sec.labels, label)
		return nil
	case label == labelCurrent:
		if sec.versions[to].value == nil {
			return invalidRequest("You can't move staging label AWSCURRENT to version %s because it has no value.", to)
		}
		sec.moveCurrent(sec.versions[to])
		return nil
	}
	if err := sec.checkLabels([]string{label}); err != nil {
		return err
	}
	sec.labels[label] = to
	return nil
}
