package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// stuckAfter is the age of AWSPENDING from which a rotation counts as stuck. Four
// steps of some seconds each are over by then.
const stuckAfter = 10 * time.Minute

// A situation is what is known about a rotation that is not over, and what the
// fixes are made of.
type situation struct {
	*snapshot

	logins []login
	cmd    commands
	now    time.Time
}

// stuckFindings says whether somebody has to act on a rotation: what the logins have
// shown goes before what the labels suggest.
func stuckFindings(snap *snapshot, logins []login, cmd commands, now time.Time) []Finding {
	current := snap.labelled[stageCurrent]
	if current == nil || snap.deleted() {
		return nil
	}
	s := situation{snap, logins, cmd, now}
	f := s.judge(current)
	f.Check = checkStuck
	return []Finding{f}
}

func (s situation) judge(current *secretVersion) Finding {
	pending := s.pending()
	if s.outcome(current) == refused {
		return s.refused(current, pending)
	}
	switch {
	case pending != nil:
		return s.incomplete(current, pending)
	case s.described == nil:
		return Finding{Status: Unknown, Detail: "whether a rotation is incomplete only DescribeSecret tells"}
	}
	if lag := s.refusing(current); len(lag) > 0 {
		return Finding{
			Status: Problem, Detail: "no rotation is incomplete, but AWSCURRENT is refused on " + strings.Join(lag, ", "),
			Fix: "see to replication: these servers have not heard of the password; applications with dbconn log in there with AWSPREVIOUS meanwhile",
		}
	}
	if newer := s.abandoned(current); newer != nil && s.outcome(current) != accepted {
		return Finding{
			Status: Note, Version: newer.id, Detail: "no rotation is incomplete, but a version without a label is newer than AWSCURRENT: " +
				"a rotation was given up, perhaps after the database had got its password",
			Fix: "see whether AWSCURRENT logs in\n" + s.cmd.login(),
		}
	}
	return Finding{Status: OK, Detail: "no rotation is incomplete"}
}

// outcome returns that of the login on the server itself.
func (s situation) outcome(v *secretVersion) outcome {
	if v == nil {
		return noVerdict
	}
	for _, l := range s.logins {
		if l.version == v && !l.replica {
			return l.outcome
		}
	}
	return noVerdict
}

// refusing returns the replicas that refuse a version.
func (s situation) refusing(v *secretVersion) []string {
	var servers []string
	for _, l := range s.logins {
		if l.version == v && l.replica && l.outcome == refused {
			servers = append(servers, l.server)
		}
	}
	return servers
}

// everywhere reports whether each login with a version had that outcome.
func (s situation) everywhere(v *secretVersion, want outcome) bool {
	return s.outcome(v) == want && !slices.ContainsFunc(s.logins, func(l login) bool { return l.version == v && l.outcome != want })
}

// refused is for a server that does not take AWSCURRENT: which password does it take?
func (s situation) refused(current, pending *secretVersion) Finding {
	f := Finding{Status: Problem}
	previous := s.labelled[stagePrevious]
	switch {
	case pending != nil && s.outcome(pending) == accepted:
		f.Version = pending.id
		f.Detail = fmt.Sprintf("the window of the rotation is open: the server refuses AWSCURRENT and accepts AWSPENDING (%s). "+
			"Applications with Keyturn's dbconn log in with AWSPENDING; others get errors", pending.age(s.now))
		f.Fix = "for some seconds that is normal. If it stays, have the rotation repeated" + s.repeat()
		if lag := s.refusing(pending); len(lag) > 0 {
			f.Fix += "\nnot by hand yet: AWSPENDING is refused on " + strings.Join(lag, ", ") + "; see to replication"
		} else if s.managedBy() == "" {
			f.Fix += "\nor, if its function cannot, end it by hand\n" + s.cmd.promote(pending.id, current.id) + "\n" + s.cmd.giveUp(pending.id)
		}
		f.Fix += "\ndo not take AWSPENDING off before that: it is the only password that works"
	case s.outcome(previous) == accepted:
		f.Version = previous.id
		f.Detail = "the server refuses AWSCURRENT and accepts AWSPREVIOUS: AWSCURRENT was put into the secret, and never set in the database"
		f.Fix = s.byHand("make the version that works AWSCURRENT again", previous, current, pending)
	case s.unlabelledWorks() != nil:
		lost := s.unlabelledWorks()
		f.Version = lost.id
		f.Detail = "no version with a label logs in, and one without does: AWSPENDING was taken off it after its password had been set. Nobody else finds it"
		f.Fix = s.byHand("make the version that works AWSCURRENT", lost, current, pending)
	case slices.ContainsFunc(s.logins, func(l login) bool { return !l.replica && l.outcome == noVerdict }):
		f.Detail = "the server refuses AWSCURRENT; of the other versions it is not known"
		f.Fix = "see to what the logins say, and run this again"
	default:
		f.Detail = "locked out: the server refuses every version of the secret that was tried"
		f.Fix = "as an administrator of the database, give the user the password of AWSCURRENT, which this prints\n" +
			s.cmd.secretsmanager("get-secret-value", "--query", "SecretString", "--output", "text")
		if pending != nil {
			f.Fix += "\nand have the rotation repeated" + s.repeat()
		}
	}
	return f
}

func (s situation) unlabelledWorks() *secretVersion {
	for _, l := range s.logins {
		if l.label == "" && l.outcome == accepted {
			return l.version
		}
	}
	return nil
}

// byHand moves AWSCURRENT to a version that is known to work.
func (s situation) byHand(what string, works, current, pending *secretVersion) string {
	if s.managedBy() != "" {
		return "have " + s.managedBy() + " rotate it" + s.repeat()
	}
	fix := what + "\n" + s.cmd.promote(works.id, current.id)
	if pending != nil {
		fix += "\n" + s.cmd.giveUp(pending.id)
	}
	return fix
}

// incomplete is for an AWSPENDING beside an AWSCURRENT that works, or may work.
func (s situation) incomplete(current, pending *secretVersion) Finding {
	f := Finding{Status: Problem, Version: pending.id, Detail: "a rotation is incomplete: AWSPENDING is " + pending.age(s.now)}
	switch age := s.now.Sub(pending.created); {
	case pending.created.IsZero():
		f.Status = Unknown
	case age < stuckAfter:
		f.Status = Note
		f.Detail = "a rotation is under way: AWSPENDING is " + pending.age(s.now)
		if s.described != nil && s.described.RotationEnabled != nil && *s.described.RotationEnabled {
			return f
		}
	default:
		f.Detail = "a rotation is stuck: AWSPENDING is " + pending.age(s.now)
	}
	switch {
	case pending.read == isEmpty:
		f.Detail += ", and has no value: createSecret was not carried out, so the database has not changed"
		f.Fix = "have it repeated" + s.repeat()
		if s.managedBy() == "" {
			f.Fix += s.giveUp(pending, "here")
		}
	case pending.read == wasRead && current.read == wasRead && pending.text() == current.text():
		f.Detail += ", and a copy of AWSCURRENT, as rotate-secret with RotateImmediately=false leaves one behind: it would change nothing"
		f.Fix = "take the label off\n" + s.cmd.giveUp(pending.id)
	case s.outcome(current) == accepted && s.everywhere(pending, refused):
		f.Detail += ". AWSCURRENT logs in and AWSPENDING does not: setSecret was not carried out"
		f.Fix = "have it repeated" + s.repeat()
		if s.managedBy() == "" {
			f.Fix += s.giveUp(pending, "as long as that is so")
		}
	case s.outcome(current) == accepted && s.outcome(pending) == accepted:
		f.Detail += ". Both versions log in: what is missing is that AWSCURRENT moves"
		f.Fix = "have it repeated" + s.repeat()
		if lag := s.refusing(pending); len(lag) > 0 {
			f.Fix += "\nit waits for " + strings.Join(lag, ", ") + ": see to replication"
		} else if s.managedBy() == "" {
			f.Fix += "\nor end it by hand\n" + s.cmd.promote(pending.id, current.id) + "\n" + s.cmd.giveUp(pending.id)
		}
	default:
		f.Fix = "have it repeated" + s.repeat() +
			"\nand see which password the database takes: do not take AWSPENDING off before you know that it is not that one\n" + s.cmd.login()
	}
	return f
}

// repeat returns how an incomplete rotation is repeated.
func (s situation) repeat() string {
	if s.unconfigured() {
		return " by the program that rotates it, which calls rotation.Handler.Rotate: the secret has no rotation function"
	}
	fix := " (it answers that the previous rotation will be reattempted, and does that)\n" + s.cmd.rotate()
	if log := functionLog(s.snapshot, s.cmd); log != "" {
		fix += "\nwhy it failed is in the log of its function" + log
	}
	return fix
}

// giveUp returns how a rotation is given up and another one started, for a version
// that nobody needs.
func (s situation) giveUp(pending *secretVersion, safe string) string {
	fix := "\nor give it up, which is safe " + safe + ", and start anew\n" + s.cmd.giveUp(pending.id)
	if !s.unconfigured() {
		fix += "\n" + s.cmd.rotate()
	}
	return fix
}

// unconfigured reports whether RotateSecret would not know what to call. Of a
// replica only the primary tells.
func (s situation) unconfigured() bool {
	return s.described != nil && s.described.RotationEnabled == nil && s.managedBy() == "" && s.primaryRegion() == s.region
}

// abandoned returns an unlabelled version that is newer than AWSCURRENT.
func (s situation) abandoned(current *secretVersion) *secretVersion {
	if len(s.other) > 0 && !current.created.IsZero() && s.other[0].created.After(current.created) {
		return s.other[0]
	}
	return nil
}
