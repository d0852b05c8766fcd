package otel

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// errorType returns the error.type of a call's error: the code of the service's
// answer; that of another service with its name before it, when that was asked for
// the caller's credentials; timeout, canceled, or the kind of what failed on the
// way. Never a text: it may quote anything.
func errorType(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if other := otherService(err); other != "" {
			return other + "." + codeOf(api.ErrorCode())
		}
		return codeOf(api.ErrorCode())
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return "smithy.DeserializationError"
	}
	if errors.Is(err, context.Canceled) {
		return "canceled"
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "tls.CertificateVerificationError"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "net.DNSError"
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return "net.OpError"
	}
	return semconv.ErrorTypeOther.Value.AsString()
}

// otherService returns the name of the service that answered, if it is not the one
// that was called: the SDK wraps the error of a call for credentials into that of
// the call that needs them.
func otherService(err error) string {
	outer, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		return ""
	}
	if inner, ok := errors.AsType[*smithy.OperationError](outer.Err); ok && inner.ServiceID != outer.ServiceID {
		return inner.ServiceID
	}
	return ""
}

func errorRequestID(err error) string {
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return plain(response.ServiceRequestID())
	}
	return ""
}

// codeOf returns a code of the service's or of a target's, unless it is none.
func codeOf(s string) string {
	if s = plain(s); s != "" {
		return s
	}
	return semconv.ErrorTypeOther.Value.AsString()
}

// plain returns s if it can be a code or an ID. What answers may be anything
// between the client and the service, so that s may be anything too.
func plain(s string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	if len(s) > 64 || strings.Trim(s, letters) != "" {
		return ""
	}
	return s
}
