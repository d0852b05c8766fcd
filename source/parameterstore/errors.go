package parameterstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func notFound(format string, args ...any) error {
	return &types.ResourceNotFoundException{Message: aws.String(fmt.Sprintf(format, args...))}
}

// translate puts the word of Secrets Manager for it in the place of Parameter
// Store's, and leaves around it what the SDK says of the call: the operation, the
// status, the request's ID.
func translate(err error) error {
	word := secretsManagers(err)
	if word == nil {
		return err
	}
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.ResponseError != nil {
		word = &awshttp.ResponseError{
			ResponseError: &smithyhttp.ResponseError{Response: answer.Response, Err: word},
			RequestID:     answer.RequestID,
		}
	}
	if op, ok := errors.AsType[*smithy.OperationError](err); ok {
		word = &smithy.OperationError{ServiceID: op.ServiceID, OperationName: op.OperationName, Err: word}
	}
	return word
}

// secretsManagers returns what Secrets Manager would have answered, or nil if that is
// what err says already.
func secretsManagers(err error) error {
	if e, ok := errors.AsType[*ssmtypes.ParameterNotFound](err); ok {
		return &translated{&types.ResourceNotFoundException{Message: message(e, "there is no such parameter")}, e}
	}
	if e, ok := errors.AsType[*ssmtypes.ParameterVersionNotFound](err); ok {
		return &translated{&types.ResourceNotFoundException{Message: message(e, "the parameter has no such version or label")}, e}
	}
	if e, ok := errors.AsType[*ssmtypes.InternalServerError](err); ok {
		return &translated{&types.InternalServiceError{Message: message(e, "Parameter Store failed")}, e}
	}
	if e, ok := errors.AsType[*ssmtypes.InvalidKeyId](err); ok {
		return &translated{&types.DecryptionFailure{Message: message(e, "the KMS key cannot be used")}, e}
	}
	// KMS has a text for a missing permission that names neither action nor key.
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "AccessDeniedException" &&
		strings.HasPrefix(e.ErrorMessage(), "The ciphertext refers to a") {
		return &translated{&smithy.GenericAPIError{Code: e.ErrorCode(), Message: "Access to KMS is not allowed: " + e.ErrorMessage(), Fault: e.ErrorFault()}, e}
	}
	return nil
}

// message returns the text of an error, and of one without a text what it means.
func message(e smithy.APIError, meaning string) *string {
	if text := e.ErrorMessage(); text != "" {
		return &text
	}
	return &meaning
}

// A translated error is one of Secrets Manager's, and below it Parameter Store's own.
type translated struct {
	smithy.APIError
	own smithy.APIError
}

func (t *translated) Unwrap() []error { return []error{t.APIError, t.own} }
