package retry

import (
	"time"

	"github.com/keyturn/keyturn/cache"
)

// standings is what a Retrier remembers of its target. Verdicts race: a login
// that began before the password changed may succeed after one that began
// later was refused. So every login takes a number at its start and every
// verdict one when it is recorded, and a verdict counts only if its login began
// after the latest opposite one was recorded.
type standings struct {
	since    func(time.Time) time.Duration // how long ago an instant was: see cache.Since
	one      bool                          // see Options.OneServer
	count    uint64                        // the last number given
	versions map[string]*standing
	locked   map[string]lock // by user

	// news counts what changes which versions may be tried: verdicts, and labels
	// that were seen to move.
	news uint64

	accepted uint64 // number of the latest acceptance of any version
	refusing bool   // a refusal was the last word: the gate is closed

	refusedAt time.Time // of the latest refusal that was news
	streak    int       // refusals that counted since the latest acceptance

	current string    // the version that AWSCURRENT was last seen on
	readAt  time.Time // start of the read that saw it there

	// The latest read of AWSPENDING: its start, and when its answer was there; and
	// whether it told where that is, if it is anywhere.
	pendingAsked, pendingAnswered time.Time
	pendingHidden                 bool
}

// A standing is what is remembered of one version.
type standing struct {
	accepted   uint64 // number of the latest acceptance, 0: none
	acceptedAt time.Time
	refused    uint64 // number of the latest refusal, whether it counted or not, 0: none
	refusedAt  time.Time
	err        error     // the target's own, of that refusal
	counted    uint64    // number of the latest refusal that counted, 0: none
	turnedAt   time.Time // of the first refusal that counted after an acceptance
	freed      uint64    // number of the latest refusal, of another version, that made this one worth a try again

	held    time.Duration // how long it is in quarantine, from heldAt; 0: it is not
	heldAt  time.Time
	current string // where AWSCURRENT was at the refusal
	pending string // where AWSPENDING was in the first read after it; "": not read yet
}

// A lock is what the target said when it locked a user out.
type lock struct {
	at  time.Time
	err error
}

// nowhere stands for a label that no version carries.
const nowhere = "-"

// of returns the standing of a version, which it makes if there is none.
func (t *standings) of(version string) *standing {
	st := t.versions[version]
	if st != nil {
		return st
	}
	if t.versions == nil {
		t.versions = make(map[string]*standing)
	}
	// One version comes with every rotation: the oldest go, so that a program
	// that runs for years does not grow.
	for len(t.versions) >= 16 {
		oldest := ""
		for v, st := range t.versions {
			if oldest == "" || max(st.accepted, st.refused) < max(t.versions[oldest].accepted, t.versions[oldest].refused) {
				oldest = v
			}
		}
		delete(t.versions, oldest)
	}
	st = &standing{}
	t.versions[version] = st
	return st
}

// number gives the next number.
func (t *standings) number() uint64 {
	t.count++
	return t.count
}

// accept records that a login which began as number began was accepted. It
// reports whether the verdict counts, and whether it is news.
func (t *standings) accept(version string, began uint64) (counts, news bool) {
	st := t.of(version)
	if began < st.refused {
		return false, false // it began before the password changed
	}
	news = st.accepted <= st.refused
	st.accepted, st.acceptedAt = t.number(), time.Now()
	st.held = 0
	t.accepted, t.refusing, t.streak = st.accepted, false, 0
	t.news++
	return true, news
}

// refuse records that a login which began as number began was refused with err.
// It reports whether the verdict counts. Its number is t.count then.
func (t *standings) refuse(version string, began uint64, err error) (counts bool) {
	st, now := t.of(version), time.Now()
	// Of the stragglers of a change none but the first brings news: what was
	// read of the labels since then will do for all, in one call.
	if began > st.refused {
		t.refusedAt = now
	}
	// Whether it counts or not, something has changed: from here on one login
	// at a time, until one is accepted. Only of what is in quarantine it is no
	// news: the stragglers of a change would close the gate one by one.
	t.refusing = t.refusing || !t.quarantined(version)
	counts = began > st.accepted
	st.refused, st.refusedAt, st.err = t.number(), now, err
	t.news++
	if !counts {
		return false // it began before the version was accepted
	}
	// A version that was accepted since its last refusal, and now is not: the
	// target has changed, and what it refused before that it may accept again,
	// be it for a rollback or because it has caught up. Each acceptance pays
	// for one such change. An endpoint over nodes that differ changes with every
	// login; it gets a few more, if it has just accepted both. But where none
	// is accepted any more, the passwords are wrong, and trying them in turns
	// would lock the account. Nor do those get any that may not see AWSPENDING:
	// what they meet is the next rotation, as a rule, whose end they wait for.
	changed := st.accepted > st.counted
	if changed {
		st.turnedAt = now
	}
	st.counted = st.refused
	t.streak++
	differs := !t.one && t.lately(st) && t.streak <= maxStreak && !t.pendingHidden
	for v, other := range t.versions {
		if v != version && t.quarantined(v) && (changed || differs && t.lately(other)) {
			other.held, other.freed = 0, st.refused
		}
	}
	st.held, st.heldAt, st.current, st.pending = quarantine, now, t.current, ""
	return true
}

// barred reports whether a version that a walk was refused with, by the verdict of
// that number, is nothing for that walk any more: there has been no reason since to
// think that the target accepts it.
func (t *standings) barred(version string, verdict uint64) bool {
	st := t.versions[version]
	return st == nil || verdict > max(st.accepted, st.freed)
}

// lately reports whether the version was accepted no longer ago than a
// quarantine lasts.
func (t *standings) lately(st *standing) bool {
	return st.accepted > 0 && t.since(st.acceptedAt) < quarantine
}

// settling returns for how long the labels may lag behind what the target says of the
// version, which AWSCURRENT was last seen on: it has just refused what it had accepted.
// A version that was never accepted has nothing to settle: its password is wrong.
func (t *standings) settling(version string) time.Duration {
	st := t.versions[version]
	if st == nil || st.refused <= st.accepted || st.turnedAt.IsZero() {
		return 0
	}
	return settle - t.since(st.turnedAt)
}

// quarantined reports whether the version must not be tried.
func (t *standings) quarantined(version string) bool {
	st := t.versions[version]
	return st != nil && st.held > 0 && t.since(st.heldAt) < st.held
}

// open reports whether the version may be tried: neither it nor its user is to be
// left alone.
func (t *standings) open(version, user string) bool {
	return !t.quarantined(version) && t.lockout(user) == nil
}

// lockOut records that the target has locked a user out.
func (t *standings) lockOut(user string, err error) {
	if t.locked == nil {
		t.locked = make(map[string]lock)
	}
	for other, l := range t.locked {
		if t.since(l.at) >= quarantine {
			delete(t.locked, other)
		}
	}
	t.locked[user] = lock{time.Now(), err}
}

// lockout returns what the target said when it locked the user out, if that is no
// longer ago than a quarantine lasts.
func (t *standings) lockout(user string) error {
	if l, ok := t.locked[user]; ok && t.since(l.at) < quarantine {
		return l.err
	}
	return nil
}

// proven reports whether logins with the version may go ahead side by side. A
// refusal of it, be it one that does not count, must have been made good.
func (t *standings) proven(version string) bool {
	st := t.versions[version]
	return !t.refusing && st != nil && st.accepted > st.refused && t.since(st.acceptedAt) < provenFor
}

// sawCurrent takes note of a read of AWSCURRENT. If the label has moved since a
// refusal, that version's quarantine is over.
func (t *standings) sawCurrent(s *cache.Secret) {
	if s.Fetched().Before(t.readAt) {
		return
	}
	if t.current != s.VersionID() {
		t.news++
	}
	t.current, t.readAt = s.VersionID(), s.Fetched()
	for _, st := range t.versions {
		if st.current != "" && st.current != t.current {
			st.held = 0
		}
	}
}

// sawPending takes note of a read of AWSPENDING that began at the given instant
// and found it on version, or nowhere.
func (t *standings) sawPending(version string, began time.Time) {
	for _, st := range t.versions {
		switch {
		case st.held == 0 || began.Before(st.refusedAt):
		case st.pending == "":
			st.pending = version
		case st.pending != version:
			st.held = 0
			t.news++
		}
	}
}

// refusal returns the target's own error of the refusal for which the version is
// in quarantine, or nil.
func (t *standings) refusal(version string) error {
	if !t.quarantined(version) {
		return nil
	}
	return t.versions[version].err
}
