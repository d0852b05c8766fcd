package smtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds what is read of a function's answer: an error of Lambda has a
// stack trace in it.
const maxAnswer = 1 << 16

// HTTPFunction returns a Function that posts each event, as JSON, to a URL: that of
// a Lambda runtime interface emulator, such as
// http://localhost:9000/2015-03-31/functions/function/invocations, or of any other
// server. The step has failed if there is no answer within the timeout (zero: 15
// minutes, Lambda's own limit), if its status is not 2xx, or if it is an error of
// Lambda: an answer with the header X-Amz-Function-Error, or a JSON object with the
// member errorMessage. Redirects are not followed. The error has errorType and
// errorMessage in it, and nothing else of the answer.
func HTTPFunction(url string, timeout time.Duration) Function {
	if timeout <= 0 {
		timeout = 15 * time.Minute
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, event []byte) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(event))
		if err != nil {
			return fmt.Errorf("smtest: rotation function: %w", err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("smtest: rotation function: %w", err)
		}
		defer resp.Body.Close() //nolint:errcheck // Nothing was written to it.
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("smtest: rotation function: %w", err)
		}
		return answerError(resp, body)
	}
}

// answerError is what the answer of a function says went wrong.
func answerError(resp *http.Response, body []byte) error {
	var e struct {
		Type    string  `json:"errorType"`
		Message *string `json:"errorMessage"`
	}
	// An answer that is no such object is no error of Lambda: most functions return
	// null, and some nothing.
	_ = json.Unmarshal(body, &e)
	failed := resp.StatusCode < 200 || resp.StatusCode > 299 || resp.Header.Get("X-Amz-Function-Error") != ""
	switch {
	case e.Message != nil:
		return fmt.Errorf("smtest: rotation function: %s", quote(strings.TrimPrefix(e.Type+": "+*e.Message, ": ")))
	case failed:
		return fmt.Errorf("smtest: rotation function: status %d", resp.StatusCode)
	}
	return nil
}
