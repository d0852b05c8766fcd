package smtest

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// A policyError says what is wrong with a policy document, in the words of "Attach a
// permissions policy to a secret" in the Secrets Manager User Guide.
type policyError string

func (e policyError) Error() string { return string(e) }

const (
	errSyntax           policyError = "This resource policy contains a syntax error."
	errPrincipal        policyError = "This resource policy contains an unsupported principal."
	errServicePrincipal policyError = "This resource policy contains an invalid service principal."
)

var (
	accountRE     = regexp.MustCompile(`^\d{12}$`)
	accountRootRE = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}):root$`)
	iamARNRE      = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:(?:user|role)/[\w+=,.@/-]+$`)
	stsARNRE      = regexp.MustCompile(`^arn:aws[a-z-]*:sts::\d{12}:(?:assumed-role/[\w+=,.@-]+|federated-user)/[\w+=,.@-]+$`)
	uniqueIDRE    = regexp.MustCompile(`^A[A-Z0-9]{15,31}$`) // of a principal that was deleted
	serviceRE     = regexp.MustCompile(`^[a-z0-9.-]+\.amazonaws\.com(?:\.cn)?$`)
)

// A kind of policy is what it is attached to.
type policyKind int

const (
	identityPolicy policyKind = iota
	resourcePolicy            // of a secret, or of a key
)

// parsePolicy reads a policy document. The error's text is the service's own.
func parsePolicy(text string, kind policyKind) (*policy, error) {
	var doc struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := strict(text, &doc); err != nil {
		return nil, errSyntax
	}
	if doc.Version != "" && doc.Version != "2012-10-17" && doc.Version != "2008-10-17" {
		return nil, errSyntax
	}
	var all []json.RawMessage
	if err := oneOrMore(doc.Statement, &all); err != nil {
		return nil, errSyntax
	}
	p := &policy{text: text, statements: make([]statement, len(all))}
	for i, raw := range all {
		if err := p.statements[i].parse(raw, kind); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// mustParsePolicy is parsePolicy for what a test sets up.
func mustParsePolicy(doing, text string, kind policyKind) *policy {
	p, err := parsePolicy(text, kind)
	if err != nil {
		panic("smtest: " + doing + ": " + strings.Replace(err.Error(), "This resource policy", "the policy", 1))
	}
	return p
}

func (st *statement) parse(raw json.RawMessage, kind policyKind) error {
	var in struct {
		Sid, Effect             string
		Principal, NotPrincipal json.RawMessage
		Action, NotAction       json.RawMessage
		Resource, NotResource   json.RawMessage
		Condition               map[string]map[string]json.RawMessage
	}
	if err := strict(string(raw), &in); err != nil {
		return errSyntax
	}
	st.deny = in.Effect == "Deny"
	if !st.deny && in.Effect != "Allow" {
		return errSyntax
	}
	var err error
	if st.actions, st.notAction, err = either(in.Action, in.NotAction); err != nil {
		return err
	}
	for i, action := range st.actions {
		if action != "*" && !strings.Contains(action, ":") {
			return errSyntax
		}
		st.actions[i] = strings.ToLower(action)
	}
	if st.resources, st.notResource, err = either(in.Resource, in.NotResource); err != nil {
		return err
	}
	if st.conditions, err = parseConditions(in.Condition); err != nil {
		return err
	}
	if kind == identityPolicy {
		if in.Principal != nil || in.NotPrincipal != nil {
			return errSyntax
		}
		return nil
	}
	who := in.Principal
	if st.notPrincipal = who == nil; st.notPrincipal {
		who = in.NotPrincipal
	} else if in.NotPrincipal != nil {
		return errSyntax
	}
	st.principals, err = parsePrincipals(who)
	return err
}

// either reads one of two elements that exclude each other.
func either(is, not json.RawMessage) (values []string, negated bool, err error) {
	if (is == nil) == (not == nil) {
		return nil, false, errSyntax
	}
	if negated = is == nil; negated {
		is = not
	}
	if err := oneOrMore(is, &values); err != nil || len(values) == 0 {
		return nil, false, errSyntax
	}
	return values, negated, nil
}

func parsePrincipals(raw json.RawMessage) (*principals, error) {
	var word string
	if json.Unmarshal(raw, &word) == nil {
		if word != "*" {
			return nil, errPrincipal
		}
		return &principals{everybody: true}, nil
	}
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(raw, &kinds); err != nil || len(kinds) == 0 {
		return nil, errSyntax
	}
	out := &principals{}
	for kind, raw := range kinds {
		var ids []string
		if err := oneOrMore(raw, &ids); err != nil {
			return nil, errSyntax
		}
		for _, id := range ids {
			if err := out.add(kind, id); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (p *principals) add(kind, id string) error {
	switch kind {
	case "AWS":
	case "Service":
		if !serviceRE.MatchString(id) {
			return errServicePrincipal
		}
		return nil
	case "Federated":
		return nil
	default:
		return errPrincipal
	}
	root := accountRootRE.FindStringSubmatch(id)
	switch {
	case id == "*":
		p.everybody = true
	case accountRE.MatchString(id):
		p.accounts = append(p.accounts, id)
	case root != nil:
		p.accounts = append(p.accounts, root[1])
	case iamARNRE.MatchString(id), stsARNRE.MatchString(id):
		p.arns = append(p.arns, id)
	case uniqueIDRE.MatchString(id):
	default:
		return errPrincipal
	}
	return nil
}

// strict reads a JSON object that has no members but those of out.
func strict(text string, out any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return err
	}
	if d.More() {
		return errSyntax
	}
	return nil
}

// oneOrMore reads a list, or a value that stands for a list of one.
func oneOrMore[T any](raw json.RawMessage, out *[]T) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return errSyntax
	}
	if raw[0] == '[' {
		return json.Unmarshal(raw, out)
	}
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*out = []T{one}
	return nil
}
