package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// The back-off of a walk that waits for the labels to move.
const (
	firstPoll = time.Second
	lastPoll  = 30 * time.Second
)

// settle is how long after a change the labels may show nothing of it. "All Secrets
// Manager operations are eventually consistent": a version that was just put can be
// missing from the next read.
const settle = 3 * time.Second

// poll is called when no candidate is left. If a rotation may be under way it
// waits until the labels move or a login is accepted, and returns nil: the walk
// begins anew. Otherwise, and when Options.Patience or ctx ends, it returns the
// walk's error. The refused passwords are not tried meanwhile.
func (w *Walk) poll(ctx context.Context) error {
	r := w.r
	if !r.eager && !w.spent() && w.overtaken() {
		return nil // what this walk saw refused is accepted now
	}
	if w.surpassed() {
		w.extend()
		return nil
	}
	wait := w.wait(ctx)
	if wait <= 0 {
		return w.fail(nil)
	}
	if w.err == nil {
		// Refused on others' behalf: the quarantine that says so may end while
		// we wait.
		w.err = w.refusal()
	}
	var woken <-chan struct{}
	if !w.spent() || w.woken < maxLogins {
		var accepted bool
		if woken, accepted = w.wake(); accepted {
			w.woke()
			return nil
		}
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	// The reads end with the patience too.
	reads, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for backoff := firstPoll; ; backoff = min(2*backoff, lastPoll) {
		pause := time.NewTimer(jitter(backoff))
		select {
		case <-woken:
			pause.Stop()
			w.woke()
			return nil
		case <-patience.C:
			pause.Stop()
			return w.fail(w.impatient())
		case <-ctx.Done():
			pause.Stop()
			return w.fail(ctx.Err())
		case <-pause.C:
		}
		moved, err := w.moved(reads, backoff)
		switch {
		case moved:
			w.extend()
			return nil
		case err != nil && (reads.Err() == nil || ctx.Err() != nil):
			return w.fail(err)
		}
	}
}

// wait returns how long to wait for the labels to move; 0: that would be vain. It
// tells of a wait that is the walk's first of its kind.
func (w *Walk) wait(ctx context.Context) time.Duration {
	r := w.r
	if w.hopeless() {
		return 0
	}
	if !w.labels.rotating() {
		left := min(w.settling(), r.opts.Patience)
		if left > 0 && !w.lagging {
			w.lagging = true
			w.waits(ctx, "every version was refused and no rotation is to be seen, which may be late; waiting for one", left)
		}
		return left
	}
	if w.until.IsZero() {
		w.until = time.Now().Add(r.opts.Patience)
		w.waits(ctx, "every version was refused while a rotation may be under way; waiting for its end", r.opts.Patience)
	}
	// Not 0, which says something else.
	return max(time.Until(w.until), 1)
}

// waits tells of a wait.
func (w *Walk) waits(ctx context.Context, why string, patience time.Duration) {
	w.r.opts.Stats.Polls.Add(1)
	w.r.warn(ctx, why, slog.Duration("patience", patience))
}

// hopeless reports whether waiting for the end of a rotation would be vain.
func (w *Walk) hopeless() bool {
	r := w.r
	switch {
	case r.opts.Patience < 0:
		return true
	case w.lock != nil || len(w.users) > 0:
		return true // of a user that is locked out or not wanted, it makes no other
	}
	// A request does not wait for a rotation that cannot be seen, nor for one where it
	// was not refused with AWSCURRENT itself.
	return r.eager && (!w.labels.rotating() || !w.has(w.labels.current))
}

// settling returns for how long the labels may lag behind what the target has said of
// AWSCURRENT.
func (w *Walk) settling() time.Duration {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.target.settling(w.labels.current)
}

// surpassed reports whether rotations have gone past a walk while it made its logins:
// AWSCURRENT is on a version that it has not tried.
func (w *Walk) surpassed() bool {
	if w.r.eager || !w.spent() || w.has(w.labels.current) {
		return false
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return !w.r.target.quarantined(w.labels.current)
}

// extend gives a walk that has made its logins one more: the labels have moved, and
// what is to be tried now is another version, as a rule. Without it, two rotations
// in a row would be an outage where AWSPENDING may not be read.
func (w *Walk) extend() {
	if w.spent() {
		w.more++
	}
}

// woke gives a walk that has made its logins one more: the target has accepted
// somebody. It does so for as many times as a walk has logins, and no more: an
// endpoint over nodes that differ accepts somebody all the time.
func (w *Walk) woke() {
	if w.spent() {
		w.woken++
		w.extend()
	}
}

// outdated reports whether something has been heard of the target since the last pass
// began, of which that may have seen one half only: the label from before, say, and
// the quarantine from after it. Each time somebody else has made a login or a read.
func (w *Walk) outdated() bool {
	if w.r.eager || w.spent() {
		return false
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.target.news != w.news
}

// overtaken reports whether the target has accepted a login since the walk began to
// read.
func (w *Walk) overtaken() bool {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.target.accepted != w.accepted
}

// impatient is why a walk ends that has waited long enough.
func (w *Walk) impatient() error {
	if !w.labels.rotating() {
		return nil // as if it had not waited: there is none
	}
	if w.cause != nil {
		return fmt.Errorf("the labels were not seen to move within %v: %w", w.r.opts.Patience, w.cause)
	}
	return fmt.Errorf("the labels did not move within %v", w.r.opts.Patience)
}

// wake returns a channel that is closed at the next acceptance by the target,
// or reports that there was one since this walk began to read.
func (w *Walk) wake() (woken <-chan struct{}, accepted bool) {
	r := w.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target.accepted != w.accepted {
		return nil, true
	}
	if r.woken == nil {
		r.woken = make(chan struct{})
	}
	return r.woken, false
}

// labels is where AWSCURRENT and AWSPENDING were seen: on which versions, or
// nowhere, or hidden.
type labels struct {
	current, pending string
	blind            bool // the last look at AWSCURRENT failed
}

// hidden stands for the version under a label that cannot be read, be it for a
// denial or for a service that does not answer.
const hidden = "?"

// position returns where a read found its label.
func position(s *cache.Secret, err error) string {
	if err == nil {
		return s.VersionID()
	}
	if errors.Is(err, cache.ErrNotFound) {
		return nowhere
	}
	return hidden
}

// rotating reports whether a rotation may be under way: AWSPENDING is on
// another version than AWSCURRENT, or it cannot be seen where they are.
func (l labels) rotating() bool { return l.blind || l.pending != nowhere && l.pending != l.current }

// moved looks at both labels and reports whether they are elsewhere than the walk
// saw them. What others have read lately is good enough: everybody waits here.
// A read that fails says nothing; an error is what makes further waiting vain.
func (w *Walk) moved(ctx context.Context, backoff time.Duration) (bool, error) {
	moved, now := false, time.Now().Add(-backoff/4)
	for stage, before := range map[string]string{cache.Current: w.labels.current, cache.Pending: w.labels.pending} {
		s, err := w.r.cache.RefreshAfter(ctx, w.r.secretID, stage, now)
		w.r.note(stage, s, err)
		if err != nil && (ctx.Err() != nil || errors.Is(err, cache.ErrClosed)) {
			return false, err
		}
		if now := position(s, err); now != hidden && now != before {
			moved = true
		}
	}
	return moved, nil
}

// jitter spreads a pause over half of itself, so that the programs of a fleet
// that began to wait together do not ask together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
