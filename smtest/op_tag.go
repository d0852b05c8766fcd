package smtest

import (
	"slices"
	"strings"
)

const maxTags = 50

type tag struct {
	Key   string
	Value string
}

// checkTags checks tags from a request. Source: the TagResource page of the API
// Reference; it does not give the answers' texts.
func checkTags(tags []tag) *Error {
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		if err := checkLength("tags", t.Key, 1, 128); err != nil {
			return err
		}
		if err := checkLength("tags", t.Value, 0, 256); err != nil {
			return err
		}
		switch {
		case seen[t.Key]:
			return invalidParameter("The request has the tag key %s more than once.", t.Key)
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return invalidParameter("Tag keys that begin with aws: are reserved for AWS.")
		}
		seen[t.Key] = true
	}
	if len(tags) > maxTags {
		return errManyTags()
	}
	return nil
}

func errManyTags() *Error {
	return invalidParameter("A secret can have at most %d tags.", maxTags)
}

type tagResourceInput struct {
	SecretID string `json:"SecretId"`
	Tags     []tag  `json:"Tags"`
}

func (in tagResourceInput) target() target {
	return secretTarget(in.SecretID)
}

// noOutput is the answer of the operations that answer nothing.
type noOutput struct{}

func tagResource(req *request, in tagResourceInput) (noOutput, *Error) {
	if in.Tags == nil {
		return noOutput{}, constraint("tags", "Member must not be null")
	}
	if err := checkTags(in.Tags); err != nil {
		return noOutput{}, err
	}
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return noOutput{}, err
	}
	tags := slices.Clone(sec.tags)
	for _, t := range in.Tags {
		if i := slices.IndexFunc(tags, func(have tag) bool { return have.Key == t.Key }); i >= 0 {
			tags[i] = t
		} else {
			tags = append(tags, t)
		}
	}
	if len(tags) > maxTags {
		return noOutput{}, errManyTags()
	}
	sec.tags = tags
	sec.changed = req.now
	return noOutput{}, nil
}

type untagResourceInput struct {
	SecretID string   `json:"SecretId"`
	TagKeys  []string `json:"TagKeys"`
}

func (in untagResourceInput) target() target {
	return secretTarget(in.SecretID)
}

// untagResource leaves an empty list behind, which answers show, unlike the absent
// one of a secret that never had a tag.
func untagResource(req *request, in untagResourceInput) (noOutput, *Error) {
	if in.TagKeys == nil {
		return noOutput{}, constraint("tagKeys", "Member must not be null")
	}
	for _, k := range in.TagKeys {
		if err := checkLength("tagKeys", k, 1, 128); err != nil {
			return noOutput{}, err
		}
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return noOutput{}, invalidParameter("Tag keys that begin with aws: are reserved for AWS.")
		}
	}
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return noOutput{}, err
	}
	sec.tags = slices.DeleteFunc(slices.Clone(sec.tags), func(t tag) bool { return slices.Contains(in.TagKeys, t.Key) })
	sec.changed = req.now
	return noOutput{}, nil
}
