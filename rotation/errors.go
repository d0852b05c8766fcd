package rotation

import (
	"errors"
	"fmt"
	"slices"

	"github.com/aws/smithy-go"
)

// Reason is why a step was not carried out, for programs that decide by it.
type Reason string

// The reasons. Those of the second group are for targets to give, by [Problem].
const (
	ReasonUnknown     Reason = ""             // the error of a call, as it came; repeat the rotation
	ReasonBadEvent    Reason = "bad event"    // no such step, or no secret or token named
	ReasonManaged     Reason = "managed"      // an AWS service rotates the secret
	ReasonDeleted     Reason = "deleted"      // the secret is marked for deletion
	ReasonDisabled    Reason = "disabled"     // rotation is switched off, or was cancelled
	ReasonNoVersion   Reason = "no version"   // the token is no version of the secret
	ReasonNotPending  Reason = "not pending"  // the token's version is not AWSPENDING, or another rotation was faster
	ReasonNoValue     Reason = "no value"     // AWSCURRENT or AWSPENDING has no value yet
	ReasonEdited      Reason = "edited"       // AWSPENDING does not follow from AWSCURRENT
	ReasonNotSet      Reason = "not set"      // the target refuses AWSPENDING after setSecret
	ReasonLockedOut   Reason = "locked out"   // no version of the secret logs in
	ReasonSuperuser   Reason = "superuser"    // the superuser's secret is missing, unreadable or refused
	ReasonUnreachable Reason = "unreachable"  // the target gave no verdict on the credential
	ReasonReplica     Reason = "replica"      // a replica does not accept AWSPENDING in time
	ReasonNotFinished Reason = "not finished" // promoted, but the old credential is not removed

	ReasonBadValue   Reason = "bad value"  // the secret's value is not what the target needs
	ReasonPartner    Reason = "partner"    // the partner in alternating rotation is somebody else's
	ReasonPrivileges Reason = "privileges" // the two users may not do the same
	ReasonPermission Reason = "permission" // the user that acts may not
	ReasonServer     Reason = "server"     // another server than the one that is meant
	ReasonUnsuitable Reason = "unsuitable" // the server cannot do what the options ask for
)

// Problem returns an error that [Error] takes Reason and Remedy from. Its text is
// err's and the remedy, which says what to do in the imperative: "grant it ...".
func Problem(reason Reason, remedy string, err error) error {
	return &problem{reason, remedy, err}
}

type problem struct {
	reason Reason
	remedy string
	err    error
}

func (p *problem) Error() string { return p.err.Error() + "; " + p.remedy }
func (p *problem) Unwrap() error { return p.err }

// Error is the error of a step. It never holds a value. It wraps its cause:
// the service's own error, or the target's.
type Error struct {
	SecretID  string // as in the event
	Step      string
	VersionID string // the event's ClientRequestToken

	// Reason and Remedy are what can be said about the cause, beside its text,
	// which has the remedy too.
	Reason Reason
	Remedy string

	// Behind a function, as values are: a cause from elsewhere may have fields
	// that fmt had better not walk into, and some verbs would.
	cause func() error
}

func newError(e Event, err error) *Error {
	out := &Error{
		SecretID: e.SecretID, Step: e.Step, VersionID: e.ClientRequestToken,
		cause: func() error { return err },
	}
	p, ok := errors.AsType[*problem](err)
	if !ok {
		// The service's own text says who may not do what; not that it is the
		// function's role, nor that the key has a policy of its own.
		var api smithy.APIError
		if !errors.As(err, &api) || !slices.Contains(denials, api.ErrorCode()) {
			return out
		}
		err = Problem(ReasonPermission, "allow it to the role that the function runs as, in the role's policy, in the secret's "+
			"if it has one, and in that of its KMS key", err)
		out.cause = func() error { return err }
		p, _ = errors.AsType[*problem](err)
	}
	out.Reason, out.Remedy = p.reason, p.remedy
	return out
}

// denials are codes of errors that no repetition heals.
var denials = []string{"AccessDeniedException", "DecryptionFailure", "EncryptionFailure"}

func isProblem(err error) bool {
	_, ok := errors.AsType[*problem](err)
	return ok
}

// Error returns the text: what was to be done, why it was not, and the remedy.
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
