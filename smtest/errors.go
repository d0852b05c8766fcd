package smtest

import (
	"fmt"
	"net/http"
	"strings"
)

// An Error is an error answer of the service. As a [Fault]'s Err it is what the
// client gets; [Server.Rotate] and [Server.Wait] return it too, wrapped.
type Error struct {
	// Code is the exception's name, such as ThrottlingException.
	Code string

	// Message is the text for people. Of a Fault's error, {caller} stands for the
	// ARN of who makes the call, {action} for its IAM action, such as
	// secretsmanager:GetSecretValue, and {resource} for the ARN of the secret, or
	// the id as asked if there is none.
	Message string

	// Status is the HTTP status, 400 if it is zero. The SDK's retries depend on it:
	// it retries 500, 502, 503 and 504, but of 400 only the codes for throttling.
	Status int

	// HTML makes the answer a page for people with that status, as a load balancer
	// gives it: the client sees neither Code nor Message.
	HTML bool
}

// Error returns the code and the message.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

func (e *Error) status() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// Errors for a [Fault], in the service's words. They must not be changed.
//
//nolint:errname // They are answers to give, not errors to compare with.
var (
	// AccessDenied says that no policy of the caller's identity allows the call.
	AccessDenied = &Error{
		Code: "AccessDeniedException",
		Message: "User: {caller} is not authorized to perform: {action} " +
			"on resource: {resource} because no identity-based policy allows the {action} action",
	}

	// AccessDeniedByResource says that the resource policy of the secret denies the
	// call.
	AccessDeniedByResource = &Error{
		Code: "AccessDeniedException",
		Message: "User: {caller} is not authorized to perform: {action} " +
			"on resource: {resource} with an explicit deny in a resource-based policy",
	}

	// AccessDeniedByKMS says that the caller may not use the secret's KMS key.
	AccessDeniedByKMS = &Error{Code: "AccessDeniedException", Message: "Access to KMS is not allowed"}

	// Throttling is the answer to a caller over its request rate. The SDK retries it.
	Throttling = &Error{Code: "ThrottlingException", Message: "Rate exceeded"}

	// InternalServiceError is a failure inside the service. The SDK retries it.
	InternalServiceError = &Error{
		Code:    codeInternal,
		Message: "An error occurred on the server side.",
		Status:  http.StatusInternalServerError,
	}
)

const (
	codeNotFound         = "ResourceNotFoundException"
	codeExists           = "ResourceExistsException"
	codeInvalidParameter = "InvalidParameterException"
	codeInvalidRequest   = "InvalidRequestException"
	codeInvalidToken     = "InvalidNextTokenException"
	codeLimit            = "LimitExceededException"
	codeInternal         = "InternalServiceError"
	codeValidation       = "ValidationException"
	codeAccessDenied     = "AccessDeniedException"
	codeSerialization    = "SerializationException"
	codeDecryption       = "DecryptionFailure"
	codeEncryption       = "EncryptionFailure"
	codeMalformedPolicy  = "MalformedPolicyDocumentException"
	codePublicPolicy     = "PublicPolicyException"
)

// errClosed has no counterpart in AWS. Its status is one that the SDK does not
// retry, so that a test which closed its server too early fails at once.
var errClosed = &Error{Code: "ServerClosed", Message: "smtest: the server is closed"}

// modeled are the exceptions of the service's model. AWS spells the text's
// member "Message" for them and "message" for the protocol's common ones.
var modeled = map[string]bool{
	codeNotFound: true, codeExists: true, codeInvalidParameter: true, codeInvalidRequest: true,
	codeInvalidToken: true, codeLimit: true, codeInternal: true,
	codeDecryption: true, codeEncryption: true, codeMalformedPolicy: true,
	"PreconditionNotMetException": true, codePublicPolicy: true,
}

func notFound(format string, args ...any) *Error {
	return &Error{Code: codeNotFound, Message: fmt.Sprintf(format, args...)}
}

func exists(format string, args ...any) *Error {
	return &Error{Code: codeExists, Message: fmt.Sprintf(format, args...)}
}

func invalidParameter(format string, args ...any) *Error {
	return &Error{Code: codeInvalidParameter, Message: fmt.Sprintf(format, args...)}
}

func invalidRequest(format string, args ...any) *Error {
	return &Error{Code: codeInvalidRequest, Message: fmt.Sprintf(format, args...)}
}

func validation(format string, args ...any) *Error {
	return &Error{Code: codeValidation, Message: fmt.Sprintf(format, args...)}
}

// fill puts what the call is into the message of a fault's error.
func (e *Error) fill(caller, action, resource string) *Error {
	out := *e
	out.Message = strings.NewReplacer("{caller}", caller, "{action}", action, "{resource}", resource).Replace(e.Message)
	return &out
}
