package retry

import "sync/atomic"

// Stats counts what happens. Its zero value is ready for use; give it to as many
// Retriers as should be counted together. It must not be copied: [Stats.Snapshot]
// is what to print, export or compare.
type Stats struct {
	Logins      atomic.Uint64 // begun
	Accepted    atomic.Uint64 // accepted
	Refused     atomic.Uint64 // refused
	NoVerdict   atomic.Uint64 // ended otherwise
	Proven      atomic.Uint64 // versions proven
	Quarantined atomic.Uint64 // quarantines begun
	LockedOut   atomic.Uint64 // users locked out
	Retired     atomic.Uint64 // connections retired
	Waits       atomic.Uint64 // logins that waited for the verdict on another
	Polls       atomic.Uint64 // walks that waited for the end of a rotation
}

// Counts are the numbers of a [Stats] at a moment, of the same names.
type Counts struct {
	Logins, Accepted, Refused, NoVerdict    uint64
	Proven, Quarantined, LockedOut, Retired uint64
	Waits, Polls                            uint64
}

// Snapshot returns the counts so far, which fit together although logins go on
// meanwhile: none has ended that has not begun, so that Logins less Accepted,
// Refused and NoVerdict are those in flight, and there are no more versions proven
// than logins accepted, nor more quarantines and lockouts than logins refused.
func (s *Stats) Snapshot() Counts {
	// What is counted later is read earlier.
	n := Counts{
		Proven: s.Proven.Load(), Quarantined: s.Quarantined.Load(), LockedOut: s.LockedOut.Load(),
		Retired: s.Retired.Load(), Waits: s.Waits.Load(), Polls: s.Polls.Load(),
	}
	n.Accepted, n.Refused, n.NoVerdict = s.Accepted.Load(), s.Refused.Load(), s.NoVerdict.Load()
	n.Logins = s.Logins.Load()
	return n
}

// count adds one to what an event of that kind is counted as.
func (s *Stats) count(kind EventKind) {
	switch kind {
	case Tried:
		s.Logins.Add(1)
	case Refused:
		s.Refused.Add(1)
	case Proven:
		s.Proven.Add(1)
	case Quarantined:
		s.Quarantined.Add(1)
	case LockedOut:
		s.LockedOut.Add(1)
	case Retired:
		s.Retired.Add(1)
	}
}
