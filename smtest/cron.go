package smtest

import (
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// A cron is the cron() expression of a schedule: the hours at which, and the days
// on which, a rotation window opens. Everything is in UTC.
type cron struct {
	hours  uint32 // a bit for each hour, 0-23
	months uint32 // a bit for each month, 1-12

	// One of the two fields of days counts, the other is "?".
	monthDays monthDays
	weekdays  weekdays
}

// monthDays is the day-of-month field.
type monthDays struct {
	any     bool   // "?": the weekdays decide
	days    uint32 // a bit for each day, 1-31
	last    bool   // L: the last day of the month
	nearest uint32 // 15W: the weekday nearest to the 15th, in the same month; a bit for each day
	lastW   bool   // LW: the last weekday, Monday to Friday, of the month
}

// weekdays is the day-of-week field. AWS counts from 1 for Sunday; here it is 0,
// as in package time.
type weekdays struct {
	any  bool      // "?": the days of the month decide
	days uint32    // a bit for each weekday, 0-6
	nth  [6]uint32 // 3#2, the second Tuesday: nth[2] has a bit for each weekday
	last uint32    // 3L, the last Tuesday of the month: a bit for each weekday
}

var (
	monthNames   = []string{"", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	weekdayNames = []string{"", "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
)

// parseCron reads the six fields of a cron expression, Minutes Hours Day-of-month
// Month Day-of-week Year, as "Rotation schedules" in the AWS Secrets Manager User
// Guide has them: minutes are 0, the year is *, and one of the two fields of days
// is "?". W, which only the guide to Amazon EventBridge lists, is taken too.
func parseCron(expression string) (c *cron, ok bool) {
	f := strings.Fields(expression)
	if len(f) != 6 || f[0] != "0" || f[5] != "*" || (f[2] == "?") == (f[4] == "?") {
		return nil, false
	}
	c = new(cron)
	if c.hours, ok = parseSet(f[1], span{low: 0, high: 23}); !ok {
		return nil, false
	}
	if c.months, ok = parseSet(f[3], span{low: 1, high: 12, names: monthNames}); !ok {
		return nil, false
	}
	if c.monthDays, ok = parseMonthDays(f[2]); !ok {
		return nil, false
	}
	if c.weekdays, ok = parseWeekdays(f[4]); !ok {
		return nil, false
	}
	// A schedule of which no window ever opens, such as one for the 31st of
	// February, is a mistake.
	if c.next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, false
	}
	return c, true
}

func parseMonthDays(field string) (d monthDays, ok bool) {
	if field == "?" {
		return monthDays{any: true}, true
	}
	for item := range strings.SplitSeq(field, ",") {
		day, isNearest := strings.CutSuffix(item, "W")
		switch {
		case item == "L":
			d.last = true
		case item == "LW":
			d.lastW = true
		case isNearest:
			n, ok := span{low: 1, high: 31}.number(day)
			if !ok {
				return d, false
			}
			d.nearest |= 1 << n
		default:
			set, ok := parseItem(item, span{low: 1, high: 31})
			if !ok {
				return d, false
			}
			d.days |= set
		}
	}
	return d, true
}

func parseWeekdays(field string) (d weekdays, ok bool) {
	if field == "?" {
		return weekdays{any: true}, true
	}
	week := span{low: 1, high: 7, names: weekdayNames, wraps: true}
	for item := range strings.SplitSeq(field, ",") {
		day, which, isNth := strings.Cut(item, "#")
		lastDay, isLast := strings.CutSuffix(item, "L")
		switch {
		case item == "L": // The last day of the week.
			d.days |= 1 << time.Saturday
		case isNth:
			n, ok := week.number(day)
			if !ok || len(which) != 1 || which < "1" || which > "5" {
				return d, false
			}
			d.nth[which[0]-'0'] |= 1 << (n - 1)
		case isLast:
			n, ok := week.number(lastDay)
			if !ok {
				return d, false
			}
			d.last |= 1 << (n - 1)
		default:
			set, ok := parseItem(item, week)
			if !ok {
				return d, false
			}
			d.days |= set >> 1
		}
	}
	return d, true
}

// A span is the range of a field: its numbers, and the names that may stand for
// them.
type span struct {
	low, high int
	names     []string // by number
	wraps     bool     // FRI-MON is a range
}

func (s span) number(text string) (int, bool) {
	for n, name := range s.names {
		if name != "" && strings.EqualFold(name, text) {
			return n, true
		}
	}
	if text == "" || strings.Trim(text, "0123456789") != "" || len(text) > 2 {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= s.low && n <= s.high
}

// parseSet reads a field that is a list of items.
func parseSet(field string, s span) (set uint32, ok bool) {
	for item := range strings.SplitSeq(field, ",") {
		one, ok := parseItem(item, s)
		if !ok {
			return 0, false
		}
		set |= one
	}
	return set, true
}

// parseItem reads *, 5, 1-5, and each of them with a step: */4, 8/8, 1-5/2. A single
// number with a step goes on to the end of the range.
func parseItem(item string, s span) (set uint32, ok bool) {
	item, text, stepped := strings.Cut(item, "/")
	step := 1
	if stepped {
		n, ok := span{low: 1, high: 99}.number(text)
		if !ok {
			return 0, false
		}
		step = n
	}
	first, last := s.low, s.high
	if item != "*" {
		from, to, ranged := strings.Cut(item, "-")
		if first, ok = s.number(from); !ok {
			return 0, false
		}
		switch {
		case ranged:
			if last, ok = s.number(to); !ok {
				return 0, false
			}
		case !stepped:
			last = first
		}
	}
	if first > last {
		if !s.wraps {
			return 0, false
		}
		last += s.high - s.low + 1
	}
	for n := first; n <= last; n += step {
		at := n
		if at > s.high {
			at -= s.high - s.low + 1
		}
		set |= 1 << at
	}
	return set, true
}

// next returns the first time after t at which a window opens, or the zero time if
// there is none within 40 years: that is how long the 29th of February can take to
// be a given weekday.
func (c *cron) next(t time.Time) time.Time {
	t = t.UTC()
	y, m, d := t.Date()
	hours := c.hours &^ (1<<(t.Hour()+1) - 1) // of the first day, those after t's
	for limit := y + 40; y <= limit; {
		if c.months&(1<<m) == 0 {
			y, m, d, hours = afterMonth(y, m), m%12+1, 1, c.hours
			continue
		}
		for n := daysIn(y, m); d <= n; d++ {
			if hours != 0 && c.matchesDay(y, m, d) {
				return time.Date(y, m, d, bits.TrailingZeros32(hours), 0, 0, 0, time.UTC)
			}
			hours = c.hours
		}
		y, m, d = afterMonth(y, m), m%12+1, 1
	}
	return time.Time{}
}

// afterMonth is the year of the month that follows m.
func afterMonth(y int, m time.Month) int {
	if m == time.December {
		return y + 1
	}
	return y
}

func (c *cron) matchesDay(y int, m time.Month, d int) bool {
	weekday := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Weekday()
	if c.monthDays.any {
		return c.weekdays.match(weekday, d, daysIn(y, m))
	}
	return c.monthDays.match(d, daysIn(y, m), weekday)
}

func (f weekdays) match(weekday time.Weekday, d, days int) bool {
	bit := uint32(1) << weekday
	return f.days&bit != 0 || f.nth[(d+6)/7]&bit != 0 || f.last&bit != 0 && d+7 > days
}

func (f monthDays) match(d, days int, weekday time.Weekday) bool {
	if f.days&(1<<d) != 0 || f.last && d == days {
		return true
	}
	if weekday == time.Saturday || weekday == time.Sunday {
		return false
	}
	nearest := uint32(1) << d
	switch weekday {
	case time.Friday: // For the Saturday after it, or a Sunday that ends the month.
		nearest |= 1 << (d + 1)
		if d+2 == days {
			nearest |= 1 << (d + 2)
		}
	case time.Monday: // For the Sunday before it, or a Saturday that begins the month.
		nearest |= 1 << (d - 1)
		if d == 3 {
			nearest |= 1 << 1
		}
	}
	nearest &= 1<<(days+1) - 1
	return f.nearest&nearest != 0 || f.lastW && isLastWeekday(d, days, weekday)
}

func isLastWeekday(d, days int, weekday time.Weekday) bool {
	return d == days || weekday == time.Friday && d+3 > days
}

func daysIn(y int, m time.Month) int {
	return time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
