package smtest

import (
	"slices"
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

	// Code is the error code of the answer, empty for a success.
	Code string

	// Time is when the request arrived.
	Time time.Time

	// Answered is when the answer was ready to be written; zero before that, and for
	// good if the caller went away while a Fault delayed the call.
	Answered time.Time
}

// maxCalls bounds the log of a server that runs for long.
const maxCalls = 16384

// A callLog is protected by the server's mu.
type callLog struct {
	calls  []*Call
	counts map[string]int // by operation
}

func (l *callLog) add(c *Call) {
	if len(l.calls) == maxCalls {
		l.calls = slices.Delete(l.calls, 0, maxCalls/2)
	}
	l.calls = append(l.calls, c)
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	l.counts[c.Operation]++
}

// Calls returns the calls since the server was made or [Server.ResetCalls], in the
// order in which they arrived; the oldest are dropped when there are many
// thousands. A call is listed from its arrival on. The slice is the caller's.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Call, len(s.log.calls))
	for i, c := range s.log.calls {
		out[i] = *c
	}
	return out
}

// Count returns the number of calls of an operation since the server was made or
// [Server.ResetCalls], those not answered yet included; of all operations if
// operation is empty. It panics if nobody called it and there is no such
// operation: a test that counts a misspelt one would find none.
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
