package smtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A condition is one key of a condition operator: the values of the request under
// that key must match one of the condition's.
type condition struct {
	key      string // lower-case: keys are compared without case
	values   []string
	operator func(pattern, s string) bool
	negated  bool
	exact    bool // the values have no wildcards
	isNull   bool // the operator Null, whose value says whether the key must be absent
	ifExists bool
	quantity quantity
}

// A quantity says how many of a request's values must match.
type quantity int

const (
	single quantity = iota // the key has one value
	anyValue
	allValues
)

// operators are the condition operators but for Null and those with Not. Numbers,
// dates and addresses are not among what a request to this server has, so that
// only what their operators say to an absent key counts.
var operators = map[string]func(pattern, s string) bool{
	"StringEquals":             func(p, s string) bool { return p == s },
	"StringEqualsIgnoreCase":   strings.EqualFold,
	"StringLike":               like,
	"ArnEquals":                like,
	"ArnLike":                  like,
	"Bool":                     strings.EqualFold,
	"BinaryEquals":             never,
	"NumericEquals":            never,
	"NumericLessThan":          never,
	"NumericLessThanEquals":    never,
	"NumericGreaterThan":       never,
	"NumericGreaterThanEquals": never,
	"DateEquals":               never,
	"DateLessThan":             never,
	"DateLessThanEquals":       never,
	"DateGreaterThan":          never,
	"DateGreaterThanEquals":    never,
	"IpAddress":                never,
}

func never(string, string) bool { return false }

var negatedOperators = map[string]string{
	"StringNotEquals":           "StringEquals",
	"StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
	"StringNotLike":             "StringLike",
	"ArnNotEquals":              "ArnEquals",
	"ArnNotLike":                "ArnLike",
	"NumericNotEquals":          "NumericEquals",
	"DateNotEquals":             "DateEquals",
	"NotIpAddress":              "IpAddress",
}

// parseConditions reads the Condition element.
func parseConditions(in map[string]map[string]json.RawMessage) ([]condition, error) {
	var out []condition
	for operator, keys := range in {
		base, ok := parseOperator(operator)
		if !ok {
			return nil, errSyntax
		}
		for key, raw := range keys {
			c := base
			c.key = strings.ToLower(key)
			if err := oneOrMore(raw, &c.values); err != nil {
				// Booleans and numbers are written with and without quotes.
				var bare []any
				if err := oneOrMore(raw, &bare); err != nil {
					return nil, errSyntax
				}
				c.values = nil
				for _, v := range bare {
					c.values = append(c.values, fmt.Sprint(v))
				}
			}
			if len(c.values) == 0 {
				return nil, errSyntax
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func parseOperator(name string) (condition, bool) {
	var c condition
	if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		name, c.quantity = rest, anyValue
	} else if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		name, c.quantity = rest, allValues
	}
	if name == "Null" {
		c.isNull = true
		return c, true
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	if positive, ok := negatedOperators[name]; ok {
		name, c.negated = positive, true
	}
	c.operator = operators[name]
	c.exact = strings.HasPrefix(name, "StringEquals")
	return c, c.operator != nil
}

// holds reports whether a request's values satisfy the condition. Where the key is
// absent, a negated operator holds and ForAllValues does, others do not.
func (c condition) holds(context map[string][]string) bool {
	have := context[c.key]
	if c.isNull {
		return slices.Contains(c.values, "true") == (len(have) == 0)
	}
	if len(have) == 0 {
		return c.ifExists || c.quantity == allValues || c.quantity == single && c.negated
	}
	match := func(s string) bool {
		return slices.ContainsFunc(c.values, func(p string) bool { return c.operator(p, s) }) != c.negated
	}
	if c.quantity == allValues {
		return !slices.ContainsFunc(have, func(s string) bool { return !match(s) })
	}
	return slices.ContainsFunc(have, match)
}

// pinning are the keys that tell whom or where a request comes from. Source:
// "The meaning of public" in the Amazon S3 User Guide, which the Secrets Manager
// User Guide refers to.
var pinning = []string{
	"aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:principalorgpaths", "aws:userid",
	"aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceowner",
}

// pins reports whether the condition holds for fixed values of such a key alone.
func (c condition) pins() bool {
	return !c.isNull && !c.negated && !c.ifExists && c.quantity != allValues && slices.Contains(pinning, c.key) &&
		(c.exact || !slices.ContainsFunc(c.values, func(v string) bool { return strings.ContainsAny(v, "*?") }))
}
