package rotation

import (
	"context"
	"errors"
)

// Target is what accepts the credential: a database server, say. Its methods
// may be called concurrently, for one secret too: Lambda may deliver an event
// twice.
//
// Errors must not hold values; they end up in the log of whoever runs the
// function. An error says by [ErrRefused] that the target has looked at the
// credential and refused it. All others, a server that does not answer above
// all, mean that nobody knows, and the rotation stops there until it is
// repeated. [Problem] adds to an error what is to be done about it.
//
// What only some targets need is in further interfaces, which the handler finds
// by a type assertion: [Strategist], [Issuer], [Verifier], [Finisher] and
// [Replicated]. A type that embeds a Target to change one of its methods hides
// those of the others that the interface does not name: embed the concrete type.
type Target interface {
	// Next returns the value that is to follow current, with a generated
	// password in it. It does no I/O. [Value.With] makes one from the other.
	Next(current, password *Value) (*Value, error)

	// Check reports why pending may not follow current: because it belongs to
	// another user than the one whose turn it is, or to another server, or has
	// lost what was put into current since ([Unchanged] finds that). It does no
	// I/O. It keeps a rotation from changing a password that is not the
	// secret's, after somebody has edited the secret in the midst of it.
	Check(current, pending *Value) error

	// Set makes the target accept c.Pending, acting as the user of c.As. It is
	// called after Check has passed for c.Current and c.Pending.
	//
	// It returns [ErrRefused] only if the target refuses c.As, and nothing has
	// changed then; after any other error the change may have happened or not,
	// and the handler finds out by logging in, or by calling it again. So it is
	// repeatable, and two calls of it may overlap. One that goes through
	// several statements must look at what is there, not at whether c.Pending
	// logs in: a call that was cut off half-way may have left just that. And a
	// target that accepts c.Current beside c.Pending must itself find out
	// whether c.Pending is set already, if setting it twice would do harm: it
	// is not asked before.
	Set(ctx context.Context, c Change) error

	// Test logs in with exactly the credential of v, and leaves nothing changed.
	Test(ctx context.Context, v *Value) error
}

// Change is what a rotation is about to change, or has changed, at the target.
type Change struct {
	// Current is AWSCURRENT, or, where the target has refused that one, an
	// older version that passed Check in its place. In Finish it is what was
	// AWSCURRENT before, and nil if no version is known to have been.
	Current *Value

	// Pending is the value that the rotation is for: AWSPENDING, and in Finish
	// AWSCURRENT. Its VersionID is the token of the rotation.
	Pending *Value

	// As is the value whose user acts: the superuser's if there is one. If not,
	// it is Current in Set, and Pending in Verify and Finish.
	//
	// A superuser's secret that Amazon RDS manages has a user name and a
	// password and nothing else: where the server is is said by Current then.
	// See [Strategy.Superuser] for what has been proven about Current.
	As *Value
}

// Strategist is a [Target] that does not, or not always, have the user of the
// secret change its own password. Without it the strategy is the zero [Strategy].
type Strategist interface {
	// Strategy says how the secret with this AWSCURRENT is rotated. It does no I/O.
	Strategy(current *Value) (Strategy, error)
}

// Strategy is how a secret is rotated. The zero Strategy is: single user, which
// changes its own password.
type Strategy struct {
	// Superuser is the id of the secret whose AWSCURRENT is [Change.As]: an ARN
	// or a name. Empty: the secret acts for itself. The secret may be one that
	// AWS manages. If the target refuses its AWSCURRENT, its AWSPENDING is
	// tried: it may be in the midst of a rotation of its own.
	//
	// Before the superuser acts, Current has to log in by Test. Whoever may
	// write the secret could have any user's password changed otherwise, by
	// naming that user ("confused deputy"). A target whose superuser acts on
	// another server than Test asks must see Current log in there as well.
	Superuser string

	// Alternating says that Pending belongs to another user than Current does,
	// and Current goes on working. Set is called in each setSecret then, also if
	// Pending logs in already: privileges may have changed since, or a first
	// call been cut off before it had granted all of them.
	Alternating bool
}

// Issuer is a [Target] that makes credentials itself, as services with API keys
// do. Issue is called in place of Next and of the generation of a password.
type Issuer interface {
	// Issue returns the value that is to follow current, for the version with
	// the given id. What current has must go on working.
	//
	// It may be called several times for one version, also at once: when an
	// answer was lost, or an event delivered twice. One of the values is stored,
	// and it is not known here which. So what other calls made has to stay, and
	// is for [Finisher] to remove: all but what c.Pending has.
	Issue(ctx context.Context, current *Value, versionID string) (*Value, error)
}

// Verifier is a [Target] where a credential that logs in may still not be good
// for what the secret is for.
type Verifier interface {
	// Verify compares what the users of c.Current and c.Pending may do, and
	// reports differences. It is called in testSecret and finishSecret, after
	// Pending has logged in by Test, and changes nothing.
	Verify(ctx context.Context, c Change) error
}

// Finisher is a [Target] where something of the old credential is left to be
// removed after the promotion: on servers that hold two passwords of a user.
type Finisher interface {
	// Finish removes it. It is called in each finishSecret after AWSCURRENT has
	// moved, so it is repeatable; not if another rotation has begun meanwhile,
	// for which Set may be at work at the same time all the same. An error of
	// it is finishSecret's, whose repetition calls it again; AWSCURRENT stays
	// where it is.
	Finish(ctx context.Context, c Change) error
}

// Replicated is a [Target] that has copies of its users on other servers, which
// hear of a change some time later.
type Replicated interface {
	// Replicas returns the servers that applications log in to, besides the one
	// that Test asks. It may resolve names. It is asked with AWSCURRENT, also
	// about AWSPENDING: so a server that is gone can be taken out of a list in
	// the secret while a rotation waits for it.
	Replicas(ctx context.Context, current *Value) ([]Node, error)

	// TestAt is Test on one of them.
	TestAt(ctx context.Context, v *Value, at Node) error
}

// Node is one server of several.
type Node struct {
	// Name is what it is called in the configuration, and what its certificate
	// is verified against: a host and a port.
	Name string

	// Addr is where it is: one of the addresses that Name resolves to, with the
	// port. Empty: the Name.
	Addr string
}

// String returns the name, and the address if there is another one.
func (n Node) String() string {
	if n.Addr == "" || n.Addr == n.Name {
		return n.Name
	}
	return n.Name + " (" + n.Addr + ")"
}

// ErrRefused marks an error by which the target refuses a credential. See [Refused].
var ErrRefused = errors.New("credential refused")

// Refused returns an error with err's text that matches both [ErrRefused] and
// all that err matches.
func Refused(err error) error { return &refusedError{err} }

type refusedError struct{ err error }

func (e *refusedError) Error() string   { return e.err.Error() }
func (e *refusedError) Unwrap() []error { return []error{ErrRefused, e.err} }
