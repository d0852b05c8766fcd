package cache

import (
	"errors"
	"fmt"
	"runtime"
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
	text := fmt.Sprintf("cache: %s secret %q (%s): ", e.Op, e.SecretID, e.Stage)
	api, ok := errors.AsType[smithy.APIError](e.Err)
	if !ok {
		return text + e.Err.Error()
	}
	// The SDK's own text repeats the operation and the attempt's headers
	// before it comes to the point.
	text += api.ErrorCode() + ": " + api.ErrorMessage()
	if advice := advice[api.ErrorCode()]; advice != "" {
		text += " (" + advice + ")"
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
	api, ok := errors.AsType[smithy.APIError](e.Err)
	return ok && api.ErrorCode() == "ResourceNotFoundException"
}

// advice holds the refusals that do not go away by themselves, and what does
// away with them. Source: the Errors section of GetSecretValue in the AWS
// Secrets Manager API Reference, and its list of common errors. What is not
// here is transient: throttling and an expired session are answered with
// HTTP 400 like these, so the status says nothing.
var advice = map[string]string{
	"ResourceNotFoundException": "check the name, the region and the account of the client, and that a version has this label; a secret of another account needs its full ARN",
	"AccessDeniedException":     "allow secretsmanager:GetSecretValue on this secret in the caller's identity policy, and deny it nowhere; a secret of another account needs its resource policy and its KMS key policy too",
	"DecryptionFailure":         "allow kms:Decrypt on the secret's KMS key, and check that the key is enabled",
	"InvalidRequestException":   "if the secret is scheduled for deletion, restore it with RestoreSecret",
	"InvalidParameterException": "check the secret ID and the staging label",
	"ValidationException":       "check the secret ID: a name holds only letters, digits and -/_+=.@!",
}

// transient reports whether err may go away by itself. It looks at types and
// codes: texts change with the service's version.
func transient(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return true // the network, a deadline, a 5xx without a body
	}
	return advice[api.ErrorCode()] == ""
}

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
func panicked(value any) error {
	if err, ok := value.(runtime.Error); ok {
		return fmt.Errorf("the client panicked: %w", err)
	}
	if value == nil {
		return errors.New("the client ended its goroutine")
	}
	return fmt.Errorf("the client panicked with a %T", value)
}
