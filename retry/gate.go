package retry

import (
	"context"
	"fmt"
	"time"
)

// A lead is a login that others wait for. With N connections and a changed
// password, one is refused in the place of N.
type lead struct {
	began time.Time
	done  chan struct{} // closed when the login has an outcome

	// released tells the waiters that the outcome was no verdict. Written
	// before done is closed.
	released bool

	// How many of the waiters may go ahead beside the next lead, once this one
	// has told nothing; -1 before that is decided. Protected by Retrier.mu.
	passes int
}

// admit lets the walk begin a login with c, or waits for a reason to look at
// the candidates again and reports false.
func (w *Walk) admit(ctx context.Context, c candidate) (bool, error) {
	r := w.r
	waited, err := w.acquire(ctx)
	if err != nil {
		return false, err
	}
	if waited {
		// While it waited for a login to end, that may have been refused, and
		// the labels been seen to move: c may be the old version by now, and
		// free to be tried once more.
		return false, nil
	}
	version, user := c.secret.VersionID(), r.opts.User(c.secret)
	r.mu.Lock()
	if !r.target.open(version, user) {
		r.mu.Unlock()
		w.release()
		return false, nil // refused while we looked
	}
	l := &login{candidate: c}
	if w.pass != version && !r.target.proven(version) && (!r.eager || r.target.troubled(version)) {
		if first := r.lead; first != nil && r.cache.Since(first.began) < provenFor {
			r.mu.Unlock()
			w.release()
			return false, w.follow(ctx, first, version)
		}
		l.lead = &lead{began: time.Now(), done: make(chan struct{}), passes: -1}
		r.lead = l.lead
	}
	w.pass = ""
	if st := r.target.of(version); st.held > 0 {
		// Its quarantine has run out, for one caller: the next may try it if
		// we hear nothing in the time that a lead may take.
		st.held, st.heldAt = provenFor, time.Now()
		l.probe = true
	}
	l.number = r.target.number()
	r.mu.Unlock()
	w.login = l
	r.Report(Tried, version, c.stage, nil)
	return true, nil
}

// follow waits for the outcome of a lead, but no longer than a lead may take. If
// there is none by then, or none that tells anything, the walk may be let go
// ahead with the version that it was waiting to try.
func (w *Walk) follow(ctx context.Context, l *lead, version string) error {
	w.r.opts.Stats.Waits.Add(1)
	timer := time.NewTimer(provenFor - w.r.cache.Since(l.began))
	defer timer.Stop()
	released := true
	select {
	case <-l.done:
		released = l.released
	case <-timer.C:
	case <-ctx.Done():
		return w.r.waiting(ctx)
	}
	// Requests all go: they do not lock an account, and their answers may take
	// longer than that.
	if released && (w.r.eager || w.r.widen(l)) {
		w.pass = version
	}
	return nil
}

// widen reports whether one more of those who waited behind l, which has told
// nothing, may go ahead beside the next lead. One may, and twice as many each
// time until there is a verdict.
//
// It is simpler to let all of them go. But a server that takes its time to
// refuse (PostgreSQL's auth_delay, a slow link), or that restarts while its
// password changes, then refuses them all, and where it counts to ten the
// account is locked.
func (r *Retrier) widen(l *lead) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.passes < 0 {
		r.width = max(1, 2*r.width)
		l.passes = r.width
	}
	if l.passes == 0 {
		return false
	}
	l.passes--
	return true
}

// endLocked ends the lead of a login that has an outcome. The caller holds r.mu.
func (r *Retrier) endLocked(l *login, released bool) {
	if l.lead == nil {
		return
	}
	if r.lead == l.lead {
		r.lead = nil
	}
	l.lead.released = released
	close(l.lead.done)
}

// acquire takes a slot of Options.MaxConcurrentLogins, if the walk has none, and
// reports whether it had to wait for it.
func (w *Walk) acquire(ctx context.Context) (waited bool, err error) {
	r := w.r
	if r.slots == nil || w.slot {
		return false, nil
	}
	select {
	case r.slots <- struct{}{}:
		w.slot = true
		return false, nil
	default:
	}
	select {
	case r.slots <- struct{}{}:
		w.slot = true
		return true, nil
	case <-ctx.Done():
		return false, r.waiting(ctx)
	}
}

// release gives the slot back, if the walk has one.
func (w *Walk) release() {
	if w.slot {
		w.slot = false
		<-w.r.slots
	}
}

// waiting is the error of a caller whose context ended before its login began.
func (r *Retrier) waiting(ctx context.Context) error {
	return fmt.Errorf("retry: secret %q: waiting for another caller's login to %s: %w", r.secretID, r.opts.Target, ctx.Err())
}
