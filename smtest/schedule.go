package smtest

import (
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A schedule says when rotation windows open and close, in UTC. It is one of
// three: every so many days after the last rotation, every so many hours, or a
// cron expression.
type schedule struct {
	days, hours int
	cron        *cron
	window      time.Duration // zero: until the end of the day
}

// Lengths and patterns of the API model; the texts of the errors are the
// service's own.
var (
	expressionRE = regexp.MustCompile(`^[0-9A-Za-z()#?*/, -]+$`)
	durationRE   = regexp.MustCompile(`^[0-9]+h$`)
	rateRE       = regexp.MustCompile(`^rate\(([0-9]+) (hour|hours|day|days)\)$`)
)

// schedule checks the rules and returns what they say, nil if that is to rotate
// only when asked.
func (r *rotationRules) schedule() (*schedule, *Error) {
	if r == nil {
		return nil, nil
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	s := new(schedule)
	switch {
	case r.ScheduleExpression != "":
		if err := s.parse(r.ScheduleExpression); err != nil {
			return nil, err
		}
	case r.AutomaticallyAfterDays != nil:
		s.days = *r.AutomaticallyAfterDays
	default:
		s = nil
	}
	if r.Duration != "" {
		h, err := strconv.Atoi(strings.TrimSuffix(r.Duration, "h"))
		if err != nil || h < 1 || h > 24 {
			return nil, invalidParameter("Duration must be at least 1 hour, at most 24 hour.")
		}
		if s == nil {
			return nil, nil
		}
		if err := s.setWindow(h); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// check is what the API model asks of the rules.
func (r *rotationRules) check() *Error {
	if r.AutomaticallyAfterDays != nil {
		if d := *r.AutomaticallyAfterDays; d < 1 || d > 1000 {
			return invalidParameter("RotationRules.AutomaticallyAfterDays must be within 1-1000.")
		}
		if r.ScheduleExpression != "" {
			return invalidParameter("You cannot specify both rotation frequency and schedule expression together.")
		}
	}
	if err := checkLength("rotationRules.scheduleExpression", r.ScheduleExpression, 0, 256); err != nil {
		return err
	}
	if r.ScheduleExpression != "" && !expressionRE.MatchString(r.ScheduleExpression) {
		return constraint("rotationRules.scheduleExpression",
			`Member must satisfy regular expression pattern: [0-9A-Za-z\(\)#\?\*\-\/, ]+`)
	}
	if r.Duration == "" {
		return nil
	}
	if err := checkLength("rotationRules.duration", r.Duration, 2, 3); err != nil {
		return err
	}
	if !durationRE.MatchString(r.Duration) {
		return constraint("rotationRules.duration", "Member must satisfy regular expression pattern: [0-9]+h")
	}
	return nil
}

// parse reads a ScheduleExpression: rate() or cron().
func (s *schedule) parse(expression string) *Error {
	invalid := invalidParameter("Invalid schedule expression.")
	if m := rateRE.FindStringSubmatch(expression); m != nil {
		n, err := strconv.Atoi(m[1])
		switch byHour := strings.HasPrefix(m[2], "hour"); {
		case byHour && (err != nil || n < 4 || n > 23):
			return invalidParameter("Rate in hour should be least 4 and less than 24.")
		case !byHour && (err != nil || n < 1 || n > 999):
			return invalidParameter("Rate in day should be greater than 0 and less than 1000.")
		case byHour:
			s.hours, s.window = n, time.Hour
		default:
			s.days = n
		}
		return nil
	}
	fields, isCron := strings.CutPrefix(expression, "cron(")
	fields, closed := strings.CutSuffix(fields, ")")
	if !isCron || !closed {
		return invalid
	}
	c, ok := parseCron(fields)
	if !ok || c.gap() < 4 {
		return invalid
	}
	s.cron = c
	if bits.OnesCount32(c.hours) > 1 {
		s.window = time.Hour
	}
	return nil
}

// gap is how many hours of a day are at least between two windows, 24 if only one
// opens a day. What is left of one day does not count for the next: increments
// start again each day.
func (c *cron) gap() int {
	gap, last := 24, -24
	for h := range 24 {
		if c.hours&(1<<h) != 0 {
			gap, last = min(gap, h-last), h
		}
	}
	return gap
}

// setWindow sets the length of the window, which must end before the next one
// opens and before the day does.
func (s *schedule) setWindow(hours int) *Error {
	apart := 24
	switch {
	case s.hours > 0:
		apart = s.hours
	case s.cron != nil:
		if bits.Len32(s.cron.hours)-1+hours > 24 {
			return invalidParameter("Starting hour and duration must be within a day.")
		}
		apart = s.cron.gap()
	}
	if hours > apart {
		return invalidParameter("Duration cannot be greater than Rate in hour.")
	}
	s.window = time.Duration(hours) * time.Hour
	return nil
}

// next returns when the first window after the time of the last rotation opens.
// Days are counted from the day of that rotation, hours from midnight of the day
// on which the schedule was set, for they need not divide a day. For a schedule
// that was valid once there always is a next window.
func (s *schedule) next(last, set time.Time) time.Time {
	switch {
	case s.cron != nil:
		return s.cron.next(last)
	case s.hours > 0:
		step := time.Duration(s.hours) * time.Hour
		start := midnight(set)
		return start.Add((last.Sub(start)/step + 1) * step)
	default:
		return midnight(last).AddDate(0, 0, s.days)
	}
}

// closes returns the end of the window that opens at a time.
func (s *schedule) closes(open time.Time) time.Time {
	if s.window == 0 {
		return midnight(open).AddDate(0, 0, 1)
	}
	return open.Add(s.window)
}

func midnight(t time.Time) time.Time {
	return t.UTC().Truncate(24 * time.Hour)
}
