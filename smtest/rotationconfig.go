package smtest

import "time"

// RotationOptions are the settings of rotations. A zero field is its default.
//
// RotationRules rotate a secret by themselves, by the clock of [time.Now]: that of
// the bubble in a synctest test, where time.Sleep(30*24*time.Hour) passes 30 days. A
// rotation starts in the moment in which its window opens; the service takes any
// moment of the window. Windows that have passed unseen, because the machine slept,
// come to one rotation. As with the service, days are counted from the last rotation,
// for which a value that somebody put counts too, hours and cron expressions go by
// UTC, and NextRotationDate is the last second of the window. Hours are counted from
// midnight of the day on which the rules were set: the documentation leaves that
// open.
type RotationOptions struct {
	// Retries is how often a rotation by RotateSecret or by schedule that failed is
	// tried again, all of its steps and with the same version; 4 by default, none if
	// negative. After the last one AWSPENDING stays where it is, until the next
	// RotateSecret or the next rotation window. AWS says that it retries "the entire
	// rotation process multiple times", but neither how often nor when.
	Retries int

	// RetryDelay is the time from the failure of a rotation to its retry, 5 minutes
	// by default.
	RetryDelay time.Duration

	// CleanupDelay is how long AWSPENDING stays beside AWSCURRENT after a rotation
	// that succeeded. The service takes the label off some time after the function
	// has returned; here that is at once by default.
	CleanupDelay time.Duration
}

func (o RotationOptions) withDefaults() RotationOptions {
	if o.Retries == 0 {
		o.Retries = 4
	}
	if o.RetryDelay <= 0 {
		o.RetryDelay = 5 * time.Minute
	}
	return o
}

// A rotationConfig is what is known of a secret's rotation: what RotateSecret has
// set, and how far things are.
type rotationConfig struct {
	enabled  *bool // nil until rotation was set up once
	function string
	manager  Function // in place of the function, for a managed secret
	rules    *rotationRules
	since    time.Time // when the rules were set, or rotation was switched on

	rotated time.Time // the end of the last rotation that succeeded
	tried   time.Time // when the schedule last started one

	retryAt   time.Time // when the rotation that failed is tried again; zero for no such
	failures  int       // how often it has failed then
	cleanAt   time.Time // when AWSPENDING is to go after a rotation that succeeded; zero for no such
	cleanFrom string    // from which version

	// Of managed external secrets: kept, and used by nobody here.
	externalRole     string
	externalMetadata []metadataItem
}

type metadataItem struct {
	Key   string
	Value string
}

func (c *rotationConfig) on() bool {
	return c.enabled != nil && *c.enabled
}

// set is what RotateSecret changes.
func (c *rotationConfig) set(function string, rules *rotationRules, now time.Time) {
	if rules != nil {
		c.rules = rules
	}
	if rules != nil || !c.on() {
		c.since, c.tried = now, time.Time{}
	}
	enabled := true
	c.enabled, c.function = &enabled, function
	c.retryAt = time.Time{}
}

// setExternal keeps what RotateSecret says of a managed external secret.
func (c *rotationConfig) setExternal(role string, metadata []metadataItem) {
	if role != "" {
		c.externalRole = role
	}
	if metadata != nil {
		c.externalMetadata = metadata
	}
}

// schedule returns the schedule in force, nil if there is none.
func (c *rotationConfig) schedule() *schedule {
	if !c.on() {
		return nil
	}
	s, err := c.rules.schedule()
	if err != nil {
		return nil // Not possible: they were checked before they were stored.
	}
	return s
}

// scheduled returns when the next rotation by schedule starts, zero for never. It
// is the first moment of the window; the service takes any one in it.
func (c *rotationConfig) scheduled(sec *secret) time.Time {
	s := c.schedule()
	if s == nil {
		return time.Time{}
	}
	return s.next(latest(sec.lastRotation(s), c.tried), c.since)
}

// lastRotation is the time from which the schedule goes on. A value that somebody
// put counts as a rotation for a schedule in days: see AutomaticallyAfterDays in
// the API reference of RotationRulesType.
func (sec *secret) lastRotation(s *schedule) time.Time {
	last := latest(sec.rotation.since, sec.rotation.rotated)
	if cur := sec.current(); cur != nil && s.days > 0 {
		last = latest(last, cur.created)
	}
	return last
}

func latest(t, u time.Time) time.Time {
	if u.After(t) {
		return u
	}
	return t
}

// The following are for the answers of DescribeSecret and ListSecrets.

// lastRotated is LastRotatedDate, which is null while rotation is switched off.
func (sec *secret) lastRotated() time.Time {
	if !sec.rotation.on() {
		return time.Time{}
	}
	return sec.rotation.rotated
}

// nextRotation is NextRotationDate: the last second of the next window, or of the
// one in which a rotation was due but none has succeeded.
func (sec *secret) nextRotation() time.Time {
	s := sec.rotation.schedule()
	if s == nil {
		return time.Time{}
	}
	return s.closes(s.next(sec.lastRotation(s), sec.rotation.since)).Add(-time.Second)
}

// rotationRules is RotationRules, in which the service computes
// AutomaticallyAfterDays for a schedule expression.
func (sec *secret) rotationRules() *rotationRules {
	if sec.rotation.rules == nil || sec.rotation.rules.ScheduleExpression == "" {
		return sec.rotation.rules
	}
	out := *sec.rotation.rules
	if s, err := out.schedule(); err == nil {
		last := sec.lastRotation(s)
		days := int(midnight(s.next(last, sec.rotation.since)).Sub(midnight(last)) / (24 * time.Hour))
		days = max(days, 1)
		out.AutomaticallyAfterDays = &days
	}
	return &out
}
