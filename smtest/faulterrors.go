package smtest

import "net/http"

// More errors for a [Fault], in the service's words. They must not be changed.
//
//nolint:errname // They are answers to give, not errors to compare with.
var (
	// ExpiredToken says that the caller's temporary credentials have expired.
	ExpiredToken = &Error{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}

	// UnrecognizedClient says that the caller's credentials are none.
	UnrecognizedClient = &Error{
		Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid.",
	}

	// DecryptionFailure says that KMS cannot decrypt the value: of a read.
	DecryptionFailure = &Error{
		Code: codeDecryption, Message: "Secrets Manager can't decrypt the protected secret text using the provided KMS key.",
	}

	// EncryptionFailure says that KMS cannot encrypt the value, because the key is
	// disabled, about to be deleted or gone: of a write.
	EncryptionFailure = &Error{
		Code: codeEncryption, Message: "Secrets Manager can't encrypt the protected secret text using the provided KMS key. " +
			"Check that the KMS key is available, enabled, and not in an invalid state.",
	}

	// BadGateway, ServiceUnavailable and GatewayTimeout are what a load balancer
	// answers before the service: a page of HTML. The SDK retries them.
	BadGateway         = &Error{Code: "BadGateway", Status: http.StatusBadGateway, HTML: true}
	ServiceUnavailable = &Error{Code: "ServiceUnavailable", Status: http.StatusServiceUnavailable, HTML: true}
	GatewayTimeout     = &Error{Code: "GatewayTimeout", Status: http.StatusGatewayTimeout, HTML: true}
)

// writePage answers as a load balancer does.
func writePage(w http.ResponseWriter, e *Error) {
	text := http.StatusText(e.status())
	h := w.Header()
	h.Set("Content-Type", "text/html")
	h.Set("X-Amzn-Requestid", newID())
	w.WriteHeader(e.status())
	_, _ = w.Write([]byte("<html>\n<head><title>" + text + "</title></head>\n<body><h1>" + text + "</h1></body>\n</html>\n"))
}
