package smtest

import "time"

// A Schedule is a schedule, for the tests of its expressions.
type Schedule struct{ s *schedule }

// ParseSchedule is what RotateSecret does with RotationRules. days is left out if
// it is zero.
func ParseSchedule(days int, expression, duration string) (Schedule, error) {
	rules := rotationRules{ScheduleExpression: expression, Duration: duration}
	if days != 0 {
		rules.AutomaticallyAfterDays = &days
	}
	s, err := rules.schedule()
	if err != nil {
		return Schedule{}, err
	}
	return Schedule{s}, nil
}

// Next returns when the next window opens and closes.
func (s Schedule) Next(last, set time.Time) (opens, closes time.Time) {
	opens = s.s.next(last, set)
	return opens, s.s.closes(opens)
}

// WithoutQuota returns the operations that have no quota.
func WithoutQuota() []string {
	var out []string
	for operation := range operations {
		if _, ok := quotas[operation]; !ok {
			out = append(out, operation)
		}
	}
	return out
}

// Remembered returns how many past states of a secret stale reads could see.
func (s *Server) Remembered(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.findLocked(id, timestamp())
	if err != nil {
		return -1
	}
	return len(sec.history)
}

// Timed returns how many secrets the server waits for something at.
func (s *Server) Timed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.timed)
}

// Rewind makes what the server knows of a secret's rotation older, as if the machine
// had slept.
func (s *Server) Rewind(id string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec, err := s.findLocked(id, timestamp()); err == nil {
		sec.rotation.rotated = sec.rotation.rotated.Add(-d)
		sec.rotation.since = sec.rotation.since.Add(-d)
	}
}
