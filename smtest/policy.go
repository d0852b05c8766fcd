package smtest

import (
	"slices"
	"strings"
)

// A policy is a policy document of IAM, as "IAM JSON policy reference" in the IAM
// User Guide has it. It never changes.
type policy struct {
	text       string
	statements []statement
}

// A statement has of each pair of elements, such as Action and NotAction, one. Not
// says that it is the one which begins with Not.
type statement struct {
	deny bool

	principals   *principals // nil in an identity policy
	notPrincipal bool

	actions   []string // lower-case: actions are compared without case
	notAction bool

	resources   []string
	notResource bool

	conditions []condition
}

// A decision is what a policy says about a request.
type decision int

const (
	silent       decision = iota // no statement is about it
	allowAccount                 // allowed to the caller's account, which may pass it on
	allow
	deny
)

// A question is a request as a policy sees it.
type question struct {
	caller   *caller
	action   string // secretsmanager:GetSecretValue
	resource string // an ARN, or a name that no secret has
	context  map[string][]string
}

// decide returns what a policy says: a Deny outweighs an Allow.
func (p *policy) decide(q *question) decision {
	out := silent
	if p == nil {
		return out
	}
	for i := range p.statements {
		st := &p.statements[i]
		who := st.about(q)
		switch {
		case who == silent:
		case st.deny:
			return deny
		default:
			out = max(out, who)
		}
	}
	return out
}

// about reports whether a statement applies to a request: not at all, to the
// caller as one of its account, or to the caller.
func (st *statement) about(q *question) decision {
	action := strings.ToLower(q.action)
	match := func(patterns []string, s string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return like(p, s) })
	}
	if match(st.actions, action) == st.notAction || match(st.resources, q.resource) == st.notResource {
		return silent
	}
	for _, c := range st.conditions {
		if !c.holds(q.context) {
			return silent
		}
	}
	if st.principals == nil {
		return allow
	}
	who := st.principals.match(q.caller)
	if st.notPrincipal {
		if who == silent {
			return allow
		}
		return silent
	}
	return who
}

// like reports whether s matches a pattern, in which * stands for any characters
// and ? for any one.
func like(pattern, s string) bool {
	// Where the last * was, and what it has swallowed: a mismatch makes it swallow
	// one character more. Earlier ones never need to.
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// principals are whom a statement of a resource policy is about. Services are not
// kept: no service makes requests here.
type principals struct {
	everybody bool
	accounts  []string
	arns      []string
}

// match reports whether a caller is among the principals. A role's session matches
// as the session and as the role, whose path its own ARN does not have.
func (p *principals) match(c *caller) decision {
	if p.everybody || slices.ContainsFunc(p.arns, c.is) {
		return allow
	}
	if slices.Contains(p.accounts, c.account) {
		// What an account is allowed its root may do; others need their identity policy.
		if strings.HasSuffix(c.arn, ":root") {
			return allow
		}
		return allowAccount
	}
	return silent
}

// is reports whether a principal's ARN in a policy means this caller.
func (c *caller) is(arn string) bool {
	if arn == c.arn {
		return true
	}
	_, session, ok := strings.Cut(c.arn, ":assumed-role/")
	if !ok {
		return false
	}
	name, _, _ := strings.Cut(session, "/")
	_, path, ok := strings.Cut(arn, ":iam::"+c.account+":role/")
	return ok && path[strings.LastIndexByte(path, '/')+1:] == name
}

// public reports whether a policy allows something to everybody. The service asks
// an automated reasoner, Zelkova; here a wildcard for the principal counts, unless a
// condition pins down who it is or where the request comes from.
func (p *policy) public() bool {
	return slices.ContainsFunc(p.statements, func(st statement) bool {
		return !st.deny && (st.notPrincipal || st.principals.everybody) && !slices.ContainsFunc(st.conditions, condition.pins)
	})
}
