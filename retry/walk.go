package retry

import (
	"context"
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
//	// one login with s, which ends with err, and then
//	again := w.Done(ctx, err)
//
// A Walk belongs to one caller and is not safe for concurrent use. One that is
// dropped between two steps needs nothing; one dropped during a login keeps
// its slot of Options.MaxConcurrentLogins, so report every login.
type Walk struct {
	r *Retrier

	tried   []Attempt // the logins made
	more    int       // how many it may make beyond maxLogins
	woken   int       // how many of these for an acceptance
	barred  []barred  // the versions that were refused in this walk
	doubted []string  // those refused by a verdict that did not count
	users   []string  // the users that the target does not want
	err     error     // the target's last refusal
	cause   error     // a read of the last pass that failed
	lock    error     // what the target said when it locked out AWSCURRENT's user

	labels   labels    // where the last pass saw them
	accepted uint64    // the target's latest acceptance before that pass
	news     uint64    // what had been heard of it by then
	until    time.Time // end of Options.Patience; zero: not waiting yet
	lagging  bool      // it has waited for labels that may lag behind
	pass     string    // the version to try without a lead: the gate has let us go

	login *login // under way
	slot  bool   // it has one of Options.MaxConcurrentLogins
}

// A barred version was refused in this walk, by the verdict of that number.
type barred struct {
	version string
	verdict uint64
}

// A login is one that Next has handed out and that has no outcome yet.
type login struct {
	candidate
	number uint64
	lead   *lead // if the others wait for this one
	probe  bool  // the one caller who tries a version after its quarantine
}

// Walk begins a walk. It asks for nothing and waits for nothing.
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
			w.release()
			return nil, err
		}
		if c.secret == nil {
			if w.outdated() {
				continue
			}
			w.release() // whatever it waits for now, others may log in
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

// Done says how the login with the version that Next returned has ended, by its
// error, as [Retrier.Do] judges it. It reports whether that was a refusal, and
// Next is to be asked for another version. Where the error does not tell, say
// Accepted, Refused or NoVerdict instead.
func (w *Walk) Done(ctx context.Context, err error) (again bool) {
	switch r := w.r; {
	case err == nil:
		w.Accepted()
	case r.refusal(err):
		w.Refused(ctx, err)
		return true
	case r.opts.Accepts(err):
		w.Accepted()
	default:
		w.NoVerdict(ctx)
	}
	return false
}

// Accepted says that the target accepted the version that Next returned.
func (w *Walk) Accepted() {
	r, l := w.r, w.login
	if l == nil {
		return
	}
	version := l.secret.VersionID()
	r.mu.Lock()
	r.width = 0
	counts, first := r.target.accept(version, l.number)
	if counts && r.woken != nil {
		close(r.woken)
		r.woken = nil
	}
	r.endLocked(l, false)
	r.mu.Unlock()
	w.end()
	r.opts.Stats.Accepted.Add(1)
	if first {
		r.Report(Proven, version, l.stage, nil)
	}
}

// Refused says that the target refused it, with err, which must not be nil, and
// which Options.LockedOut and Options.RefusesUser are asked about. ctx is for the
// log alone.
func (w *Walk) Refused(ctx context.Context, err error) {
	r, l := w.r, w.login
	if l == nil {
		return
	}
	attempt := Attempt{VersionID: l.secret.VersionID(), Stage: l.stage}
	w.tried, w.err = append(w.tried, attempt), err
	r.warn(ctx, "login refused", slog.String("version_id", attempt.VersionID), slog.String("stage", attempt.Stage))
	switch user := r.opts.User(l.secret); {
	case r.opts.LockedOut(err):
		w.lockedOut(ctx, user, attempt, err)
	case r.opts.RefusesUser(err):
		w.unwanted(user, attempt, err)
	default:
		w.refused(attempt, err)
	}
}

// refused records the refusal of a version.
func (w *Walk) refused(attempt Attempt, err error) {
	r, l := w.r, w.login
	r.mu.Lock()
	r.width = 0
	counts := r.target.refuse(attempt.VersionID, l.number, err)
	verdict := r.target.count
	r.endLocked(l, false)
	r.mu.Unlock()
	w.end()
	// A refusal that does not count leaves open what the target thinks of the
	// version: others were let in with it since this login began, perhaps just
	// before the password changed, perhaps just after. So it is tried once
	// more, after what is newer, and as the gate is closed now, by one caller
	// for all. Only once: else a walk could spend all its logins on the old
	// password.
	if counts || slices.Contains(w.doubted, attempt.VersionID) {
		w.barred = append(w.barred, barred{attempt.VersionID, verdict})
	} else {
		w.doubted = append(w.doubted, attempt.VersionID)
	}
	r.Report(Refused, attempt.VersionID, attempt.Stage, err)
	if counts {
		r.Report(Quarantined, attempt.VersionID, attempt.Stage, err)
	}
}

// lockedOut records that the target has locked the user out. Each further login
// would prolong that.
func (w *Walk) lockedOut(ctx context.Context, user string, attempt Attempt, err error) {
	r := w.r
	r.mu.Lock()
	r.width = 0
	r.target.lockOut(user, err)
	r.endLocked(w.login, false)
	r.mu.Unlock()
	w.end()
	r.Report(Refused, attempt.VersionID, attempt.Stage, err)
	r.Report(LockedOut, attempt.VersionID, attempt.Stage, err)
	r.warn(ctx, "the target has locked the user out; no login with it for a while",
		slog.String("version_id", attempt.VersionID), slog.Duration("pause", quarantine))
}

// unwanted records that the target does not want the user, whatever the password.
// Of the password it has learned nothing, so nothing is held against the version,
// and nobody has to wait for anybody.
func (w *Walk) unwanted(user string, attempt Attempt, err error) {
	r := w.r
	w.users = append(w.users, user)
	r.mu.Lock()
	r.endLocked(w.login, true)
	r.mu.Unlock()
	w.end()
	r.Report(Refused, attempt.VersionID, attempt.Stage, err)
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
		r.target.of(l.secret.VersionID()).heldAt = time.Time{} // the next caller's turn
	}
	// A leader whose caller gave up hands on the lead: it has learned nothing.
	// Behind one that met a broken network more and more are let go: they would
	// fare no better in a line.
	r.endLocked(l, ctx.Err() == nil)
	r.mu.Unlock()
	w.end()
	r.opts.Stats.NoVerdict.Add(1)
}

// end gives back what a login had.
func (w *Walk) end() {
	w.login = nil
	w.release()
}

// restart forgets what was refused: the labels have moved, or a login was
// accepted. The logins made stay counted.
func (w *Walk) restart() { w.barred, w.doubted, w.pass = nil, nil, "" }

// fail returns the error of a walk that ends with cause, or for want of
// candidates if cause is nil.
func (w *Walk) fail(cause error) error {
	r, refusal := w.r, w.err
	if cause == nil {
		cause = w.cause
	}
	if refusal == nil {
		refusal = w.refusal()
	}
	switch {
	case refusal != nil:
		return &Error{SecretID: r.secretID, Target: r.opts.Target, Tried: w.tried, Err: refusal, Cause: cause}
	case cause != nil:
		return cause
	}
	return fmt.Errorf("retry: no version of secret %q is meant for %s; check the host and the port in it", r.secretID, r.opts.Target)
}

// refusal returns the target's own error of the refusal that keeps what
// AWSCURRENT is on from being tried, or nil.
func (w *Walk) refusal() error {
	if w.lock != nil {
		return w.lock
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.target.refusal(w.labels.current)
}

func (r *Retrier) warn(ctx context.Context, message string, attrs ...slog.Attr) {
	r.opts.Logger.LogAttrs(ctx, slog.LevelWarn, message,
		append(attrs, slog.String("secret_id", r.secretID), slog.String("target", r.opts.Target))...)
}
