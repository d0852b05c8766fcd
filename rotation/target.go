package rotation

import (
	"context"
	"errors"
	"fmt"
)

// Target is what accepts the credential: a database server, say. Its methods
// may be called concurrently.
//
// Errors must not hold values; they end up in the log of whoever runs the
// function. An error says by [ErrRefused] that the target has looked at the
// credential and refused it. All others, a server that does not answer above
// all, mean that nobody knows, and the rotation stops there until it is
// repeated.
type Target interface {
	// Next returns the value that is to follow current, with a generated
	// password in it. It does no I/O. [Value.With] makes one from the other.
	Next(current, password *Value) (*Value, error)

	// Check reports why pending may not follow current: because it belongs to
	// another user, or to another server. It does no I/O. It keeps a rotation
	// from changing a password that is not the secret's, after somebody has
	// edited the secret in the midst of it.
	Check(current, pending *Value) error

	// Set makes the target accept pending, acting as the user of the value
	// `as`. It is called after Check has passed for the two. It returns
	// [ErrRefused] only if the target refuses `as`, and nothing has changed
	// then; after any other error the change may have happened or not, and the
	// handler finds out by logging in. Doing it twice must do no harm.
	Set(ctx context.Context, as, pending *Value) error

	// Test logs in with exactly the credential of v, and leaves nothing changed.
	Test(ctx context.Context, v *Value) error
}

// ErrRefused marks an error by which the target refuses a credential. See [Refused].
var ErrRefused = errors.New("credential refused")

// Refused returns an error with err's text that matches both [ErrRefused] and
// all that err matches.
func Refused(err error) error { return &refusedError{err} }

type refusedError struct{ err error }

func (e *refusedError) Error() string   { return e.err.Error() }
func (e *refusedError) Unwrap() []error { return []error{ErrRefused, e.err} }

// Error is the error of a step. It never holds a value. It wraps its cause:
// the service's own error, or the target's.
type Error struct {
	SecretID  string // as in the event
	Step      string
	VersionID string // the event's ClientRequestToken

	// Behind a function, as values are: a cause from elsewhere may have fields
	// that fmt had better not walk into, and some verbs would.
	cause func() error
}

func newError(e Event, err error) *Error {
	return &Error{
		SecretID: e.SecretID, Step: e.Step, VersionID: e.ClientRequestToken,
		cause: func() error { return err },
	}
}

// Error returns the text: what was to be done, and why it was not.
func (e *Error) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("rotation: %s of secret %s, version %s", e.Step, e.SecretID, e.VersionID)
	}
	return fmt.Sprintf("rotation: %s of secret %s, version %s: %v", e.Step, e.SecretID, e.VersionID, e.cause())
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error {
	if e.cause == nil {
		return nil
	}
	return e.cause()
}
