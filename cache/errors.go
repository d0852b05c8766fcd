package cache

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

var (
	// ErrClosed is returned by every method of a Cache, and of its Handles,
	// after [Cache.Close]. Do not retry.
	ErrClosed = errors.New("cache: closed")

	// ErrNotFound matches, under [errors.Is], an [*Error] that says that the
	// secret, or the asked version or staging label of it, does not exist.
	ErrNotFound = errors.New("cache: secret not found")
)

// An Error is a failed read of a secret. It wraps the SDK's own error, which
// [errors.As] finds, and its text never holds a value.
type Error struct {
	SecretID  string // as the caller gave it
	Stage     string // the staging label that was asked for
	VersionID string // the version that was asked for instead of a label
	Op        string // "get" or "refresh"
	Transient bool   // trying again later may help, without anybody changing anything

	// Began is the start of the call that failed; what the service did after
	// it, the error says nothing of.
	Began time.Time

	Err error // what the client returned, or the context's error
}

// Error names the secret, what went wrong and, where the service refused, what
// to do about it.
func (e *Error) Error() string {
	which := e.Stage
	if e.VersionID != "" {
		which = "version " + e.VersionID
	}
	return fmt.Sprintf("cache: %s secret %q (%s): %s", e.Op, e.SecretID, which, e.problem())
}

// problem is the text without the secret.
func (e *Error) problem() string {
	api, ok := serviceError(e.Err)
	if !ok {
		return fmt.Sprint(e.Err)
	}
	// The SDK's own text repeats the operation and the attempt's headers
	// before it comes to the point.
	text := api.ErrorCode() + ": " + api.ErrorMessage()
	if remedy := e.Remedy(); remedy != "" {
		text += " (" + remedy + ")"
	}
	return text
}

// Unwrap returns the client's error.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is [ErrNotFound] and e says that.
func (e *Error) Is(target error) bool {
	if target != ErrNotFound {
		return false
	}
	api, ok := serviceError(e.Err)
	return ok && api.ErrorCode() == "ResourceNotFoundException"
}

// Remedy returns what to do about the service's answer in Err: which policy to
// change, for example, and how. It is empty if nothing is known, or if it was not the
// service that answered. The text has it too.
func (e *Error) Remedy() string {
	api, ok := serviceError(e.Err)
	if !ok {
		return ""
	}
	code := api.ErrorCode()
	if code == "AccessDeniedException" {
		return deniedAdvice(e.SecretID, api.ErrorMessage())
	}
	if code == "InvalidRequestException" && strings.Contains(api.ErrorMessage(), "default KMS service key") {
		return "aws/secretsmanager is for its own account alone: have the owner give the secret a key of its own by UpdateSecret, " +
			"and allow kms:Decrypt on that in the key's policy and in the caller's identity policy"
	}
	if lasting := lastingErrors[code]; lasting != "" {
		return lasting
	}
	return passingErrors[code]
}

// lastingErrors are the refusals that do not go away by themselves, and what does
// away with them. Source: the Errors section of GetSecretValue in the AWS
// Secrets Manager API Reference, and its list of common errors. What is not
// here is transient: throttling and an expired session are answered with
// HTTP 400 like these, so the status says nothing.
var lastingErrors = map[string]string{
	"ResourceNotFoundException": "check the name, the region and the account of the client, and that a version has this label; a secret of another account needs its full ARN",
	"AccessDeniedException":     "", // see deniedAdvice
	"DecryptionFailure":         "allow kms:Decrypt on the secret's KMS key, and check that the key is enabled",
	"InvalidRequestException":   "if the secret is scheduled for deletion, restore it with RestoreSecret",
	"InvalidParameterException": "check the secret ID and the staging label",
	"ValidationException":       "check the secret ID: a name holds only letters, digits and -/_+=.@!",
}

// passingErrors are those of the caller's own credentials: they are renewed without
// anybody's doing, or a sidecar brings them late.
var passingErrors = map[string]string{
	"ExpiredTokenException":       "the caller's session has expired: see that its credentials are renewed",
	"UnrecognizedClientException": "the caller's access key is not valid: check its credentials and the region",
	"InvalidClientTokenId":        "the caller's access key is not valid: check its credentials and the region",
	"InvalidSignatureException":   "the signature is not valid: check the caller's secret key and the machine's clock",
	"ThrottlingException":         "the caller's account asks too often in this region: share one Cache per process, and see that its TTL is not too short",
}

// deniedAdvice says which of the three policies that reading a secret takes has
// denied it, by the service's own words, and what to allow there. The words are
// those of "Access denied error message examples" in the IAM User Guide. Only
// this text depends on them: that access is denied, the code says.
func deniedAdvice(secretID, message string) string {
	action, resource := "secretsmanager:GetSecretValue", secretID
	if _, rest, ok := strings.Cut(message, "is not authorized to perform: "); ok {
		action, _, _ = strings.Cut(rest, " ")
		if _, rest, ok := strings.Cut(rest, "on resource: "); ok {
			resource, _, _ = strings.Cut(rest, " ")
		}
	}
	policy := ""
	for _, known := range [...]struct{ words, policy string }{
		{"identity-based policy", "the caller's identity policy"},
		{"resource-based policy", "the resource policy on the secret"},
		{"permissions boundary", "the caller's permissions boundary"},
		{"service control policy", "a service control policy of the organization"},
		{"resource control policy", "a resource control policy of the organization"},
		{"session policy", "the session policy that the role was assumed with"},
		{"sessions policy", "the session policy that the role was assumed with"},
		{"VPC endpoint policy", "the policy of the VPC endpoint"},
	} {
		if strings.Contains(message, known.words) {
			policy = known.policy
			break
		}
	}
	if strings.HasPrefix(action, "kms:") && policy == "the resource policy on the secret" {
		policy = "the KMS key policy"
	}
	switch {
	case strings.HasPrefix(message, "Access to KMS is not allowed") || policy == "" && strings.HasPrefix(action, "kms:"):
		// KMS says neither which policy it was nor which key.
		return fmt.Sprintf("the KMS key policy or the caller's identity policy does not: allow kms:Decrypt on the key of %s to the caller, "+
			"in the key's policy, or in the identity policy where the key's leaves it to that; in both if the key is of another account, "+
			"and then it must not be aws/secretsmanager or another that AWS manages", secretID)
	case policy != "" && strings.Contains(message, "explicit deny"):
		return fmt.Sprintf("%s denies it outright: take the Deny of %s on %s out of it", policy, action, resource)
	case policy != "":
		return fmt.Sprintf("%s does not allow it: add %s on %s to it; a secret of another account needs its full ARN, "+
			"the identity policy, the resource policy on the secret and the KMS key policy", policy, action, resource)
	}
	return fmt.Sprintf("allow %s on %s in the caller's identity policy, and deny it nowhere; a secret of another account "+
		"needs its full ARN, the resource policy on the secret and the KMS key policy too", action, resource)
}

// serviceError returns the error that Secrets Manager answered with, if err is
// one. What another service answered with, or some endpoint, when the SDK fetched
// the caller's credentials from it, is not: the SDK's errors have the name of the
// service, and the answer, wrapped around what the service says.
func serviceError(err error) (smithy.APIError, bool) {
	if _, ok := errors.AsType[*rejection](err); ok {
		return nil, false
	}
	if _, ok := errors.AsType[*interruption](err); ok {
		return nil, false // it was the answer to an earlier call
	}
	if outer, ok := errors.AsType[*smithy.OperationError](err); ok {
		if inner, ok := errors.AsType[*smithy.OperationError](outer.Err); ok && inner.ServiceID != outer.ServiceID {
			return nil, false
		}
		answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
		if !ok {
			return nil, false
		}
		err = answer
	}
	return errors.AsType[smithy.APIError](err)
}

// transient reports whether err may go away by itself. It looks at types and
// codes: texts change with the service's version.
func transient(err error) bool {
	api, ok := serviceError(err)
	if !ok {
		return true // the network, a deadline, a 5xx without a body
	}
	_, lasting := lastingErrors[api.ErrorCode()]
	return !lasting
}

// fail returns err as this entry's error.
func (e *entry) fail(op op, began time.Time, err error) *Error {
	failed := &Error{SecretID: e.key.id, VersionID: e.key.version, Op: string(op), Transient: transient(err), Began: began, Err: err}
	if e.key.version == "" {
		failed.Stage = e.key.label()
	}
	return failed
}

// named returns an error under this entry's name: the one that read for it may
// have another.
func (e *entry) named(err error) error {
	failed, ok := err.(*Error) //nolint:errorlint // Reads return it bare.
	if !ok || failed.SecretID == e.key.id {
		return err
	}
	renamed := *failed
	renamed.SecretID = e.key.id
	return &renamed
}

// An interruption is the error of a reader whose context has ended, where the last
// call had failed. What the service said then is most likely what the next call
// meets, so the text has it; but nobody knows, and to programs it counts for no
// denial.
type interruption struct {
	err  error  // the context's
	last *Error // of the last call
}

func (i *interruption) Error() string {
	return i.err.Error() + "; the last call failed: " + i.last.problem()
}

func (i *interruption) Unwrap() []error { return []error{i.err, i.last.Err} }

// sanitize returns err, or in its stead a text without the parts in which the
// client keeps what the service sent: a body that could not be decoded is most
// likely a secret.
func sanitize(err error) error {
	if _, ok := errors.AsType[*smithy.DeserializationError](err); !ok {
		return err
	}
	status := ""
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.Response != nil {
		status = fmt.Sprintf(" (HTTP status %d)", response.HTTPStatusCode())
	}
	return fmt.Errorf("the service's answer could not be decoded%s; is something between the client and AWS?", status)
}

// panicked turns what recover returned into an error. A panic's value may hold
// anything, so only its type is told, but for the runtime's own, which speak of
// the program alone.
func panicked(what string, value any) error {
	if err, ok := value.(runtime.Error); ok {
		return fmt.Errorf("%s panicked: %w", what, err)
	}
	if value == nil {
		return fmt.Errorf("%s ended its goroutine", what)
	}
	return fmt.Errorf("%s panicked with a %T", what, value)
}
