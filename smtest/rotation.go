package smtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// A RotationError says at which step a rotation failed. AWSPENDING stays where it
// was; see [RotationOptions] for when the rotation is tried again.
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

const (
	stepCreate = "createSecret"
	stepSet    = "setSecret"
	stepTest   = "testSecret"
	stepFinish = "finishSecret"
)

var (
	allSteps = []string{stepCreate, stepSet, stepTest, stepFinish}
	testOnly = []string{stepTest}

	errExited   = errors.New("the function ended its goroutine")
	errNotMoved = errors.New("the function did not move AWSCURRENT to the new version")
)

// A rotationEvent is what a rotation function gets for each step.
type rotationEvent struct {
	Step               string
	SecretID           string `json:"SecretId"`
	ClientRequestToken string
	RotationToken      string `json:",omitempty"`
}

// A rotation is one run of the function's steps.
type rotation struct {
	s       *Server
	sec     *secret
	token   string
	fn      Function
	proof   string          // RotationToken of its events
	temp    bool            // only testSecret, on a version that goes away
	attempt int             // how often it failed before; negative: it is not tried again
	ctx     context.Context // lives as long as the run
	cancel  context.CancelFunc

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

// incomplete returns the version of a rotation that has not come to its end: one
// that has AWSPENDING but not AWSCURRENT.
func (sec *secret) incomplete() (token string, ok bool) {
	id, ok := sec.labels[labelPending]
	return id, ok && id != sec.labels[labelCurrent]
}

// checkRoom reports whether there is no room for the version of a new rotation.
func (sec *secret) checkRoom(now time.Time) *Error {
	if err := sec.checkLabels([]string{labelPending}); err != nil {
		return err
	}
	return sec.checkVersions(now)
}

// launchLocked runs all steps, on a goroutine of their own that Close waits for.
func (s *Server) launchLocked(sec *secret, token string, fn Function, attempt int) {
	r := s.startLocked(context.Background(), sec, token, fn)
	r.attempt = attempt
	go r.run()
}

// testLocked is launchLocked for testSecret alone.
func (s *Server) testLocked(sec *secret, token string, fn Function) {
	r := s.startLocked(context.Background(), sec, token, fn)
	r.temp, r.attempt = true, -1
	go r.run()
}

// startLocked enters a rotation as running. The caller must call run.
func (s *Server) startLocked(ctx context.Context, sec *secret, token string, fn Function) *rotation {
	ctx, cancel := context.WithCancel(ctx)
	r := &rotation{
		s: s, sec: sec, token: token, fn: fn, proof: sec.rotationToken(),
		ctx: ctx, cancel: cancel, done: make(chan struct{}),
	}
	s.runs[r] = struct{}{}
	sec.run = r
	sec.rotation.retryAt = time.Time{}
	return r
}

// rotationToken returns the RotationToken of a rotation's events: it is for
// functions of another account, which assume a role to call PutSecretValue and
// prove with it on whose behalf.
func (sec *secret) rotationToken() string {
	p := strings.Split(sec.rotation.function, ":")
	if len(p) < 5 || p[4] == sec.store.account {
		return ""
	}
	return newID()
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
	event, err := json.Marshal(rotationEvent{step, r.sec.arn, r.token, r.proof})
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
	defer r.s.release()
	r.s.journal.sawLocked(r.sec)
	now := timestamp()
	switch {
	case r.temp:
		r.s.rememberLocked(r.sec, now)
		r.sec.dropTemporary(r.token)
	case err == nil:
		r.s.completeLocked(r.sec, r.token, now)
	default:
		r.s.retryLocked(r, now)
	}
	delete(r.s.runs, r)
	close(r.done)
}

func (r *rotation) moved() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.sec.labels[labelCurrent] == r.token
}

// completeLocked is the service's own part after finishSecret: the function leaves
// AWSPENDING on the version that it made AWSCURRENT.
func (s *Server) completeLocked(sec *secret, token string, now time.Time) {
	c := &sec.rotation
	c.rotated = now
	c.cleanAt, c.cleanFrom = now.Add(s.opts.Rotation.CleanupDelay), token
	if s.opts.Rotation.CleanupDelay <= 0 {
		s.cleanUpLocked(sec, now)
	}
	s.awaitLocked(sec, now)
}

// retryLocked sees to it that a rotation which failed is tried again, unless it was
// one too many or nobody wants it any more.
func (s *Server) retryLocked(r *rotation, now time.Time) {
	c := &r.sec.rotation
	if r.attempt < 0 || r.attempt >= s.opts.Rotation.Retries || !c.on() {
		return
	}
	c.retryAt, c.failures = now.Add(s.opts.Rotation.RetryDelay), r.attempt+1
	s.awaitLocked(r.sec, now)
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
