package cache_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// The messages are in the words of "Access denied error message examples" in the
// IAM User Guide.
const (
	deniedARN  = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-a1B2c3"
	deniedKey  = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	deniedUser = "User: arn:aws:sts::123456789012:assumed-role/app/i is not authorized to perform: "
	deniedRead = deniedUser + "secretsmanager:GetSecretValue on resource: " + deniedARN + " "
	deniedOpen = deniedUser + "kms:Decrypt on resource: " + deniedKey + " "
)

// A denial says which policy it is, and what on what to allow there.
func TestAccessDeniedExplains(t *testing.T) {
	const (
		read   = "secretsmanager:GetSecretValue"
		allows = "does not allow it: add " + read + " on " + deniedARN
		denies = "denies it outright: take the Deny of " + read + " on " + deniedARN
	)
	for _, test := range []struct {
		message string
		policy  string   // what the advice begins with: who denies it
		want    []string // what it says besides
	}{
		{deniedRead + "because no identity-based policy allows the " + read + " action", "the caller's identity policy", []string{allows}},
		{deniedRead + "with an explicit deny in an identity-based policy", "the caller's identity policy", []string{denies}},
		{
			deniedRead + "with an explicit deny in an identity-based policy: arn:aws:iam::123456789012:policy/NoSecrets",
			"the caller's identity policy",
			[]string{denies},
		},
		{deniedRead + "because no resource-based policy allows the " + read + " action", "the resource policy on the secret", []string{allows}},
		{deniedRead + "with an explicit deny in a resource-based policy", "the resource policy on the secret", []string{denies}},
		{deniedRead + "because no permissions boundary allows the " + read + " action", "the caller's permissions boundary", []string{allows}},
		{deniedRead + "with an explicit deny in a permissions boundary", "the caller's permissions boundary", []string{denies}},
		{deniedRead + "because no service control policy allows the " + read + " action", "a service control policy", []string{allows}},
		{deniedRead + "with an explicit deny in a service control policy", "a service control policy", []string{denies}},
		{
			deniedRead + "with an explicit deny in a service control policy: arn:aws:organizations::777788889999:policy/o-ex/service_control_policy/p-ex",
			"a service control policy",
			[]string{denies},
		},
		{deniedRead + "with an explicit deny in a VPC endpoint policy transitively through a service control policy", "a service control policy", []string{denies}},
		{deniedRead + "with an explicit deny in a resource control policy", "a resource control policy", []string{denies}},
		{deniedRead + "because no session policy allows the " + read + " action", "the session policy", []string{allows}},
		{deniedRead + "with an explicit deny in a session policy", "the session policy", []string{denies}},
		{deniedRead + "with an explicit deny in a sessions policy", "the session policy", []string{denies}}, // the guide's spelling
		{deniedRead + "because no VPC endpoint policy allows the " + read + " action", "the policy of the VPC endpoint", []string{allows}},
		{deniedRead + "with an explicit deny in a VPC endpoint policy", "the policy of the VPC endpoint", []string{denies}},

		// Without the resource, the ID that was asked for stands in for it.
		{
			deniedUser + read + " because no resource-based policy allows the " + read + " action",
			"the resource policy on the secret",
			[]string{"add " + read + " on prod/db"},
		},
		// Without the policy, and in words that nobody knows: all that it may be.
		{strings.TrimSpace(deniedRead), "allow " + read + " on " + deniedARN, []string{"identity policy", "resource policy", "KMS key policy"}},
		{"No.", "allow " + read + " on prod/db", []string{"identity policy", "resource policy", "KMS key policy"}},

		// The third policy is that of the key.
		{"Access to KMS is not allowed", "the KMS key policy", []string{"kms:Decrypt", "the key of prod/db", "identity policy"}},
		{deniedOpen + "because no resource-based policy allows the kms:Decrypt action", "the KMS key policy", []string{"kms:Decrypt"}},
		{deniedOpen + "with an explicit deny in a resource-based policy", "the KMS key policy", []string{"kms:Decrypt"}},
		{strings.TrimSpace(deniedOpen), "", []string{"KMS key policy", "identity policy", "kms:Decrypt"}},
	} {
		checkDenied(t, test.message, func(t *testing.T, text, advice string) {
			if !strings.HasPrefix(advice, test.policy) {
				t.Errorf("the advice %q is not about %q", advice, test.policy)
			}
			for _, want := range test.want {
				if !strings.Contains(advice, want) {
					t.Errorf("the advice %q does not say %q", advice, want)
				}
			}
			if strings.Contains(test.message, deniedKey) && !strings.Contains(text, deniedKey) {
				t.Errorf("%q does not name the key", text)
			}
		})
	}
}

// checkDenied reads a secret that is denied in these words, and has f check the
// text and the part of it that is ours.
func checkDenied(t *testing.T, message string, f func(t *testing.T, text, advice string)) {
	t.Helper()
	name := strings.NewReplacer(deniedRead, "", deniedOpen, "kms:Decrypt ", deniedUser, "").Replace(message)
	t.Run(name, func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			srv.Inject(smtest.Fault{Err: &smtest.Error{Code: "AccessDeniedException", Message: message}})
			_, err := c.Get(t.Context(), "prod/db")
			failed, ok := errors.AsType[*cache.Error](err)
			if !ok || failed.Transient || errors.Is(err, cache.ErrNotFound) {
				t.Fatalf("Get: %#v, want a denial that lasts", err)
			}
			// What the service said is there, word for word, and then what we say.
			text := err.Error()
			advice, ok := strings.CutPrefix(text, `cache: get secret "prod/db" (AWSCURRENT): AccessDeniedException: `+message+" (")
			if !ok || !strings.HasSuffix(advice, ")") {
				t.Fatalf("%q does not begin with what the service said", text)
			}
			if advice = strings.TrimSuffix(advice, ")"); failed.Remedy() != advice {
				t.Errorf("Remedy is %q, and the text says %q", failed.Remedy(), advice)
			}
			f(t, text, advice)
			// The SDK's error is in it for who wants to know more.
			if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorMessage() != message {
				t.Errorf("errors.As finds no APIError of it in %v", err)
			}
			for range 10 {
				_, _ = c.Get(t.Context(), "prod/db")
			}
			calls(t, srv, 1) // the failure is held
		})
	})
}

// A key has more than its own policy over it, and the message says which it was.
func TestAccessDeniedByKMSNamesThePolicy(t *testing.T) {
	for _, test := range []struct{ why, policy string }{
		{"because no identity-based policy allows the kms:Decrypt action", "the caller's identity policy"},
		{"with an explicit deny in an identity-based policy", "the caller's identity policy"},
		{"with an explicit deny in a service control policy", "a service control policy"},
		{"because no session policy allows the kms:Decrypt action", "the session policy"},
		{"because no permissions boundary allows the kms:Decrypt action", "the caller's permissions boundary"},
		{"because no VPC endpoint policy allows the kms:Decrypt action", "the policy of the VPC endpoint"},
	} {
		checkDenied(t, deniedOpen+test.why, func(t *testing.T, _, advice string) {
			if !strings.HasPrefix(advice, test.policy) || !strings.Contains(advice, "kms:Decrypt") {
				t.Errorf("the advice %q is not about %q and kms:Decrypt", advice, test.policy)
			}
		})
	}
}

// What is called after KMS is not KMS.
func TestAccessDeniedOfSomethingCalledKMS(t *testing.T) {
	const why = " because no identity-based policy allows the secretsmanager:GetSecretValue action"
	for _, message := range []string{
		"User: arn:aws:sts::123456789012:assumed-role/KMS-reader/i is not authorized to perform: secretsmanager:GetSecretValue on resource: " + deniedARN + why,
		deniedUser + "secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:us-east-1:123456789012:secret:KMS/key-a1B2c3" + why,
	} {
		checkDenied(t, message, func(t *testing.T, _, advice string) {
			if !strings.HasPrefix(advice, "the caller's identity policy does not allow it: add secretsmanager:GetSecretValue on arn:") {
				t.Errorf("the advice %q is not about the caller's identity policy", advice)
			}
		})
	}
}

// By its ARN, and in a batch, a secret is denied in the same words, under the ID as
// it was given.
func TestAccessDeniedNamesTheIDAsGiven(t *testing.T) {
	named(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		get(t, c, "v1")
		wantText(t, c, arn, "v1")
		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{Err: smtest.AccessDeniedByKMS})
		for _, id := range []string{"prod/db", arn} {
			for what, err := range map[string]error{"Get": second(c.Get(t.Context(), id)), "Prefetch": c.Prefetch(t.Context(), id)} {
				want := []string{`get secret "` + id + `"`, "Access to KMS is not allowed (the KMS key policy", "the key of " + id + " "}
				for _, want := range want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v does not say %q", what, err, want)
					}
				}
			}
		}
	})
}

// notTheSecrets checks that an error is taken for one of the caller's credentials:
// it passes, and says nothing of the secret's policies.
func notTheSecrets(t *testing.T, what string, err error) {
	t.Helper()
	failed, ok := errors.AsType[*cache.Error](err)
	if !ok {
		t.Errorf("%s: %v is no *cache.Error", what, err)
		return
	}
	if !failed.Transient {
		t.Errorf("%s: %v is taken for an error that lasts", what, err)
	}
	if errors.Is(err, cache.ErrNotFound) {
		t.Errorf("%s: %v is taken for a secret that is not found", what, err)
	}
	for _, advice := range []string{"GetSecretValue on", "identity policy", "resource policy", "KMS", "check the name", "check the secret ID", "RestoreSecret"} {
		if strings.Contains(err.Error(), advice) {
			t.Errorf("%s: %v tells what to do about the secret: %q", what, err, advice)
		}
	}
}

// A credentialsEndpointError is what the SDK's endpointcreds package returns, which
// fetches the credentials of a container and of a pod: an APIError that no
// smithy.OperationError is around.
type credentialsEndpointError struct{ code, message string }

func (e *credentialsEndpointError) Error() string                 { return e.code + ": " + e.message }
func (e *credentialsEndpointError) ErrorCode() string             { return e.code }
func (e *credentialsEndpointError) ErrorMessage() string          { return e.message }
func (e *credentialsEndpointError) ErrorFault() smithy.ErrorFault { return smithy.FaultClient }

// response wraps an error as the SDK wraps one that a service has answered with.
func response(status int, err error) error {
	return &awshttp.ResponseError{RequestID: "id", ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err,
	}}
}

func operation(service, name string, err error) error {
	return &smithy.OperationError{ServiceID: service, OperationName: name, Err: err}
}

// Credentials that cannot be fetched are no denial of the secret, whatever the
// service says that gives them out: values go on being served.
func TestCredentialsThatCannotBeFetched(t *testing.T) {
	denied := &smithy.GenericAPIError{Code: "AccessDenied", Message: "User: u is not authorized to perform: sts:AssumeRole on resource: r"}
	deniedException := &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "no identity-based policy allows it"}
	for name, cause := range map[string]error{
		"no provider answers": errors.New("no EC2 IMDS role found"),
		"STS denies":          operation("STS", "AssumeRole", response(http.StatusForbidden, denied)),
		"STS denies, bare":    operation("STS", "AssumeRole", deniedException),
		"a chain of roles": operation("STS", "AssumeRole", errors.Join(errors.New("get identity"),
			operation("STS", "AssumeRoleWithWebIdentity", response(http.StatusForbidden, deniedException)))),
		"SSO knows no such account": operation("SSO", "GetRoleCredentials", response(http.StatusNotFound, &types.ResourceNotFoundException{Message: aws.String("no account")})),
		"SSO finds the request bad": operation("SSO", "GetRoleCredentials", response(http.StatusBadRequest, &smithy.GenericAPIError{Code: "InvalidRequestException", Message: "no"})),
		"a token is refused":        operation("STS", "AssumeRoleWithWebIdentity", response(http.StatusBadRequest, &smithy.GenericAPIError{Code: "ValidationException", Message: "no"})),
		"IMDS denies":               operation("ec2imds", "GetMetadata", response(http.StatusForbidden, denied)),
		"an endpoint denies":        &credentialsEndpointError{"AccessDeniedException", "EKS does not have permissions to assume the associated role."},
		"an endpoint knows no such": &credentialsEndpointError{"ResourceNotFoundException", "The service account has no association."},
		"an endpoint says so in plain text": &credentialsEndpointError{
			"", "(AccessDeniedException): Unauthorized Exception! EKS does not have permissions to assume the associated role.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := smtest.New(nil)
				defer srv.Close()
				srv.Put("prod/db", "v1")
				var fails error
				// The SDK caches credentials by default, and wraps the error for it.
				provider := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "x", CanExpire: true, Expires: time.Now().Add(time.Minute)}, fails
				}))
				client := srv.Client(noRetry, func(o *secretsmanager.Options) { o.Credentials = provider })
				c, err := cache.New(client, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				get(t, c, "v1")
				time.Sleep(5 * time.Minute)
				fails = cause
				_, err = c.Refresh(t.Context(), "prod/db")
				notTheSecrets(t, "Refresh", err)
				if !errors.Is(err, cause) {
					t.Errorf("%v does not wrap the cause", err)
				}
				if text := err.Error(); !strings.HasPrefix(text, `cache: refresh secret "prod/db" (AWSCURRENT): `) || !strings.Contains(text, cause.Error()) {
					t.Errorf("%q does not say the cause", text)
				}
				get(t, c, "v1") // it is an outage: the last value is served
				_, err = c.Get(t.Context(), "prod/other")
				notTheSecrets(t, "Get", err)
				notTheSecrets(t, "Prefetch", c.Prefetch(t.Context(), "prod/third"))
				fails = nil
				time.Sleep(time.Minute)
				srv.Put("prod/db", "v2")
				if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v2" {
					t.Errorf("Refresh with credentials = %v, %v", s, err)
				}
			})
		})
	}
}

// Credentials that Secrets Manager does not accept are renewed by themselves.
func TestCredentialsThatAreRefused(t *testing.T) {
	for code, advice := range map[string]string{
		"ExpiredTokenException":       "session has expired",
		"UnrecognizedClientException": "access key is not valid",
		"InvalidClientTokenId":        "access key is not valid",
		"InvalidSignatureException":   "signature is not valid",
		"SignatureDoesNotMatch":       "",
		"IncompleteSignature":         "",
		"MissingAuthenticationToken":  "",
	} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(5 * time.Minute)
			remove := srv.Inject(smtest.Fault{Err: &smtest.Error{Code: code, Message: "The security token is not to the service's liking"}})
			_, err := c.Refresh(t.Context(), "prod/db")
			notTheSecrets(t, code, err)
			if err != nil && (!strings.Contains(err.Error(), code+": The security token") || !strings.Contains(err.Error(), advice)) {
				t.Errorf("%v does not say %q", err, advice)
			}
			get(t, c, "v1")
			notTheSecrets(t, code+", Prefetch", c.Prefetch(t.Context(), "prod/other"))
			remove()
			time.Sleep(time.Minute)
			srv.Put("prod/db", "v2")
			if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v2" {
				t.Errorf("%s: Refresh after it = %v, %v", code, s, err)
			}
		})
	}
}

// An error of the service stays the service's, though what it was asked for had to
// be signed first: a denial with good credentials ends the value's life.
func TestDenialEndsTheValuesLife(t *testing.T) {
	for _, fault := range []*smtest.Error{smtest.AccessDenied, smtest.AccessDeniedByResource, smtest.AccessDeniedByKMS} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(5 * time.Minute)
			srv.Inject(smtest.Fault{Err: fault})
			if s, err := c.Get(t.Context(), "prod/db"); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") {
				t.Errorf("Get = %v, %v, want the denial", s, err)
			}
		})
	}
}
