package smtest

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"
)

// What the server does at a time of its own: rotations by schedule, retries of
// rotations that failed, AWSPENDING that is cleaned up late. It waits for that with
// timers, not with goroutines, and only while there is something to wait for.
//
// Nobody stops a timer, and nobody relies on one that was started for somebody else:
// a server may be older than the synctest bubble in which a timer was made, and live
// on after it. To stop the timer from outside of the bubble would be fatal, and it
// never goes off once the bubble is gone. Only the latest timer counts, which is
// the first to go off; the others do nothing when they do.

// maxWait is how long a timer runs at most. It is also how late the server notices
// that the machine slept, which timers do not see, or that its clock was set.
const maxWait = time.Hour

// awaitLocked makes sure that the server looks at a secret when something is due
// there. It must be called after every change of the secret's rotation.
func (s *Server) awaitLocked(sec *secret, now time.Time) {
	if at := sec.due(); !at.IsZero() {
		s.timed[sec] = struct{}{}
		s.wakeLocked(at, now)
	}
}

// wakeLocked makes sure that the server looks for what is due at that time, or
// sooner.
func (s *Server) wakeLocked(at, now time.Time) {
	if s.closed {
		return
	}
	if limit := now.Add(maxWait); at.After(limit) {
		at = limit
	}
	if s.wake.After(now) && s.wake.Before(at) {
		at = s.wake
	}
	s.wake = at
	s.timers++
	latest := s.timers
	time.AfterFunc(time.Until(at), func() { s.tick(latest) })
}

// tick does what is due. It runs on a timer's goroutine, each rotation on its own;
// Close waits for those.
func (s *Server) tick(timer uint64) {
	s.mu.Lock()
	defer s.release()
	if s.closed || timer != s.timers {
		return
	}
	now := timestamp()
	var next time.Time
	for _, sec := range s.timedLocked() {
		s.journal.sawLocked(sec)
		s.dueLocked(sec, now)
		at := sec.due()
		if at.IsZero() || sec.store.byName[sec.name] != sec {
			delete(s.timed, sec)
			continue
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if !next.IsZero() {
		s.wakeLocked(next, now)
	}
}

// timedLocked returns the secrets that something may be due at, always in the same
// order.
func (s *Server) timedLocked() []*secret {
	out := make([]*secret, 0, len(s.timed))
	for sec := range s.timed {
		out = append(out, sec)
	}
	slices.SortFunc(out, func(a, b *secret) int { return cmp.Compare(a.arn, b.arn) })
	return out
}

// due returns when something is next to be done at the secret, zero for never.
func (sec *secret) due() time.Time {
	first := sec.rotation.scheduled(sec)
	for _, at := range []time.Time{sec.rotation.retryAt, sec.rotation.cleanAt} {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// dueLocked does what is due at a secret.
func (s *Server) dueLocked(sec *secret, now time.Time) {
	c := &sec.rotation
	isDue := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	if isDue(c.cleanAt) {
		s.cleanUpLocked(sec, now)
	}
	attempt := 0
	switch {
	case isDue(c.scheduled(sec)):
		c.tried = now
	case isDue(c.retryAt):
		attempt = c.failures
		if _, incomplete := sec.incomplete(); !incomplete { // Somebody has seen to it.
			c.retryAt = time.Time{}
			return
		}
	default:
		return
	}
	c.retryAt = time.Time{}
	if sec.deleted() || sec.running() || sec.store.byName[sec.name] != sec {
		return
	}
	if err := s.rotateLocked(sec, attempt, now); err != nil {
		s.opts.Logger.LogAttrs(context.Background(), slog.LevelWarn, "smtest: rotation not started",
			slog.String("secret_id", sec.arn), slog.Any("error", err))
	}
}

// rotateLocked starts a rotation that nobody asked for: a new one, or once more
// the one that is not complete.
func (s *Server) rotateLocked(sec *secret, attempt int, now time.Time) *Error {
	fn, err := s.functionLocked(sec, sec.rotation.function)
	if err != nil {
		return err
	}
	token, incomplete := sec.incomplete()
	if !incomplete {
		if err := sec.checkRoom(now); err != nil {
			return err
		}
		token = newID()
		s.rememberLocked(sec, now)
		sec.newVersion(token, nil, now)
		sec.labels[labelPending] = token
	}
	s.launchLocked(sec, token, fn, attempt)
	return nil
}

// cleanUpLocked takes AWSPENDING off the version that a rotation has made
// AWSCURRENT, unless the label has gone elsewhere since.
func (s *Server) cleanUpLocked(sec *secret, now time.Time) {
	if sec.labels[labelPending] == sec.rotation.cleanFrom {
		s.rememberLocked(sec, now)
		delete(sec.labels, labelPending)
	}
	sec.rotation.cleanAt, sec.rotation.cleanFrom = time.Time{}, ""
}
