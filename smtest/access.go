package smtest

import "strings"

// Who may do what. A caller of the secret's own account needs its identity policy or
// the secret's resource policy to allow it, one of another account both, and a Deny
// in either outweighs all. Source: "Policy evaluation logic" in the IAM User Guide.

// iamAction is the action that a policy allows or denies for the request.
func (req *request) iamAction() string {
	return "secretsmanager:" + req.operation
}

// authorize reports whether the caller may do an action on a secret.
func (req *request) authorize(action string, sec *secret) *Error {
	c := req.caller
	same := c.account == sec.store.account
	if same && c.policies == nil && sec.policy == nil {
		return nil
	}
	q := req.question(action, sec.arn)
	q.about(sec)
	identity, resource := c.decide(q), sec.policy.decide(q)
	switch {
	case identity == deny:
		return q.denied("with an explicit deny in an identity-based policy")
	case resource == deny:
		return q.denied("with an explicit deny in a resource-based policy")
	case same && (identity == allow || resource == allow):
		return nil
	case identity != allow:
		return q.denied("because no identity-based policy allows the " + action + " action")
	case resource == silent:
		return q.denied("because no resource-based policy allows the " + action + " action")
	}
	return nil
}

// authorizeOn is authorize for what is no secret: *, or an id that none has. shown is
// how the answer names it.
func (req *request) authorizeOn(action, resource, shown string) *Error {
	if req.caller.policies == nil {
		return nil
	}
	q := req.question(action, resource)
	decision := req.caller.decide(q)
	q.resource = shown
	switch decision {
	case allow:
		return nil
	case deny:
		return q.denied("with an explicit deny in an identity-based policy")
	default:
		return q.denied("because no identity-based policy allows the " + action + " action")
	}
}

// question returns the request as policies see it.
func (req *request) question(action, resource string) *question {
	q := &question{caller: req.caller, action: action, resource: resource, context: map[string][]string{
		"aws:principalarn":     {req.caller.roleARN()},
		"aws:principalaccount": {req.caller.account},
		"aws:requestedregion":  {req.store.region},
		"aws:securetransport":  {"true"},
	}}
	// A stage that the request leaves unsaid is not AWSCURRENT to a condition, though
	// it is to the read: aws/aws-cli#5031.
	if !req.target.unsaid && len(req.target.stages) > 0 {
		q.context["secretsmanager:versionstage"] = req.target.stages
	}
	if req.operation == "GetSecretValue" && req.target.version != "" {
		q.context["secretsmanager:versionid"] = []string{req.target.version}
	}
	return q
}

// about adds what policies see of a secret.
func (q *question) about(sec *secret) {
	q.context["secretsmanager:secretid"] = []string{sec.arn}
	q.context["aws:resourceaccount"] = []string{sec.store.account}
	for _, t := range sec.tags {
		key := strings.ToLower(t.Key)
		q.context["secretsmanager:resourcetag/"+key] = []string{t.Value}
		q.context["aws:resourcetag/"+key] = []string{t.Value}
	}
	if sec.primaryRegion() != "" {
		q.context["secretsmanager:secretprimaryregion"] = []string{sec.primaryRegion()}
	}
}

// denied is the answer to a request that is not allowed, in the words of "Access
// denied error message examples" in the IAM User Guide.
func (q *question) denied(why string) *Error {
	return &Error{
		Code:    codeAccessDenied,
		Message: "User: " + q.caller.arn + " is not authorized to perform: " + q.action + " on resource: " + q.resource + " " + why,
	}
}

// decide returns what the caller's identity policies say together.
func (c *caller) decide(q *question) decision {
	if c.policies == nil {
		return allow
	}
	out := silent
	for _, p := range c.policies {
		out = max(out, p.decide(q))
	}
	return out
}

// roleARN is what aws:PrincipalArn holds: of a role's session, the role.
func (c *caller) roleARN() string {
	start, session, ok := strings.Cut(c.arn, ":sts::")
	if !ok {
		return c.arn
	}
	account, session, _ := strings.Cut(session, ":assumed-role/")
	role, _, _ := strings.Cut(session, "/")
	return start + ":iam::" + account + ":role/" + role
}
