package smtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
)

// A RotationError says at which step a rotation failed. AWSPENDING stays where it
// was, and the next RotateSecret reattempts the rotation.
type RotationError struct {
	SecretID  string // the secret's ARN
	VersionID string // the version that was to become AWSCURRENT
	Step      string // createSecret, setSecret, testSecret or finishSecret
	Err       error  // what the function returned, or why it did not
}

// Error names the step and gives the function's error.
func (e *RotationError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap returns the function's error.
func (e *RotationError) Unwrap() error { return e.Err }

var (
	allSteps = []string{"createSecret", "setSecret", "testSecret", "finishSecret"}
	testOnly = []string{"testSecret"}

	errExited   = errors.New("the function ended its goroutine")
	errNotMoved = errors.New("the function did not move AWSCURRENT to the new version")
)

// A rotation is one run of the function's steps.
type rotation struct {
	s      *Server
	sec    *secret
	token  string
	fn     Function
	temp   bool            // only testSecret, on a version that goes away
	ctx    context.Context // lives as long as the run
	cancel context.CancelFunc

	done chan struct{}
	err  error // written before done is closed, read after that
}

// running reports whether a rotation is under way. Called with the server's mu
// held, as all methods of a secret.
func (sec *secret) running() bool {
	if sec.run == nil {
		return false
	}
	_, ok := sec.run.s.runs[sec.run]
	return ok
}

// startLocked enters a rotation as running. The caller must call run.
func (s *Server) startLocked(ctx context.Context, sec *secret, token string, fn Function, temp bool) *rotation {
	ctx, cancel := context.WithCancel(ctx)
	r := &rotation{
		s: s, sec: sec, token: token, fn: fn, temp: temp,
		ctx: ctx, cancel: cancel, done: make(chan struct{}),
	}
	s.runs[r] = struct{}{}
	sec.run = r
	return r
}

// run calls the steps, without any lock.
func (r *rotation) run() {
	step, returned := "", false
	var err error
	// Deferred, because a function that fails a test by t.FailNow ends the goroutine.
	defer func() {
		if !returned {
			err = errExited
		}
		r.end(step, err)
	}()
	steps := allSteps
	if r.temp {
		steps = testOnly
	}
	for _, step = range steps {
		if err = r.ctx.Err(); err != nil {
			break
		}
		if err = r.call(step); err != nil {
			break
		}
	}
	returned = true
}

func (r *rotation) call(step string) (err error) {
	event, err := json.Marshal(struct {
		Step               string
		SecretID           string `json:"SecretId"`
		ClientRequestToken string
	}{step, r.sec.arn, r.token})
	if err != nil {
		return err
	}
	defer func() {
		if v := recover(); v != nil {
			err = panicError(v)
		}
	}()
	return r.fn(r.ctx, event)
}

// panicError tells of a panic. A value that is not meant as text is not printed:
// it may be a struct that holds a secret.
func panicError(v any) error {
	switch v := v.(type) {
	case error:
		return fmt.Errorf("panic: %w", v)
	case string:
		return errors.New("panic: " + v)
	default:
		return fmt.Errorf("panic with a %T", v)
	}
}

// end does what the service does after the last step, and lets the waiters go.
func (r *rotation) end(step string, err error) {
	r.cancel()
	if err == nil && !r.temp && !r.moved() {
		err = errNotMoved
	}
	if err != nil {
		r.err = &RotationError{SecretID: r.sec.arn, VersionID: r.token, Step: step, Err: err}
		// Before done is closed: nothing is logged once Close has returned.
		r.s.opts.Logger.LogAttrs(r.ctx, slog.LevelWarn, "smtest: rotation failed",
			slog.String("secret_id", r.sec.arn), slog.String("version_id", r.token),
			slog.String("step", step), slog.Any("error", err))
	}
	// The labels and the end at one instant: who sees AWSPENDING gone can rotate again.
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	switch {
	case r.temp:
		r.sec.dropTemporary(r.token)
	case err == nil:
		r.sec.completeRotation(r.token)
	}
	delete(r.s.runs, r)
	close(r.done)
}

func (r *rotation) moved() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.sec.labels[labelCurrent] == r.token
}

// completeRotation is the service's own part after finishSecret: the function
// leaves AWSPENDING on the version that it made AWSCURRENT.
func (sec *secret) completeRotation(token string) {
	if sec.labels[labelPending] == token {
		delete(sec.labels, labelPending)
	}
	sec.rotation.rotated = timestamp()
	sec.changed = sec.rotation.rotated
}

// dropTemporary removes the version that testSecret alone was called with.
func (sec *secret) dropTemporary(token string) {
	if sec.labels[labelPending] == token {
		delete(sec.labels, labelPending)
	}
	if len(sec.stages(token)) == 0 {
		delete(sec.versions, token)
	}
}
