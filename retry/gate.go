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
	// released tells the waiters that the outcome was no verdict, and that they
	// need not queue again. Written before done is closed.
	released bool
}

// admit lets the walk begin a login with c, or waits for a reason to look at
// the candidates again and reports false.
func (w *Walk) admit(ctx context.Context, c candidate) (bool, error) {
	r := w.r
	if err := r.acquire(ctx); err != nil {
		return false, err
	}
	r.mu.Lock()
	version := c.secret.VersionID()
	if r.target.quarantined(version) {
		r.mu.Unlock()
		r.release()
		return false, nil // refused while we waited
	}
	l := &login{candidate: c}
	if !w.pass && !r.target.proven(version) {
		if first := r.lead; first != nil && time.Since(first.began) < provenFor {
			r.mu.Unlock()
			r.release()
			return false, w.follow(ctx, first)
		}
		l.lead = &lead{began: time.Now(), done: make(chan struct{})}
		r.lead = l.lead
	}
	w.pass = false
	if st := r.target.of(version); !st.until.IsZero() {
		// Its quarantine has run out, for us: the next caller waits as long
		// again, unless we find the version good.
		st.until = time.Now().Add(quarantine)
		l.probe = true
	}
	l.number = r.target.number()
	r.mu.Unlock()
	w.login = l
	return true, nil
}

// follow waits for the outcome of a lead, but no longer than a lead may take.
func (w *Walk) follow(ctx context.Context, l *lead) error {
	timer := time.NewTimer(provenFor - time.Since(l.began))
	defer timer.Stop()
	select {
	case <-l.done:
		w.pass = l.released
	case <-timer.C:
		w.pass = true
	case <-ctx.Done():
		return w.r.waiting(ctx)
	}
	return nil
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

// acquire takes a slot of Options.MaxConcurrentLogins.
func (r *Retrier) acquire(ctx context.Context) error {
	if r.slots == nil {
		return nil
	}
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return r.waiting(ctx)
	}
}

// release gives the slot back.
func (r *Retrier) release() {
	if r.slots != nil {
		<-r.slots
	}
}

// waiting is the error of a caller whose context ended before its login began.
func (r *Retrier) waiting(ctx context.Context) error {
	return fmt.Errorf("retry: secret %q: waiting for another caller's login to %s: %w", r.secretID, r.opts.Target, ctx.Err())
}
