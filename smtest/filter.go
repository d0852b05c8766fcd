package smtest

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

type filterInput struct {
	Key    string
	Values []string
}

// A filter is one of a request's filters; a secret must match all of them. It
// matches one of its values, and one with ! in front is matched by the secrets that
// its rest does not match.
type filter struct {
	attributes func(*secret) []string
	match      func(attribute string, want wanted) bool
	values     []wanted
}

// wanted is what a value asks for.
type wanted struct {
	negated bool
	text    string
	words   []string // lower-case
}

// filterKeys are the kinds of filter. The API Reference says that description is
// compared by its beginning; the service compares it by words, as moto's
// test_list_secrets.py has recorded on AWS, with the splitting of words below.
var filterKeys = map[string]filter{
	"name":           {attributes: func(s *secret) []string { return []string{s.name} }, match: byPrefix},
	"description":    {attributes: (*secret).descriptions, match: byWords},
	"tag-key":        {attributes: (*secret).tagKeys, match: byPrefix},
	"tag-value":      {attributes: (*secret).tagValues, match: byPrefix},
	"primary-region": {attributes: func(s *secret) []string { return notEmpty(s.primaryRegion()) }, match: byPrefix},
	"owning-service": {attributes: func(s *secret) []string { return notEmpty(s.owner) }, match: byPrefix},
	"all":            {attributes: (*secret).attributes, match: byWords},
}

func notEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (sec *secret) descriptions() []string { return notEmpty(sec.description) }

func (sec *secret) tagKeys() []string {
	out := make([]string, len(sec.tags))
	for i, t := range sec.tags {
		out[i] = t.Key
	}
	return out
}

func (sec *secret) tagValues() []string {
	out := make([]string, len(sec.tags))
	for i, t := range sec.tags {
		out[i] = t.Value
	}
	return out
}

func (sec *secret) attributes() []string {
	return slices.Concat([]string{sec.name}, sec.descriptions(), sec.tagKeys(), sec.tagValues(),
		notEmpty(sec.primaryRegion()), notEmpty(sec.owner))
}

func byPrefix(attribute string, want wanted) bool {
	return strings.HasPrefix(attribute, want.text)
}

// byWords reports whether each of the wanted words begins one of the attribute's.
func byWords(attribute string, want wanted) bool {
	if len(want.words) == 0 {
		return false
	}
	have := splitWords(attribute)
	return !slices.ContainsFunc(want.words, func(word string) bool {
		return !slices.ContainsFunc(have, func(s string) bool { return strings.HasPrefix(s, word) })
	})
}

func parseFilters(in []filterInput) ([]filter, *Error) {
	if len(in) > 10 {
		return nil, constraint("filters", "Member must have length less than or equal to 10")
	}
	out := make([]filter, len(in))
	for i, f := range in {
		if f.Key == "" {
			return nil, invalidParameter("Invalid filter key")
		}
		kind, ok := filterKeys[f.Key]
		if !ok {
			return nil, constraint("filters", "Member must satisfy enum value set: "+
				"[description, name, tag-key, tag-value, primary-region, owning-service, all]")
		}
		if len(f.Values) == 0 {
			return nil, invalidParameter("Invalid filter values for key: %s", f.Key)
		}
		if len(f.Values) > 10 {
			return nil, constraint("filters", "Member must have length less than or equal to 10")
		}
		for _, v := range f.Values {
			if err := checkLength("filters", v, 1, 512); err != nil {
				return nil, err
			}
			var want wanted
			want.text, want.negated = strings.CutPrefix(v, "!")
			want.words = splitWords(want.text)
			kind.values = append(kind.values, want)
		}
		out[i] = kind
	}
	return out, nil
}

func (f *filter) matches(sec *secret) bool {
	attributes := f.attributes(sec)
	return slices.ContainsFunc(f.values, func(want wanted) bool {
		return want.negated != slices.ContainsFunc(attributes, func(a string) bool { return f.match(a, want) })
	})
}

const separators = "/-_+=.@"

// splitWords splits a text at spaces, at separators and where an upper-case letter
// begins a word: "COMPANYthings" is COMPAN and Ythings, and of MyTest's words both
// are found. The words are in lower case. A part between spaces with two different
// separators in it is not split at them, nor is a separator alone a word.
func splitWords(text string) []string {
	var out []string
	for part := range strings.FieldsSeq(text) {
		if separator := onlySeparator(part); separator != "" {
			for s := range strings.SplitSeq(part, separator) {
				out = splitCase(out, s)
			}
		} else if strings.ContainsAny(part, separators) {
			out = append(out, strings.ToLower(part))
		} else {
			out = splitCase(out, part)
		}
	}
	return out
}

// onlySeparator returns the separator in s, or nothing if there are different ones.
func onlySeparator(s string) string {
	i := strings.IndexAny(s, separators)
	if i < 0 {
		return ""
	}
	if strings.ContainsAny(s, strings.Replace(separators, s[i:i+1], "", 1)) {
		return ""
	}
	return s[i : i+1]
}

// splitCase splits before an upper-case letter that follows a lower-case one or
// precedes one.
func splitCase(out []string, s string) []string {
	start := 0
	var last rune
	for i, r := range s {
		next, _ := utf8.DecodeRuneInString(s[i+utf8.RuneLen(r):])
		if i > start && unicode.IsUpper(r) && (unicode.IsLower(last) || unicode.IsLower(next)) {
			out = append(out, strings.ToLower(s[start:i]))
			start = i
		}
		last = r
	}
	if start < len(s) {
		out = append(out, strings.ToLower(s[start:]))
	}
	return out
}
