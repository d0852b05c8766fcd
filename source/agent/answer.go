package agent

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/internal/redact"
)

// An answer is the agent's JSON of a secret: GetSecretValue's, but for the date.
type answer struct {
	ARN           *string
	Name          *string
	VersionID     *string `json:"VersionId"`
	SecretString  *string
	SecretBinary  []byte
	VersionStages []string
	CreatedDate   *seconds
}

// decode makes the SDK's answer of the agent's.
func (c *Client) decode(body []byte) (*secretsmanager.GetSecretValueOutput, error) {
	var a answer
	if err := redact.Decode(string(body), &a); err != nil {
		return nil, fmt.Errorf("agent: the answer of %s is not a secret: %w; is another program listening there?", c.endpoint, err)
	}
	return &secretsmanager.GetSecretValueOutput{
		ARN: a.ARN, Name: a.Name, VersionId: a.VersionID, VersionStages: a.VersionStages,
		SecretString: a.SecretString, SecretBinary: a.SecretBinary, CreatedDate: (*time.Time)(a.CreatedDate),
	}, nil
}

// seconds is an instant in seconds since 1970: a string from the agent, a number
// from Secrets Manager itself.
type seconds time.Time

func (s *seconds) UnmarshalJSON(text []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	if err != nil || !(math.Abs(f) < 1e11) { // a NaN is not below either
		return errors.New("not a number of seconds")
	}
	*s = seconds(time.UnixMilli(int64(math.Round(f * 1000))).UTC())
	return nil
}

// errUnknownParameter is what an agent says that does not know refreshNow.
var errUnknownParameter = errors.New("the agent does not know a parameter of the request; is it older than this client?")

// refused returns the error of an answer that is no secret. What the service said
// is passed on, in a form that says so. Of anything else the text is not quoted:
// something that is not the agent may send back what it was sent.
func (c *Client) refused(status int, body []byte, from string) error {
	if code, message, ok := serviceError(body); ok {
		return asSDK(code, message, status)
	}
	text := strings.ToLower(string(body))
	plain := func(advice string) error {
		return fmt.Errorf("agent: HTTP status %d from %s: %s", status, c.endpoint, advice)
	}
	switch {
	case status == http.StatusBadRequest && strings.HasPrefix(text, "unknown parameter"):
		return fmt.Errorf("agent: HTTP status %d from %s: %w", status, c.endpoint, errUnknownParameter)
	case status == http.StatusBadRequest && strings.HasPrefix(text, "forwarded"):
		return plain("the agent takes no forwarded requests: let nothing stand before it that sets X-Forwarded-For")
	case status == http.StatusBadRequest && strings.HasPrefix(text, "not ready to serve"):
		return plain("the Lambda extension serves during an invocation: read secrets in the handler, not before it")
	case status == http.StatusBadRequest:
		return plain("the secret ID is missing or malformed; or this is the Lambda extension, which answers any failure so: its log says what failed")
	case status == http.StatusForbidden:
		return plain("the token in " + from + " is not the agent's; set AWS_TOKEN to the agent's token, or to file:///var/run/awssmatoken")
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return plain("the agent answers so to other requests than this one; is another program listening there?")
	case status == http.StatusTooManyRequests:
		return plain("too many connections to the agent at once; raise its max_conn, or use a longer TTL")
	case status == http.StatusServiceUnavailable:
		return plain("the agent does not serve yet; in Lambda it waits for a request to /start_serving")
	case status >= 300 && status < 400:
		return plain("a redirect is not followed, for the token would go with it; is another program listening there?")
	case status >= 500:
		return plain("the agent failed; its log says why")
	}
	return plain("the agent does not answer so; is another program listening there?")
}

// serviceError returns what is in a JSON error, if it is one.
func serviceError(body []byte) (code, message string, ok bool) {
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // or Message: encoding/json takes either
	}
	if redact.Decode(string(body), &e) != nil {
		// The agent puts the message between quotes as it is, quotes and all.
		parts := unescaped.FindSubmatch(body)
		if parts == nil {
			return "", "", false
		}
		e.Type, e.Message = string(parts[1]), string(parts[2])
	}
	code = e.Type[strings.LastIndexByte(e.Type, '#')+1:] // "namespace#Code"
	return code, e.Message, code != ""
}

var unescaped = regexp.MustCompile(`(?s)^\s*\{\s*"__type"\s*:\s*"([\w.#-]+)"\s*,\s*"[mM]essage"\s*:\s*"(.*)"\s*\}\s*$`)

// ownErrors are those that the agent made itself, with what their texts leave out.
var ownErrors = map[string]string{
	"InternalFailure": "the agent could not read the secret; its log says why",
	"ConnectionError": "the agent does not reach Secrets Manager",
	"TimeoutError":    "the agent does not reach Secrets Manager in time",
}

// asSDK returns what *secretsmanager.Client returns for that code.
func asSDK(code, message string, status int) error {
	if own := ownErrors[code]; own != "" {
		message = strings.TrimPrefix(message+": "+own, ": ")
	}
	m := aws.String(message)
	switch code {
	case "DecryptionFailure":
		return &types.DecryptionFailure{Message: m}
	case "InternalServiceError":
		return &types.InternalServiceError{Message: m}
	case "InvalidParameterException":
		return &types.InvalidParameterException{Message: m}
	case "InvalidRequestException":
		return &types.InvalidRequestException{Message: m}
	case "ResourceNotFoundException":
		return &types.ResourceNotFoundException{Message: m}
	}
	fault := smithy.FaultClient
	if status >= 500 {
		fault = smithy.FaultServer
	}
	return &smithy.GenericAPIError{Code: code, Message: message, Fault: fault}
}
