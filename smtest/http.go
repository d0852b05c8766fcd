package smtest

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "secretsmanager."

	// maxBody is more than the largest valid request: a value of 65,536 bytes, each
	// escaped by six characters.
	maxBody = 1 << 20
)

// ServeHTTP answers one API request: POST / with the operation in X-Amz-Target
// and a JSON body, as every AWS SDK sends it. It runs on the caller's goroutine
// and blocks only as long as a [Fault] says. Signatures are not verified and
// credentials are not needed. If the request's context ends while it is delayed, or
// a Fault breaks the connection, nothing is written and it panics with
// [http.ErrAbortHandler], which net/http understands as a lost connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, began := r.Context(), time.Now()
	req, fail := s.decodeRequest(w, r)
	faults := s.arrive(req, scopeOf(r), &fail)

	instead, err := before(ctx, faults, s.snapshot(req))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out, fail := s.effect(req, instead, fail)
	if err := after(ctx, faults, s.snapshot(req)); err != nil {
		panic(http.ErrAbortHandler)
	}

	s.logCall(ctx, r, s.answered(req), began)
	if fail != nil {
		writeError(w, fail)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// arrive enters the request into the log and returns the faults that apply to it.
func (s *Server) arrive(req *request, from scope, fail **Error) []*injected {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.comesFromLocked(req, from)
	req.call = s.logLocked(req)
	switch {
	case s.closed:
		*fail = errClosed
	case *fail == nil && s.overQuotaLocked(req):
		*fail = Throttling
	}
	if *fail != nil {
		return nil
	}
	return s.matchLocked(req)
}

// effect does what the request asks for, at one instant, and makes the answer.
func (s *Server) effect(req *request, instead, fail *Error) (out any, err *Error) {
	s.mu.Lock()
	defer func() {
		if s.commit() != nil {
			out, err = nil, s.notKept(req)
		}
	}()
	req.now = timestamp()
	switch {
	case fail != nil:
	case instead != nil:
		fail = instead.fill(req.caller.arn, "secretsmanager:"+req.operation, s.resourceLocked(req))
	case s.closed:
		fail = errClosed
	default:
		done := s.rememberTargetsLocked(req)
		out, fail = req.run(req)
		done()
	}
	if fail != nil {
		req.call.Code = fail.Code
		return nil, fail
	}
	if v, ok := out.(interface{ versionID() string }); ok && v.versionID() != "" {
		req.call.VersionID = v.versionID()
	}
	return out, nil
}

// notKept is the answer to a call whose effect is not in the journal.
func (s *Server) notKept(req *request) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	req.call.Code = InternalServiceError.Code
	return InternalServiceError
}

// resourceLocked is what an IAM error names: the ARN of the secret if it exists.
func (s *Server) resourceLocked(req *request) string {
	if len(req.target.ids) == 0 {
		return "*"
	}
	id := req.target.ids[0]
	if sec, err := s.resolveLocked(req.store, id, req.now); err == nil {
		return sec.arn
	}
	return id
}

func (s *Server) snapshot(req *request) Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *req.call
}

func (s *Server) answered(req *request) Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	req.call.Answered = timestamp()
	return *req.call
}

// decodeRequest reads the operation and its input. The request it returns is never
// nil, so that a bad one is in the log too.
func (s *Server) decodeRequest(w http.ResponseWriter, r *http.Request) (*request, *Error) {
	req := &request{server: s, attempt: attempt(r)}
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	if ok {
		req.operation = op
	}
	decode := operations[op]
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if !ok || decode == nil || r.Method != http.MethodPost || r.URL.Path != "/" || media != contentType {
		if len(req.operation) > 64 {
			req.operation = req.operation[:64]
		}
		return req, &Error{Code: "UnknownOperationException"}
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return req, &Error{Code: "RequestEntityTooLargeException", Status: http.StatusRequestEntityTooLarge}
		}
		return req, &Error{Code: codeSerialization}
	}
	return req, decode(req, body)
}

func writeError(w http.ResponseWriter, e *Error) {
	if e.HTML {
		writePage(w, e)
		return
	}
	body := map[string]string{"__type": e.Code}
	if e.Message != "" {
		member := "message"
		if modeled[e.Code] {
			member = "Message"
		}
		body[member] = e.Message
	}
	writeJSON(w, e.status(), body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("smtest: answer of type that JSON cannot hold") // A bug here: the types are ours.
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Amzn-Requestid", newID())
	w.WriteHeader(status)
	_, _ = w.Write(body) // The client may be gone: there is nobody to tell.
}
