package smtest

import (
	"context"
	"fmt"
)

// Wait waits until no rotation of the secret is running and returns how the last
// one ended: nil for success or if there was none, a [*RotationError] for a failed
// step, an [*Error] if there is no such secret. If ctx ends first, its error is
// returned. Rotations by RotateSecret and by [Server.Rotate] count alike.
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
	s.mu.Unlock()
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
	if s.closed {
		return "", nil, errClosed
	}
	val, fail := newPayload(&value, nil)
	if fail != nil {
		return "", nil, fail
	}
	now := timestamp()
	sec, fail := s.findLocked(secretID, now)
	if fail != nil {
		return "", nil, fail
	}
	if fail := sec.checkNotDeleted(); fail != nil {
		return "", nil, fail
	}
	if sec.running() {
		return "", nil, invalidRequest("A previous rotation isn't complete: it is running.")
	}
	var fn Function
	if on := sec.rotation.enabled; on != nil && *on {
		if fn, fail = s.functionLocked(sec.rotation.function); fail != nil {
			return "", nil, fail
		}
	}
	token := newID()
	if p := sec.versions[sec.labels[labelPending]]; p != nil && p != sec.current() {
		if p.value != nil && !p.value.equal(val) {
			return "", nil, invalidRequest("A previous rotation isn't complete: version %s is AWSPENDING with another value.", p.id)
		}
		token = p.id
	}
	v, fail := sec.put(token, val, []string{labelPending}, now)
	if fail != nil {
		return "", nil, fail
	}
	if fn != nil {
		return token, s.startLocked(ctx, sec, token, fn, false), nil
	}
	sec.moveCurrent(v)
	sec.completeRotation(token)
	return token, nil, nil
}
