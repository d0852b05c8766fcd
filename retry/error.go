package retry

import (
	"fmt"
	"strings"
)

// An Attempt is one login: which version of the secret was tried, and under
// which staging label it was found.
type Attempt struct {
	VersionID string // of the version that was tried
	Stage     string // the staging label that it was found under
}

// An Error says that the target refused every version of the secret that there
// is to try. Trying again at once is of no use: the same versions will not be
// tried for a while.
type Error struct {
	SecretID string    // as it was given to New
	Target   string    // Options.Target
	Tried    []Attempt // this caller's logins, in order; none if others were just refused with all versions

	// Err is the target's own last refusal.
	Err error

	// Cause is why the search was given up, if not because it was complete:
	// the context's error, or the cache's.
	Cause error
}

// Error names the secret, the target and the versions, never a value.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "retry: %s refuses secret %q: ", e.Target, e.SecretID)
	if len(e.Tried) == 0 {
		b.WriteString("every version was refused a moment ago and is not tried again yet")
	}
	for i, a := range e.Tried {
		if i > 0 {
			b.WriteString(", then ")
		}
		fmt.Fprintf(&b, "version %s (%s)", a.VersionID, a.Stage)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, "; given up: %v", e.Cause)
	}
	return b.String()
}

// Unwrap returns Err and Cause.
func (e *Error) Unwrap() []error {
	errs := make([]error, 0, 2)
	for _, err := range []error{e.Err, e.Cause} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
