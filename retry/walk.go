package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// A Walk goes through the versions of a secret that its target may accept, one
// login at a time. [Retrier.Do] is a loop over one; take the steps yourself
// only in a place that cannot loop, such as a driver's hook:
//
//	s, err := w.Next(ctx)
//	// one login with s, and then one of
//	w.Accepted()
//	w.Refused(ctx, err)
//	w.NoVerdict(ctx)
//
// A Walk belongs to one caller and is not safe for concurrent use. One that is
// dropped between two steps needs nothing; one dropped during a login keeps
// its slot of Options.MaxConcurrentLogins, so report every login.
type Walk struct {
	r *Retrier

	tried   []Attempt // the logins made
	barred  []string  // the versions that were refused in this walk
	doubted []string  // those refused by a verdict that did not count
	err     error     // the target's last refusal
	cause   error     // the last read that failed

	// What the walk has read so far, in the order of the candidates, and which
	// read comes next. Each is made once, but looked at again after every
	// refusal: what was in quarantine may have left it.
	found  []candidate
	next   step
	asked  time.Time // start of the read of AWSPENDING
	hidden bool      // AWSPENDING cannot be read: a rotation may be under way

	accepted uint64    // the target's latest acceptance when the reads began
	until    time.Time // end of Options.Patience; zero: not waiting yet
	pass     bool      // was released from the gate: go on without a lead

	login *login // under way
}

// A candidate is a version to try, and the label it was found under.
type candidate struct {
	secret *cache.Secret
	stage  string
	usable bool // Options.Usable said so, when it was read
}

// A login is one that Next has handed out and that has no outcome yet.
type login struct {
	candidate
	number uint64
	lead   *lead // if the others wait for this one
	probe  bool  // the one caller who tries a version after its quarantine
}

// A step is a read of a walk. The order is that of the candidates.
type step int

const (
	held     step = iota // AWSCURRENT as the cache has it
	renewed              // AWSCURRENT, read again if that is still the version held
	pending              // AWSPENDING: the password is changed, the label not yet moved
	promoted             // AWSCURRENT once more: the label may have moved since the renewal
	previous             // AWSPREVIOUS: the target lags behind, as a read replica does
	complete
)

// Walk begins a walk.
func (r *Retrier) Walk() *Walk { return &Walk{r: r} }

// Next returns the version to log in with now. It may wait, no longer than ctx,
// for what [Retrier.Do] may wait for. The error is Do's.
//
// The order is always the same. "What worked last goes first" would be quicker
// in the middle of a rotation, but with alternating users the old version goes
// on working, and a pool would never leave it.
func (w *Walk) Next(ctx context.Context) (*cache.Secret, error) {
	if w.login != nil {
		w.NoVerdict(ctx)
	}
	for {
		c, err := w.candidate(ctx)
		if err != nil {
			return nil, err
		}
		if c.secret == nil {
			if err := w.poll(ctx); err != nil {
				return nil, err
			}
			w.restart()
			continue
		}
		admitted, err := w.admit(ctx, c)
		if err != nil {
			return nil, w.fail(err)
		}
		if admitted {
			return c.secret, nil
		}
	}
}

// Accepted says that the target accepted the version that Next returned.
func (w *Walk) Accepted() {
	r, l := w.r, w.login
	if l == nil {
		return
	}
	r.mu.Lock()
	if r.target.accept(l.secret.VersionID(), l.number) && r.woken != nil {
		close(r.woken)
		r.woken = nil
	}
	r.endLocked(l, false)
	r.mu.Unlock()
	w.end()
}

// Refused says that the target refused it, with err. ctx is for the log alone.
func (w *Walk) Refused(ctx context.Context, err error) {
	r, l := w.r, w.login
	if l == nil {
		return
	}
	attempt := Attempt{VersionID: l.secret.VersionID(), Stage: l.stage}
	w.tried, w.err = append(w.tried, attempt), err
	r.mu.Lock()
	counts, free := r.target.refuse(attempt.VersionID, l.number, err)
	r.endLocked(l, false)
	r.mu.Unlock()
	w.end()
	// A refusal that does not count leaves open what the target thinks of the
	// version: others were let in with it since this login began, perhaps just
	// before the password changed, perhaps just after. So it is tried once
	// more, and as the gate is closed now, by one caller for all. Only once:
	// else a walk could spend all its logins on the old password.
	if counts || slices.Contains(w.doubted, attempt.VersionID) {
		w.barred = append(w.barred, attempt.VersionID)
	} else {
		w.doubted = append(w.doubted, attempt.VersionID)
	}
	w.barred = slices.DeleteFunc(w.barred, func(v string) bool { return slices.Contains(free, v) })
	r.warn(ctx, "login refused", slog.String("version_id", attempt.VersionID), slog.String("stage", attempt.Stage))
}

// NoVerdict says that the login ended without telling whether the version is
// good: the network failed, or ctx, with which it was made, ended.
func (w *Walk) NoVerdict(ctx context.Context) {
	r, l := w.r, w.login
	if l == nil {
		return
	}
	r.mu.Lock()
	if l.probe {
		r.target.of(l.secret.VersionID()).until = time.Now() // the next caller's turn
	}
	// A leader whose caller gave up hands on the lead. One that met a broken
	// network lets everybody go: nobody behind it would fare better in a line.
	r.endLocked(l, ctx.Err() == nil)
	r.mu.Unlock()
	w.end()
}

func (w *Walk) end() {
	w.login = nil
	if w.r.slots != nil {
		<-w.r.slots
	}
}

// restart forgets what was read and refused: the labels have moved, or a login
// was accepted. The logins made stay counted.
func (w *Walk) restart() {
	w.found, w.next, w.barred, w.hidden, w.pass = nil, held, nil, false, false
}

// candidate returns the first version that may be tried, reading as far as it
// must; none if there is none.
func (w *Walk) candidate(ctx context.Context) (candidate, error) {
	if len(w.tried) >= maxLogins {
		return candidate{}, nil
	}
	for {
		if c := w.offer(); c.secret != nil {
			return c, nil
		}
		if w.next == complete {
			return candidate{}, nil
		}
		if err := w.read(ctx); err != nil {
			return candidate{}, w.fail(err)
		}
		w.next++
	}
}

// offer returns the first candidate read so far that may be tried.
func (w *Walk) offer() candidate {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	for _, c := range w.found {
		version := c.secret.VersionID()
		if c.usable && !slices.Contains(w.barred, version) && !w.r.target.quarantined(version) {
			return c
		}
	}
	return candidate{}
}

// read makes the walk's next read. Its error ends the walk: that of the first
// read, that of ctx, and cache.ErrClosed. Of any other, there is merely no such
// candidate, and nobody's next walk is held to it.
func (w *Walk) read(ctx context.Context) error {
	r := w.r
	var (
		stage = cache.Current
		s     *cache.Secret
		err   error
	)
	switch w.next {
	case held:
		r.mu.Lock()
		w.accepted = r.target.accepted
		r.mu.Unlock()
		s, err = r.handle.Get(ctx)
	case renewed:
		s, err = r.cache.RefreshIf(ctx, r.secretID, w.found[0].secret.VersionID())
	case pending:
		if !w.refused() {
			// The version held is not meant for this target, and neither is a
			// newer one: there is nothing to get round.
			w.next = complete - 1
			return nil
		}
		stage = cache.Pending
		s, err = r.cache.RefreshAfter(ctx, r.secretID, stage, w.labelsAfter())
	case promoted:
		s, err = r.cache.RefreshAfter(ctx, r.secretID, stage, w.asked)
	case previous:
		stage = cache.Previous
		s, err = r.cache.RefreshAfter(ctx, r.secretID, stage, w.labelsAfter())
	}
	began := r.note(stage, s, err)
	if w.next == pending {
		w.asked = began
	}
	switch {
	case err == nil:
		// What AWSCURRENT was on before is no candidate any more, though the
		// move has just ended its quarantine.
		w.found = slices.DeleteFunc(w.found, func(c candidate) bool { return c.stage == stage })
		w.found = append(w.found, candidate{s, stage, r.opts.Usable(s)})
	case w.next == held || ctx.Err() != nil || errors.Is(err, cache.ErrClosed):
		return err
	case !errors.Is(err, cache.ErrNotFound):
		w.cause = err
		w.hidden = w.hidden || stage == cache.Pending && denied(err)
	}
	return nil
}

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
	case stage == cache.Pending && (err == nil || errors.Is(err, cache.ErrNotFound)):
		r.target.sawPending(version, began)
	}
	return began
}

// denied reports whether err is the service refusing to say.
func denied(err error) bool {
	failed, ok := errors.AsType[*cache.Error](err)
	return ok && !failed.Transient && !errors.Is(err, cache.ErrNotFound)
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

// refused reports whether this walk was refused, or has met a version that
// somebody else was refused with a moment ago.
func (w *Walk) refused() bool {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return len(w.barred) > 0 || slices.ContainsFunc(w.found, func(c candidate) bool {
		return w.r.target.quarantined(c.secret.VersionID())
	})
}

// fail returns the error of a walk that ends with cause, or for want of
// candidates if cause is nil.
func (w *Walk) fail(cause error) error {
	r, refusal := w.r, w.err
	if cause == nil {
		cause = w.cause
	}
	if refusal == nil && w.refused() {
		r.mu.Lock()
		refusal = r.target.lastRefusal()
		r.mu.Unlock()
	}
	switch {
	case refusal != nil:
		return &Error{SecretID: r.secretID, Target: r.opts.Target, Tried: w.tried, Err: refusal, Cause: cause}
	case cause != nil:
		return cause
	}
	return fmt.Errorf("retry: no version of secret %q is meant for %s; check the host and the port in it", r.secretID, r.opts.Target)
}

func (r *Retrier) warn(ctx context.Context, message string, attrs ...slog.Attr) {
	r.opts.Logger.LogAttrs(ctx, slog.LevelWarn, message,
		append(attrs, slog.String("secret_id", r.secretID), slog.String("target", r.opts.Target))...)
}
