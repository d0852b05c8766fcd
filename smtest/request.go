package smtest

import "time"

// A request is one call while it is being served. Its operation sees the server
// through it: it finds secrets as the caller who made it may.
type request struct {
	server    *Server
	operation string
	run       func(*request) (any, *Error) // the effect; called with mu held
	target    target
	attempt   int // of the client's at the call; 0 if it does not say

	// The server's mu protects following.

	caller *caller
	store  *store        // of the caller's account, in the Region that was asked
	now    time.Time     // the instant of the effect
	call   *Call         // the entry in the log
	stale  time.Duration // how far behind a read is
}

// A target is what a request is about, for faults and the log.
type target struct {
	ids     []string
	stages  []string
	unsaid  bool // the stages are those that the request's silence stands for
	version string
}

// secret returns the secret that id names, one marked for deletion too, if the
// caller may do to it what the request asks for.
func (req *request) secret(id string) (*secret, *Error) {
	return req.secretFor(req.iamAction(), id)
}

// secretFor is secret for another action than the request's own.
func (req *request) secretFor(action, id string) (*secret, *Error) {
	sec, err := req.server.resolveLocked(req.store, id, req.now)
	if err != nil {
		if err.Code == codeNotFound {
			if denied := req.authorizeOn(action, id, id); denied != nil {
				return nil, denied
			}
		}
		return nil, err
	}
	if err := req.authorize(action, sec); err != nil {
		return nil, err
	}
	if sec = req.see(sec); sec == nil {
		return nil, notFound("Secrets Manager can't find the specified secret.")
	}
	return sec, nil
}

// live is secret for the operations that a secret marked for deletion refuses.
func (req *request) live(id string) (*secret, *Error) {
	sec, err := req.secret(id)
	if err != nil {
		return nil, err
	}
	if err := sec.checkNotDeleted(); err != nil {
		return nil, err
	}
	return sec, nil
}

// primary is live for the operations that a replica refuses.
func (req *request) primary(id string) (*secret, *Error) {
	sec, err := req.live(id)
	if err != nil {
		return nil, err
	}
	if err := sec.checkPrimary(); err != nil {
		return nil, err
	}
	return sec, nil
}

// writable is primary for the operations that are left to the service which owns
// the secret, if one does.
func (req *request) writable(id string) (*secret, *Error) {
	sec, err := req.primary(id)
	if err != nil {
		return nil, err
	}
	if err := sec.checkUnmanaged(); err != nil {
		return nil, err
	}
	return sec, nil
}
