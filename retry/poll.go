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

// poll is called when no candidate is left. If a rotation may be under way it
// waits until the labels move or a login is accepted, and returns nil: the walk
// begins anew. Otherwise, and when Options.Patience or ctx ends, it returns the
// walk's error. The refused passwords are not tried meanwhile.
func (w *Walk) poll(ctx context.Context) error {
	r := w.r
	if len(w.tried) >= maxLogins || r.opts.Patience < 0 || !w.rotating() {
		return w.fail(nil)
	}
	if w.until.IsZero() {
		w.until = time.Now().Add(r.opts.Patience)
		r.warn(ctx, "every version was refused while a rotation may be under way; waiting for its end",
			slog.Duration("patience", r.opts.Patience))
	}
	woken, accepted := w.wake()
	if accepted {
		return nil
	}
	before := w.labels()
	patience := time.NewTimer(time.Until(w.until))
	defer patience.Stop()
	for backoff := firstPoll; ; backoff = min(2*backoff, lastPoll) {
		pause := time.NewTimer(jitter(backoff))
		select {
		case <-woken:
			pause.Stop()
			return nil
		case <-patience.C:
			pause.Stop()
			return w.fail(fmt.Errorf("the labels did not move within %v", r.opts.Patience))
		case <-ctx.Done():
			pause.Stop()
			return w.fail(ctx.Err())
		case <-pause.C:
		}
		now, err := w.readLabels(ctx)
		if err != nil {
			return w.fail(err)
		}
		if now != before {
			return nil
		}
	}
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

// labels is where a walk found AWSCURRENT and AWSPENDING.
type labels struct{ current, pending string }

// hiddenLabel stands for an AWSPENDING that may not be read.
const hiddenLabel = "?"

// labels returns the positions as the walk's own reads showed them.
func (w *Walk) labels() labels {
	l := labels{pending: nowhere}
	if w.hidden {
		l.pending = hiddenLabel
	}
	for _, c := range w.found {
		switch c.stage {
		case cache.Current:
			l.current = c.secret.VersionID()
		case cache.Pending:
			l.pending = c.secret.VersionID()
		}
	}
	return l
}

// rotating reports whether a rotation may be under way: AWSPENDING is on
// another version than AWSCURRENT, or nobody lets us see where it is.
func (w *Walk) rotating() bool {
	l := w.labels()
	return l.pending != nowhere && l.pending != l.current
}

// readLabels reads both positions anew. A read that fails leaves its label
// where it was; only what makes further waiting vain is an error.
func (w *Walk) readLabels(ctx context.Context) (labels, error) {
	l, now := w.labels(), time.Now()
	for stage, position := range map[string]*string{cache.Current: &l.current, cache.Pending: &l.pending} {
		s, err := w.r.cache.RefreshAfter(ctx, w.r.secretID, stage, now)
		w.r.note(stage, s, err)
		switch {
		case err == nil:
			*position = s.VersionID()
		case ctx.Err() != nil || errors.Is(err, cache.ErrClosed):
			return l, err
		case stage == cache.Pending && errors.Is(err, cache.ErrNotFound):
			*position = nowhere
		}
	}
	return l, nil
}

// jitter spreads a pause over half of itself, so that the programs of a fleet
// that began to wait together do not ask together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
