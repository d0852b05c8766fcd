package retry

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// A candidate is a version to try, and the label it was found under.
type candidate struct {
	secret *cache.Secret
	stage  string
}

// A step is a look at a label. The order is that of the candidates.
type step int

const (
	held     step = iota // AWSCURRENT as the cache has it
	renewed              // AWSCURRENT, read again if that is still the version held
	pending              // AWSPENDING: the password is changed, the label not yet moved
	promoted             // AWSCURRENT once more: the label may have moved since the renewal
	previous             // AWSPREVIOUS: the target lags behind, as a read replica does
)

// candidate returns the first version that may be tried; none if there is none.
//
// A walk that has made all its logins is offered none, but sees where the labels
// are: it may have to wait until they move.
//
// It looks at the labels from the start each time. What is held costs no call,
// and what was read before the latest refusal is of no use: where rotation
// follows rotation, AWSPENDING has moved on by the time its version is refused.
func (w *Walk) candidate(ctx context.Context) (candidate, error) {
	r := w.r
	r.mu.Lock()
	w.accepted, w.news = r.target.accepted, r.target.news
	r.mu.Unlock()
	w.labels, w.cause = labels{pending: nowhere}, nil
	var (
		current  *cache.Secret // what AWSCURRENT was last seen on
		answered time.Time     // when it was known where AWSPENDING is
		doubted  candidate     // what is left open, and tried if nothing newer is to be had
	)
	for step := held; step <= previous; step++ {
		if step == previous && (doubted.secret != nil || w.spent()) {
			return doubted, nil
		}
		stage, s, err := w.look(ctx, step, current, answered)
		began := r.note(stage, s, err)
		switch {
		case err == nil:
		case step == held || ctx.Err() != nil || errors.Is(err, cache.ErrClosed):
			return candidate{}, w.fail(err)
		case !errors.Is(err, cache.ErrNotFound):
			// There is merely no such candidate, and nobody's next walk is
			// held to it.
			w.cause = err
		}
		switch stage {
		case cache.Current:
			if err == nil {
				current, w.labels.current = s, s.VersionID()
			}
			w.labels.blind = err != nil
		case cache.Pending:
			answered, w.labels.pending = r.answered(began), position(s, err)
		}
		if err == nil && w.offers(s) {
			if !slices.Contains(w.doubted, s.VersionID()) {
				return candidate{s, stage}, nil
			}
			doubted = candidate{s, stage}
		}
		if step == renewed {
			if broken := w.r.opts.Broken(current); broken != nil {
				w.cause = broken
			} else if !w.turnedDown(current) {
				break // not meant for this target: there is nothing to get round
			}
		}
	}
	return doubted, nil // AWSPREVIOUS may be, of a replica that has just caught up
}

// look reads the label of a step, if what the cache holds of it will not do.
func (w *Walk) look(ctx context.Context, step step, current *cache.Secret, answered time.Time) (stage string, s *cache.Secret, err error) {
	c, id := w.r.cache, w.r.secretID
	switch step {
	case held:
		s, err = w.r.handle.Get(ctx)
		// A refusal asks for a look at where the label is after it, of which
		// all who wait at the gate have one. If there is none to be had, what
		// is held has to do.
		if at, ok := w.r.refusedAt(); ok && err == nil && !s.Fetched().After(at) {
			if newer, err := c.RefreshAfter(ctx, id, cache.Current, at); err == nil {
				s = newer
			}
		}
		return cache.Current, s, err
	case renewed:
		s, err = c.RefreshIf(ctx, id, current.VersionID())
		return cache.Current, s, err
	case pending:
		s, err = c.RefreshAfter(ctx, id, cache.Pending, w.labelsAfter())
		return cache.Pending, s, err
	case promoted:
		s, err = c.RefreshAfter(ctx, id, cache.Current, answered)
		return cache.Current, s, err
	default:
		s, err = c.RefreshAfter(ctx, id, cache.Previous, w.labelsAfter())
		return cache.Previous, s, err
	}
}

// refusedAt returns when the target last refused a login, if it has accepted none
// since.
func (r *Retrier) refusedAt() (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.target.refusedAt, r.target.refusing
}

// answered returns an instant at which the answer of the read of AWSPENDING that
// began at asked was there: the first at which anybody had it, so that all who
// share the read share what follows from it.
func (r *Retrier) answered(asked time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if asked.After(r.target.pendingAsked) {
		r.target.pendingAsked, r.target.pendingAnswered = asked, time.Now()
	}
	return r.target.pendingAnswered
}

// offers reports whether the version may be tried.
func (w *Walk) offers(s *cache.Secret) bool {
	if !w.r.opts.Usable(s) || w.r.opts.Broken(s) != nil {
		return false
	}
	user, version := w.r.opts.User(s), s.VersionID()
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	barred := slices.ContainsFunc(w.barred, func(b barred) bool {
		return b.version == version && w.r.target.barred(version, b.verdict)
	})
	return !w.spent() && !barred && !slices.Contains(w.users, user) && w.r.target.open(version, user)
}

// spent reports whether the walk has made all the logins that it may make.
func (w *Walk) spent() bool { return len(w.tried) >= maxLogins+w.more }

// note takes note of where a read found its label, and returns the start of
// that read.
func (r *Retrier) note(stage string, s *cache.Secret, err error) time.Time {
	began, version := time.Now(), nowhere
	if failed, ok := errors.AsType[*cache.Error](err); ok {
		began = failed.Began
	}
	if err == nil {
		began, version = s.Fetched(), s.VersionID()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case stage == cache.Current && err == nil:
		r.target.sawCurrent(s)
	case stage == cache.Pending:
		if r.target.pendingHidden = position(s, err) == hidden; !r.target.pendingHidden {
			r.target.sawPending(version, began)
		}
	}
	return began
}

// labelsAfter returns the instant after which a read of a label must have begun
// to be of use: the latest refusal, and no longer ago than labelAge.
func (w *Walk) labelsAfter() time.Time {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	after := time.Now().Add(-labelAge)
	if w.r.target.refusedAt.After(after) {
		return w.r.target.refusedAt
	}
	return after
}

// turnedDown reports whether this walk was refused, or somebody else was a moment
// ago with what AWSCURRENT is on.
func (w *Walk) turnedDown(current *cache.Secret) bool {
	user := w.r.opts.User(current)
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.lock = w.r.target.lockout(user)
	return len(w.tried) > 0 || w.r.target.quarantined(current.VersionID()) || w.lock != nil
}
