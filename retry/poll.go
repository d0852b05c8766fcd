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
	if len(w.tried) >= maxLogins || r.opts.Patience < 0 || !w.labels.rotating() {
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
		moved, err := w.moved(ctx)
		if err != nil {
			return w.fail(err)
		}
		if moved {
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

// labels is where AWSCURRENT and AWSPENDING were seen: on which versions, or
// nowhere, or hidden.
type labels struct{ current, pending string }

// hidden stands for the version under a label that may not be read.
const hidden = "?"

// position returns where a read found its label.
func position(s *cache.Secret, err error) string {
	if err == nil {
		return s.VersionID()
	}
	failed, ok := errors.AsType[*cache.Error](err)
	if ok && !failed.Transient && !errors.Is(err, cache.ErrNotFound) {
		return hidden
	}
	return nowhere
}

// rotating reports whether a rotation may be under way: AWSPENDING is on
// another version than AWSCURRENT, or nobody lets us see where it is.
func (l labels) rotating() bool { return l.pending != nowhere && l.pending != l.current }

// moved reads both labels anew and reports whether they are elsewhere than the
// walk saw them. A read that fails for the moment says nothing; an error is
// only what makes further waiting vain.
func (w *Walk) moved(ctx context.Context) (bool, error) {
	moved, now := false, time.Now()
	for stage, before := range map[string]string{cache.Current: w.labels.current, cache.Pending: w.labels.pending} {
		s, err := w.r.cache.RefreshAfter(ctx, w.r.secretID, stage, now)
		w.r.note(stage, s, err)
		failed, _ := errors.AsType[*cache.Error](err)
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, cache.ErrClosed)):
			return false, err
		case failed != nil && (failed.Transient || stage == cache.Current):
		default:
			moved = moved || position(s, err) != before
		}
	}
	return moved, nil
}

// jitter spreads a pause over half of itself, so that the programs of a fleet
// that began to wait together do not ask together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
