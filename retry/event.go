package retry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// An EventKind says what an [Event] is about.
type EventKind string

// What happens between a secret and its target.
const (
	Tried       EventKind = "tried"       // a login begins with the version
	Refused     EventKind = "refused"     // the target refused it
	Proven      EventKind = "proven"      // the target accepted it: for the first time, or again after a refusal
	Quarantined EventKind = "quarantined" // it is not tried again for a while
	LockedOut   EventKind = "locked out"  // the target has locked its user out: no login with that user for a while
	Retired     EventKind = "retired"     // a connection that was opened with it has made room for a newer one
)

// An Event is something that happened to a version of a secret at a target.
type Event struct {
	Kind      EventKind
	Time      time.Time
	SecretID  string // as it was given to New
	Target    string // Options.Target
	VersionID string
	Stage     string // the staging label that the version was found under
	Code      string // of Err, by Options.Code: an SQLSTATE, an error number
	Err       error  // of Refused, Quarantined and LockedOut: the target's own
}

// Stats counts what happens. Its zero value is ready for use; give it to as many
// Retriers as should be counted together.
type Stats struct {
	Logins      atomic.Uint64 // begun
	Accepted    atomic.Uint64 // accepted
	Refused     atomic.Uint64 // refused
	NoVerdict   atomic.Uint64 // ended otherwise
	Proven      atomic.Uint64 // versions proven
	Quarantined atomic.Uint64 // quarantines begun
	LockedOut   atomic.Uint64 // users locked out
	Retired     atomic.Uint64 // connections retired
	Waits       atomic.Uint64 // logins that waited for the verdict on another
	Polls       atomic.Uint64 // walks that waited for the end of a rotation
}

// count adds one to what an event of that kind is counted as.
func (s *Stats) count(kind EventKind) {
	switch kind {
	case Tried:
		s.Logins.Add(1)
	case Refused:
		s.Refused.Add(1)
	case Proven:
		s.Proven.Add(1)
	case Quarantined:
		s.Quarantined.Add(1)
	case LockedOut:
		s.LockedOut.Add(1)
	case Retired:
		s.Retired.Add(1)
	}
}

// Report counts an event and has Options.OnEvent hear of it, as for one of the
// Retrier's own. It is for what a package on top does with a version: package
// dbconn tells of retired connections so.
func (r *Retrier) Report(kind EventKind, versionID, stage string, err error) {
	r.opts.Stats.count(kind)
	if r.opts.OnEvent == nil {
		return
	}
	e := Event{
		Kind: kind, Time: time.Now(), SecretID: r.secretID, Target: r.opts.Target,
		VersionID: versionID, Stage: stage, Err: err,
	}
	if err != nil && r.opts.Code != nil {
		e.Code = r.opts.Code(err)
	}
	r.events.Post(e)
}

// background runs f where the Cache runs what nobody waits for.
func background(c *cache.Cache) func(func()) bool {
	return func(f func()) bool { return c.Background(func(context.Context) { f() }) }
}
