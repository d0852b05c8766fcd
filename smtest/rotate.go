package smtest

import (
	"context"
	"fmt"
	"time"
)

// Wait waits until no rotation of the secret is running and returns how the last
// one ended: nil for success or if there was none, a [*RotationError] for a failed
// step, an [*Error] if there is no such secret. If ctx ends first, its error is
// returned. Rotations by RotateSecret, by schedule and by [Server.Rotate] count
// alike; one that has failed is not running while it waits to be tried again.
func (s *Server) Wait(ctx context.Context, secretID string) error {
	for {
		s.mu.Lock()
		sec, fail := s.findLocked(secretID, timestamp())
		if fail != nil {
			s.mu.Unlock()
			return fmt.Errorf("smtest: wait for rotation of %s: %w", quote(secretID), fail)
		}
		r := sec.run
		running := sec.running()
		s.mu.Unlock()
		switch {
		case r == nil:
			return nil
		case !running:
			return r.err
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("smtest: wait for rotation of %s: %w", quote(secretID), ctx.Err())
		}
	}
}

// Rotate rotates the secret to a known value and returns the id of the new
// version, which is AWSCURRENT then. It stores value as AWSPENDING, calls the
// secret's rotation function for all four steps, on the caller's goroutine, and
// removes AWSPENDING at the end. A secret whose rotation was never set up by
// RotateSecret, or was cancelled, has no function: AWSCURRENT just moves, at once.
// RotateSecret with RotateImmediately false sets it up without rotating.
//
// If a step fails the error is a [*RotationError], and AWSPENDING keeps the value;
// Rotate with the same value reattempts that rotation, with another it fails. It
// also takes over a version that a failed RotateSecret left empty. Any other error
// is an [*Error], or that of a ctx which had ended before. Rotate is not in the
// call log and no [Fault] applies to it, unlike to what the function calls.
func (s *Server) Rotate(ctx context.Context, secretID, value string) (versionID string, err error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("smtest: rotate %s: %w", quote(secretID), err)
	}
	s.mu.Lock()
	id, r, fail := s.prepareLocked(ctx, secretID, value)
	s.release()
	if fail != nil {
		return "", fmt.Errorf("smtest: rotate %s: %w", quote(secretID), fail)
	}
	if r != nil {
		r.run()
		if r.err != nil {
			return "", fmt.Errorf("smtest: rotate %s: %w", quote(secretID), r.err)
		}
	}
	return id, nil
}

// prepareLocked stores the AWSPENDING version. Without a function it completes the
// rotation; with one it returns the run that does.
func (s *Server) prepareLocked(ctx context.Context, secretID, value string) (string, *rotation, *Error) {
	now := timestamp()
	sec, fail := s.rotatableLocked(secretID, now)
	if fail != nil {
		return "", nil, fail
	}
	var fn Function
	if sec.rotation.on() {
		if fn, fail = s.functionLocked(sec, sec.rotation.function); fail != nil {
			return "", nil, fail
		}
	}
	v, fail := s.pendLocked(sec, value, now)
	if fail != nil {
		return "", nil, fail
	}
	if fn != nil {
		r := s.startLocked(ctx, sec, v.id, fn)
		r.attempt = -1
		return v.id, r, nil
	}
	sec.moveCurrent(v)
	s.completeLocked(sec, v.id, now)
	return v.id, nil, nil
}

// rotatableLocked returns the secret that id names to a method of the Server, if no
// rotation of it is running.
func (s *Server) rotatableLocked(id string, now time.Time) (*secret, *Error) {
	if s.closed {
		return nil, errClosed
	}
	sec, fail := s.findLocked(id, now)
	if fail != nil {
		return nil, fail
	}
	if fail := sec.checkNotDeleted(); fail != nil {
		return nil, fail
	}
	if fail := sec.checkPrimary(); fail != nil {
		return nil, fail
	}
	if sec.running() {
		return nil, invalidRequest("A previous rotation isn't complete: it is running.")
	}
	return sec, nil
}

// pendLocked stores a value as AWSPENDING: in a new version, or in that of an
// earlier rotation which is empty or has this very value.
func (s *Server) pendLocked(sec *secret, value string, now time.Time) (*version, *Error) {
	val, fail := newPayload(&value, nil)
	if fail != nil {
		return nil, fail
	}
	token, incomplete := sec.incomplete()
	if !incomplete {
		token = newID()
	} else if p := sec.versions[token]; p.value != nil && !p.value.equal(val) {
		return nil, invalidRequest("A previous rotation isn't complete: version %s is AWSPENDING with another value.", token)
	}
	s.rememberLocked(sec, now)
	return sec.put(token, val, []string{labelPending}, now)
}
