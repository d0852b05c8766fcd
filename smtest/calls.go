package smtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Call is one request that reached the server over its HTTP interface.
type Call struct {
	// Operation is the API operation, such as GetSecretValue; empty if the request
	// named none.
	Operation string

	// SecretID is the id as asked for: a name or an ARN; several, joined by commas,
	// for BatchGetSecretValue.
	SecretID string

	// Stage is the staging label that the call is about: the one asked for, or the
	// AWSCURRENT that it stands for if the request says nothing. Several of them,
	// in a PutSecretValue, are joined by commas.
	Stage string

	// VersionID is the version that the answer names, or else the one that the
	// request names.
	VersionID string

	// Caller is the ARN of the principal that made the request: see
	// [Server.AddCaller].
	Caller string

	// Region is the AWS Region that the request was for.
	Region string

	// Attempt is which attempt of the client's at the call this was, 1 for the
	// first, if the client says so as AWS SDKs do (Amz-Sdk-Request); 0 if it does not.
	Attempt int

	// Code is the error code of the answer, empty for a success.
	Code string

	// Time is when the request arrived.
	Time time.Time

	// Answered is when the answer was ready to be written; zero before that, and for
	// good if the caller went away while a Fault delayed the call, or a Fault broke
	// the connection.
	Answered time.Time
}

// maxCalls bounds the log of a server that runs for long.
const maxCalls = 16384

// A callLog is protected by the server's mu.
type callLog struct {
	calls  []*loggedCall
	counts map[string]int // by operation
}

// A loggedCall is a Call with what it takes to find it again. It does not hold the
// request, in which there may be a secret's value.
type loggedCall struct {
	Call

	caller *caller
	store  *store
}

func (l *callLog) add(c *loggedCall) {
	if len(l.calls) == maxCalls {
		l.calls = slices.Delete(l.calls, 0, maxCalls/2)
	}
	l.calls = append(l.calls, c)
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	l.counts[c.Operation]++
}

// logLocked enters a request into the log.
func (s *Server) logLocked(req *request) *Call {
	c := &loggedCall{caller: req.caller, store: req.store, Call: Call{
		Operation: req.operation,
		SecretID:  strings.Join(req.target.ids, ","),
		Stage:     strings.Join(req.target.stages, ","),
		VersionID: req.target.version,
		Caller:    req.caller.arn,
		Region:    req.store.region,
		Attempt:   req.attempt,
		Time:      timestamp(),
	}}
	s.log.add(c)
	if _, ok := operations[req.operation]; ok {
		s.meter.call(c.Time)
	}
	return &c.Call
}

// Calls returns the calls since the server was made or [Server.ResetCalls], in the
// order in which they arrived; the oldest are dropped when there are many
// thousands. A call is listed from its arrival on. The slice is the caller's.
func (s *Server) Calls() []Call {
	return s.CallsLike(Call{})
}

// CallsLike is Calls for those that are like the given one. Operation, SecretID,
// Stage, Caller, Region, VersionID, Attempt and Code count, each if it is not
// empty. SecretID names the secret in any way, and one of several is enough, as with
// Stage; Caller is a principal's ARN, its access key id or an account. A call that is
// no longer in the log is not among them.
//
//	n := len(srv.CallsLike(smtest.Call{SecretID: "prod/db", Code: "ThrottlingException"}))
//
// It panics if there is no such operation: a test that looks for the calls of a
// misspelt one would find none.
func (s *Server) CallsLike(want Call) []Call {
	mustKnow(want.Operation)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Call, 0, len(s.log.calls))
	for _, c := range s.log.calls {
		if s.isLikeLocked(c, want) {
			out = append(out, c.Call)
		}
	}
	return out
}

func (s *Server) isLikeLocked(c *loggedCall, want Call) bool {
	switch {
	case want.Operation != "" && want.Operation != c.Operation,
		want.Stage != "" && !slices.Contains(strings.Split(c.Stage, ","), want.Stage),
		want.VersionID != "" && want.VersionID != c.VersionID,
		want.Region != "" && want.Region != c.Region,
		want.Attempt != 0 && want.Attempt != c.Attempt,
		want.Code != "" && want.Code != c.Code,
		!c.caller.isMeant(want.Caller):
		return false
	}
	return want.SecretID == "" || s.aboutLocked(c.store, strings.Split(c.SecretID, ","), want.SecretID)
}

// Count returns the number of calls of an operation since the server was made or
// [Server.ResetCalls], those not answered yet and those no longer in the log
// included; of all operations if operation is empty. It panics if nobody called it
// and there is no such operation: a test that counts a misspelt one would find none.
func (s *Server) Count(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if operation != "" {
		n, called := s.log.counts[operation]
		if !called {
			mustKnow(operation)
		}
		return n
	}
	n := 0
	for _, c := range s.log.counts {
		n += c
	}
	return n
}

// ResetCalls empties the call log. Secrets and faults stay.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = callLog{}
}

// attempt reads Amz-Sdk-Request: attempt=2; max=3.
func attempt(r *http.Request) int {
	for item := range strings.SplitSeq(r.Header.Get("Amz-Sdk-Request"), ";") {
		if n, ok := strings.CutPrefix(strings.TrimSpace(item), "attempt="); ok {
			if n, err := strconv.Atoi(n); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}
