package loadtest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/retry"
)

// A Trace counts the logins of a pool, and those of them that a change of the password
// was bound to refuse. Give the pool's options its Stats, its OnEvent and its Logger.
//
// It goes by when a login is let go and when a refusal is taken note of. A tracer in the
// driver sees both at some other time, and has to make allowance for it, for which no
// number is right on a busy machine.
type Trace struct {
	Stats retry.Stats

	mu      sync.Mutex // protects following
	changes []change
	events  []retry.Event
	begun   int    // logins
	refused int    // of them
	proven  string // the version that the pool got in with last, of those that were new to it
}

// A change is one of the password.
type change struct {
	version  string // is not good any more
	at       time.Time
	inFlight int    // logins then
	accepted uint64 // logins until then
	told     bool   // the first of them has been refused that version
	ended    int    // logins that were accepted between at and that
}

// OnEvent is for the pool's options.
func (tr *Trace) OnEvent(e retry.Event) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.events = append(tr.events, e)
	switch e.Kind {
	case retry.Tried:
		tr.begun++
	case retry.Refused:
		tr.refused++
	case retry.Proven:
		tr.proven = e.VersionID
	default:
	}
}

// Logger returns a logger for the pool's options. A refusal is logged before it is taken
// note of, on the spot; the event of it comes when more logins have ended.
func (tr *Trace) Logger() *slog.Logger { return slog.New(warnings{tr}) }

// warnings tells a Trace of refusals.
type warnings struct{ trace *Trace }

func (w warnings) Enabled(context.Context, slog.Level) bool { return true }
func (w warnings) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w warnings) WithGroup(string) slog.Handler            { return w }

func (w warnings) Handle(_ context.Context, record slog.Record) error {
	tr := w.trace
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.changes) == 0 {
		return nil
	}
	last := &tr.changes[len(tr.changes)-1]
	for attr := range record.Attrs {
		if attr.Key == "version_id" && attr.Value.String() == last.version && !last.told {
			last.told, last.ended = true, int(tr.Stats.Accepted.Load()-last.accepted)
		}
	}
	return nil
}

// Change says that the password changes from now on, and which version of the secret is
// not good any more.
func (tr *Trace) Change(version string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	c := change{version: version, at: time.Now(), accepted: tr.Stats.Accepted.Load()}
	c.inFlight = tr.InFlight()
	tr.changes = append(tr.changes, c)
}

// Proven returns the version that the pool got in with last, of those that were new to
// it.
func (tr *Trace) Proven() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.proven
}

// InFlight returns how many logins have no outcome yet, or some more if there is much
// going on.
func (tr *Trace) InFlight() int {
	n := tr.Stats.Snapshot()
	return int(n.Logins - n.Accepted - n.Refused - n.NoVerdict)
}

// told is how many logins may have been decided on before the first failed one came
// back, and told of after it: an event follows what it tells of, and a busy machine may
// have others go first.
const told = 4

// Check checks that no change has cost more failed logins than those that were in
// flight when the first of them came back, and so many more. To be called when the load
// has stopped. It returns how many there were, and how many there might have been.
func (tr *Trace) Check(t *testing.T, more int) (refused, most int) {
	t.Helper()
	Eventually(t, "the last events", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.begun >= int(tr.Stats.Logins.Load()) && tr.refused >= int(tr.Stats.Refused.Load())
	})
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for i, c := range tr.changes {
		until := time.Now()
		if i+1 < len(tr.changes) {
			until = tr.changes[i+1].at
		}
		events := tr.between(c.at, until)
		n, inFlight := cost(c, events)
		if n == 0 {
			continue
		}
		inFlight += told
		if n > inFlight+more {
			t.Errorf("change %d: %d failed logins, want at most the %d in flight and %d more:%s", i+1, n, inFlight, more, story(c, events))
		}
		refused, most = refused+n, most+inFlight+more
	}
	if tr.refused != refused {
		t.Errorf("%d failed logins, of which %d after a change", tr.refused, refused)
	}
	return refused, most
}

// between returns the events from one instant until another, in order: those that come
// from several callers at once are out of it by a moment. The caller holds tr.mu.
func (tr *Trace) between(at, until time.Time) []retry.Event {
	var events []retry.Event
	for _, e := range tr.events {
		if !e.Time.Before(at) && e.Time.Before(until) {
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b retry.Event) int { return a.Time.Compare(b.Time) })
	return events
}

// silence is how long a login without an outcome keeps others waiting: see [retry.Retrier].
const silence = time.Second

// cost returns how many logins have failed, of the events that followed a change, and how
// many were in flight when the first of those that failed because of it came back, itself
// included. On a machine so busy that a login takes more than a second others go on that
// should wait for its outcome; they count as in flight too.
func cost(c change, events []retry.Event) (refused, inFlight int) {
	versions := make(map[string]bool) // that were refused
	for _, e := range events {
		if e.Kind == retry.Refused {
			versions[e.VersionID] = true
			refused++
		}
	}
	inFlight = c.inFlight - c.ended
	var first time.Time
	for _, e := range events {
		switch {
		case e.Kind == retry.Refused && e.VersionID == c.version && first.IsZero():
			first = e.Time
		case e.Kind != retry.Tried:
		case first.IsZero(), versions[e.VersionID] && e.Time.Sub(first) > silence:
			inFlight++
		}
	}
	return refused, inFlight
}

// story tells what followed a change.
func story(c change, events []retry.Event) string {
	var text strings.Builder
	fmt.Fprintf(&text, " version %.4s changed, %d in flight, of which, and of those that follow, %d were accepted before the first refusal",
		c.version, c.inFlight, c.ended)
	for _, e := range events {
		fmt.Fprintf(&text, "\n%v %s %.4s %s", e.Time.Sub(c.at), e.Kind, e.VersionID, e.Stage)
	}
	return text.String()
}
