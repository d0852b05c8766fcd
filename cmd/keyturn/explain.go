package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/cache"
)

// A failure is an error of a call, in words for people.
type failure struct {
	code string // the service's; "" if it has not answered
	text string
	fix  string
}

// explain takes apart the error of a call about a secret. What to do is what package
// cache says in an application's log, so that both say the same.
func explain(secret string, err error) failure {
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return failure{text: "the answer could not be decoded; is something between this machine and AWS?"} // the error may quote it
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return failure{text: "no answer in time", fix: "see that this machine reaches the service, or give more time with -timeout"}
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if _, answered := errors.AsType[*smithyhttp.ResponseError](err); !ok || !answered || elsewhere(err) {
		return failure{text: err.Error(), fix: "see that this machine has credentials (aws sts get-caller-identity) and reaches the service"}
	}
	return failure{
		code: api.ErrorCode(),
		text: api.ErrorCode() + ": " + api.ErrorMessage(),
		fix:  (&cache.Error{SecretID: secret, Err: err}).Remedy(),
	}
}

// elsewhere reports whether it was another service that failed, or denied: the one
// that the SDK had the caller's credentials from.
func elsewhere(err error) bool {
	outer, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return false
	}
	inner, ok := errors.AsType[*smithy.OperationError](outer.Err)
	return ok && inner.ServiceID != outer.ServiceID
}

// The codes by which a failure is told apart.
const (
	codeDenied   = "AccessDeniedException"
	codeNotFound = "ResourceNotFoundException"
	codeDecrypt  = "DecryptionFailure"
)

// denied reports whether a policy, or a key, is in the way.
func (f failure) denied() bool { return f.code == codeDenied || f.code == codeDecrypt }

// finding returns the failure of an operation as a finding: it is a problem if
// somebody has to change something, and else nobody knows.
func (f failure) finding(operation, key string) Finding {
	found := Finding{Check: checkAccess, Status: Unknown, Detail: operation + ": " + f.text, Fix: f.fix}
	if f.denied() || f.code == codeNotFound {
		found.Status = Problem
	}
	if f.denied() && (strings.Contains(f.text, "KMS") || strings.Contains(f.text, "kms:")) && key != "" {
		found.Detail += fmt.Sprintf(" (the secret's key is %s)", key)
	}
	return found
}
