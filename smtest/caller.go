package smtest

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// A Caller is a principal of IAM with the access key that it signs requests with.
// What it asks for by name is a secret of its own account; a secret of another
// account it must name by its full ARN.
type Caller struct {
	// ARN is the principal, as AWS names who makes a request:
	// arn:aws:iam::ACCOUNT:user/NAME, arn:aws:iam::ACCOUNT:root or, for a role,
	// arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION.
	ARN string

	// AccessKeyID is the access key that the requests are signed with, of 16 to 128
	// letters and digits. Empty: a random one.
	AccessKeyID string

	// Policies are its identity policies, JSON documents, of which a request to a
	// secret of its own account needs one that allows it, or the resource policy on
	// the secret, and a request to one of another account both. For a secret with a
	// customer managed key (see [Server.AddKey]) they count for the kms actions too.
	// None: it may do everything, as an administrator.
	//
	// Conditions see the keys secretsmanager:VersionStage, VersionId, SecretId and
	// ResourceTag, and aws:PrincipalArn, PrincipalAccount, ResourceAccount,
	// ResourceTag, RequestedRegion and SecureTransport; others are absent from every
	// request. Policy variables, such as ${aws:username}, are not replaced.
	Policies []string
}

// A caller is a Caller that is registered. It never changes.
type caller struct {
	arn, account string
	keyID        string
	policies     []*policy // nil: it may do everything
}

var (
	principalRE = regexp.MustCompile(`^arn:aws[a-z-]*:(?:iam::(\d{12}):(?:root|user/[\w+=,.@/-]+)|sts::(\d{12}):assumed-role/[\w+=,.@-]+/[\w+=,.@-]+)$`)
	accessKeyRE = regexp.MustCompile(`^\w{16,128}$`)
)

// defaultCaller is who makes the requests of an access key that is not registered,
// and those that are not signed: a role of the server's account that may do
// everything.
func defaultCaller(account string) *caller {
	return &caller{arn: "arn:aws:sts::" + account + ":assumed-role/app/i", account: account, keyID: "AKIASMTEST"}
}

// AddCaller registers a principal of any account, and returns an option with which
// [Server.Client] makes a client of it:
//
//	app := srv.AddCaller(smtest.Caller{ARN: "arn:aws:iam::111122223333:user/app"})
//	client := srv.Client(app)
//
// Requests that are signed with an access key nobody has registered, or not signed,
// are made by a role of the server's own account that may do everything. An access
// key that was registered before is the new caller's from now on.
//
// It panics if the ARN, the access key or a policy is not one: a test with a caller
// who may do more than it says proves nothing.
func (s *Server) AddCaller(c Caller) func(*secretsmanager.Options) {
	who := &caller{arn: c.ARN, keyID: c.AccessKeyID}
	m := principalRE.FindStringSubmatch(c.ARN)
	if m == nil {
		panic("smtest: add caller: " + quote(c.ARN) + " is not the ARN of a user, of an account's root or of a role's session")
	}
	who.account = m[1] + m[2]
	switch {
	case who.keyID == "":
		who.keyID = newAccessKeyID()
	case !accessKeyRE.MatchString(who.keyID):
		panic("smtest: add caller: " + quote(who.keyID) + " is not an access key id")
	}
	for _, text := range c.Policies {
		who.policies = append(who.policies, mustParsePolicy("add caller", text, identityPolicy))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callers[who.keyID] = who
	return func(o *secretsmanager.Options) { o.Credentials = credentials(who.keyID) }
}

// credentials returns the credentials that a client signs with. Nobody verifies the
// signature.
func credentials(keyID string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: "smtest", Source: "smtest"}, nil
	})
}

// A scope is what the signature of a request says of it, unverified; its fields are
// empty for a request that is not signed.
type scope struct{ keyID, region string }

// scopeOf reads Authorization: AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/secretsmanager/aws4_request, ...
func scopeOf(r *http.Request) scope {
	_, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if !ok {
		return scope{}
	}
	rest, _, _ = strings.Cut(rest, ",")
	keyID, rest, _ := strings.Cut(rest, "/")
	_, rest, _ = strings.Cut(rest, "/")
	region, _, _ := strings.Cut(rest, "/")
	if !isRegion(region) {
		region = ""
	}
	return scope{keyID: keyID, region: region}
}

// isRegion reports whether s looks as the code of a Region does. It is on the path
// of every request, so it is no regular expression.
func isRegion(s string) bool {
	if len(s) < 8 || len(s) > 32 || strings.Count(s, "-") < 2 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		last := i == len(s)-1
		if digit := c >= '0' && c <= '9'; digit != last || !digit && c != '-' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// comesFromLocked enters into a request who makes it, and whose secrets it sees.
func (s *Server) comesFromLocked(req *request, from scope) {
	req.caller = s.callers[from.keyID]
	if req.caller == nil {
		req.caller = s.anybody
	}
	if from.region == "" {
		from.region = s.opts.Region
	}
	req.store = s.storeLocked(req.caller.account, from.region)
}
