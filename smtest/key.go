package smtest

import (
	"regexp"
	"strings"
)

// A Key is a customer managed key of KMS, which secrets are encrypted with that name
// it as their KmsKeyId.
type Key struct {
	// ARN is the key: arn:aws:kms:REGION:ACCOUNT:key/ID. A KmsKeyId names it by this
	// or, in the same account and Region, by ID alone.
	ARN string

	// Alias, alias/NAME, is another name for it. Empty: none.
	Alias string

	// Policy is its key policy, a JSON document. Empty: the one that KMS gives to a new
	// key, which leaves it to the identity policies of the key's account.
	Policy string

	// Disabled keys encrypt and decrypt nothing: reading a value fails with
	// DecryptionFailure and writing one with EncryptionFailure.
	Disabled bool
}

type key struct {
	arn, account string
	policy       *policy // nil: the default one
	disabled     bool
}

var (
	keyARNRE = regexp.MustCompile(`^(arn:aws[a-z-]*:kms:[a-z0-9-]+:(\d{12}):)key/[\w-]+$`)
	aliasRE  = regexp.MustCompile(`^alias/[\w/-]+$`)
)

// AddKey registers a key with its policy, or puts another Key in place of the one
// with its ARN. A secret may name a key that is not registered: that has the default
// policy.
//
// It panics if the ARN, the alias or the policy is not one.
func (s *Server) AddKey(k Key) {
	m := keyARNRE.FindStringSubmatch(k.ARN)
	if m == nil {
		panic("smtest: add key: " + quote(k.ARN) + " is not the ARN of a key")
	}
	added := &key{arn: k.ARN, account: m[2], disabled: k.Disabled}
	if k.Policy != "" {
		added.policy = mustParsePolicy("add key", k.Policy, resourcePolicy)
	}
	if k.Alias != "" && !aliasRE.MatchString(k.Alias) {
		panic("smtest: add key: " + quote(k.Alias) + " is not an alias")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.ARN] = added
	if k.Alias != "" {
		s.keys[m[1]+k.Alias] = added
	}
}

const defaultAlias = "alias/aws/secretsmanager"

// normalKey returns a KmsKeyId as a secret keeps it: empty for the service's own key.
func normalKey(id string) string {
	if id == defaultAlias || strings.HasSuffix(id, ":"+defaultAlias) {
		return ""
	}
	return id
}

// keyLocked returns the key that a secret of st names, and whether it is one of the
// customer's: the other is the service's own.
func (s *Server) keyLocked(st *store, id string) (k *key, customer bool) {
	if id == "" {
		return nil, false
	}
	arn := id
	if !isARN(id) {
		if !strings.HasPrefix(id, "alias/") {
			id = "key/" + id
		}
		arn = "arn:" + partition(st.region) + ":kms:" + st.region + ":" + st.account + ":" + id
	}
	if k := s.keys[arn]; k != nil {
		return k, true
	}
	account := st.account
	if p := strings.SplitN(arn, ":", 6); len(p) == 6 {
		account = p[4]
	}
	return &key{arn: arn, account: account}, true
}

// decrypt reports whether the caller may read what is encrypted with a secret's key.
func (req *request) decrypt(sec *secret, keyID string) *Error {
	k, err := req.useKey(sec, keyID, "kms:Decrypt")
	if err == nil && k != nil && k.disabled {
		err = &Error{Code: codeDecryption, Message: "Secrets Manager can't decrypt the protected secret text using the provided KMS key."}
	}
	return err
}

// encrypt reports whether the caller may store a value under a secret's key.
func (req *request) encrypt(sec *secret, keyID string) *Error {
	k, err := req.useKey(sec, keyID, "kms:GenerateDataKey", "kms:Decrypt")
	if err == nil && k != nil && k.disabled {
		err = &Error{
			Code: codeEncryption,
			Message: "Secrets Manager can't encrypt the protected secret text using the provided KMS key. " +
				"Check that the KMS key is available, enabled, and not in an invalid state.",
		}
	}
	return err
}

// useKey reports whether the caller may use a key in these ways. The service's own
// key is for everybody in the secret's account, and for nobody else.
func (req *request) useKey(sec *secret, keyID string, actions ...string) (*key, *Error) {
	k, customer := req.server.keyLocked(sec.store, keyID)
	if !customer {
		if req.caller.account != sec.store.account {
			return nil, invalidRequest("You can't access a secret from a different AWS account " +
				"if you encrypt the secret with the default KMS service key.")
		}
		return nil, nil
	}
	for _, action := range actions {
		if !req.mayUse(k, sec, action) {
			return nil, &Error{Code: codeAccessDenied, Message: "Access to KMS is not allowed"}
		}
	}
	return k, nil
}

// mayUse asks the key's policy and the caller's. The key's must allow it, itself or,
// by allowing it to the account, through the caller's identity policy.
func (req *request) mayUse(k *key, sec *secret, action string) bool {
	c := req.caller
	same := c.account == k.account
	if same && k.policy == nil && c.policies == nil {
		return true
	}
	q := &question{caller: c, action: action, resource: k.arn, context: map[string][]string{
		"aws:principalarn":                {c.roleARN()},
		"aws:principalaccount":            {c.account},
		"kms:calleraccount":               {c.account},
		"kms:viaservice":                  {"secretsmanager." + sec.store.region + ".amazonaws.com"},
		"kms:encryptioncontext:secretarn": {sec.arn},
	}}
	identity, byKey := c.decide(q), silent
	switch {
	case k.policy != nil:
		byKey = k.policy.decide(q)
	case same:
		byKey = allowAccount
	}
	switch {
	case identity == deny || byKey == deny || byKey == silent:
		return false
	case same && byKey == allow:
		return true
	default:
		return identity == allow
	}
}
