package retry

import (
	"context"
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
	LockedOut   EventKind = "locked_out"  // the target has locked its user out: no login with that user for a while
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
