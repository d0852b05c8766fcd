package smtest_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/smtest"
)

// utc reads a time such as "2026-01-02 15:04:05", whose end may be left out.
func utc(t testing.TB, text string) time.Time {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02 15", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at
		}
	}
	t.Fatalf("%q is no time", text)
	return time.Time{}
}

// The times were read off a calendar. Those of AWS's own documentation, and the
// two that were recorded on AWS, are marked.
func TestSchedule(t *testing.T) {
	for _, tt := range []struct {
		expression string
		from       string
		opens      string // some windows one after another, "2026-01-03 18, 2026-01-10 18"
	}{
		// The hours.
		{"cron(0 10 * * ? *)", "2026-01-01 09:59:59", "2026-01-01 10, 2026-01-02 10"}, // AWS
		{"cron(0 10 * * ? *)", "2026-01-01 10", "2026-01-02 10"},
		{"cron(0 10 * * ? *)", "2025-12-31 10:00:01", "2026-01-01 10"},
		{"cron(0 8/8 * * ? *)", "2026-01-01 08", "2026-01-01 16, 2026-01-02 08"},                 // AWS
		{"cron(0 4/12 * * ? *)", "2026-01-01", "2026-01-01 04, 2026-01-01 16, 2026-01-02 04"},    // AWS
		{"cron(0 2/10 * * ? *)", "2026-01-01 11", "2026-01-01 12, 2026-01-01 22, 2026-01-02 02"}, // AWS
		{"cron(0 */4 * * ? *)", "2026-01-31 19:30", "2026-01-31 20, 2026-02-01, 2026-02-01 04"},  // AWS
		{"cron(0 0/4 * * ? *)", "2026-12-31 23:59:59", "2027-01-01, 2027-01-01 04"},              // AWS
		{"cron(0 1,9,23 * * ? *)", "2026-01-01 08", "2026-01-01 09, 2026-01-01 23, 2026-01-02 01"},
		{"cron(0 0-20/10 * * ? *)", "2026-01-01 08", "2026-01-01 10, 2026-01-01 20, 2026-01-02"},
		{"cron(0  6   *  * ?  *)", "2026-01-01 08", "2026-01-02 06"},
		{"cron(0 23 * * ? *)", "2026-01-01 23", "2026-01-02 23"},
		{"cron(0 0 * * ? *)", "2028-02-28", "2028-02-29, 2028-03-01"},
		{"cron(0 0 ? * * *)", "2026-01-01", "2026-01-02, 2026-01-03"},
		{"cron(0 0 * 12 ? *)", "2026-12-31", "2027-12-01"},
		{"cron(0 05 * * ? *)", "2026-01-01", "2026-01-01 05"},
		{"cron(0 8 1 * ? *)", "2026-01-01 08", "2026-02-01 08, 2026-03-01 08"},                 // AWS
		{"cron(0 16 1,15 * ? *)", "2026-01-01", "2026-01-01 16, 2026-01-15 16, 2026-02-01 16"}, // AWS
		{"cron(0 17 L * ? *)", "2026-01-05", "2026-01-31 17, 2026-02-28 17, 2026-03-31 17"},    // AWS
		{"cron(0 17 L * ? *)", "2028-02-05", "2028-02-29 17"},
		{"cron(0 0 1/7 * ? *)", "2026-01-08", "2026-01-15, 2026-01-22, 2026-01-29, 2026-02-01"},
		{"cron(0 0 10-12 * ? *)", "2026-01-10 01", "2026-01-11, 2026-01-12, 2026-02-10"},
		{"cron(0 0 10-20/5 * ? *)", "2026-01-01", "2026-01-10, 2026-01-15, 2026-01-20, 2026-02-10"},
		{"cron(0 0 29 FEB ? *)", "2026-01-01", "2028-02-29, 2032-02-29"},
		{"cron(0 0 31 * ? *)", "2026-01-31", "2026-03-31, 2026-05-31"},
		{"cron(0 0 30 2,3 ? *)", "2026-01-31", "2026-03-30, 2027-03-30"},
		{"cron(0 0 5,L * ? *)", "2026-01-31", "2026-02-05, 2026-02-28"},
		{"cron(0 0 15W * ? *)", "2026-01-01", "2026-01-15, 2026-02-16, 2026-03-16"},   // a Thursday, two Sundays
		{"cron(0 0 15W 8 ? *)", "2026-01-01", "2026-08-14"},                           // a Saturday
		{"cron(0 0 1W * ? *)", "2025-12-31 12", "2026-01-01, 2026-02-02, 2026-03-02"}, // two Sundays
		{"cron(0 0 1W 8 ? *)", "2026-01-01", "2026-08-03"},                            // a Saturday: not in July
		{"cron(0 0 31W * ? *)", "2026-01-01", "2026-01-30, 2026-03-31, 2026-05-29"},   // Saturday, Tuesday, Sunday
		{"cron(0 0 LW * ? *)", "2026-01-01", "2026-01-30, 2026-02-27, 2026-03-31, 2026-04-30"},
		{"cron(0 0 LW 5 ? *)", "2026-01-01", "2026-05-29"},                     // the 31st is a Sunday
		{"cron(0 18 ? * SAT *)", "2026-01-01", "2026-01-03 18, 2026-01-10 18"}, // AWS
		{"cron(0 18 ? * 7 *)", "2026-01-01", "2026-01-03 18"},
		{"cron(0 18 ? * L *)", "2026-01-01", "2026-01-03 18, 2026-01-10 18"},
		{"cron(0 18 ? * 1 *)", "2026-01-01", "2026-01-04 18"},
		{"cron(0 8 ? * MON-FRI *)", "2026-01-02 08", "2026-01-05 08, 2026-01-06 08"}, // AWS
		{"cron(0 0 ? * FRI-SUN *)", "2026-01-01", "2026-01-02, 2026-01-03, 2026-01-04, 2026-01-09"},
		{"cron(0 0 ? * 1/2 *)", "2026-01-01", "2026-01-03, 2026-01-04, 2026-01-06, 2026-01-08"},
		{"cron(0 0 ? * MON,3 *)", "2026-01-01", "2026-01-05, 2026-01-06, 2026-01-12"},
		{"cron(0 0 ? * SUN#1 *)", "2026-01-01", "2026-01-04, 2026-02-01, 2026-03-01"},            // AWS
		{"cron(0 1 ? 1/3 SUN#1 *)", "2026-01-01", "2026-01-04 01, 2026-04-05 01, 2026-07-05 01"}, // AWS
		{"cron(0 10 ? FEB,MAY,AUG,NOV TUE#2 *)", "2026-01-01", "2026-02-10 10, 2026-05-12 10"},
		{"cron(0 0 ? * 6#5 *)", "2026-01-01", "2026-01-30, 2026-05-29"},
		{"cron(0 0 ? * 6L *)", "2026-01-01", "2026-01-30, 2026-02-27, 2026-03-27"},
		{"cron(0 0 ? FEB SUN#5 *)", "2026-01-01", "2032-02-29, 2060-02-29"},
		{"cron(0 8 ? jan-mar/2 mon *)", "2026-01-27", "2026-03-02 08"},
		{"cron(0 0 ? * 2 *)", "2026-09-07 18:14:58", "2026-09-14"},                              // recorded
		{"rate(1 day)", "2026-01-01 09:30", "2026-01-02, 2026-01-03"},                           // AWS
		{"rate(10 days)", "2026-01-01 09:30", "2026-01-11, 2026-01-21, 2026-01-31, 2026-02-10"}, // AWS
		{"rate(999 days)", "2026-01-01", "2028-09-26"},
		{"rate(4 hours)", "2026-01-01 09:30", "2026-01-01 12, 2026-01-01 16, 2026-01-01 20"}, // AWS
		{"rate(10 hours)", "2026-01-01 09:30", "2026-01-01 10, 2026-01-01 20, 2026-01-02 06"},
		{"rate(23 hours)", "2026-01-01", "2026-01-01 23, 2026-01-02 22"},
		{"", "2026-01-22 06:42:22", "2026-02-21, 2026-03-23"}, // recorded: 30 days
	} {
		days := 0
		if tt.expression == "" {
			days = 30
		}
		s, err := smtest.ParseSchedule(days, tt.expression, "")
		if err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		last, set := utc(t, tt.from), utc(t, tt.from)
		for want := range strings.SplitSeq(tt.opens, ", ") {
			got, _ := s.Next(last, set)
			if !got.Equal(utc(t, want)) {
				t.Errorf("%s: after %v opens %v, want %s", tt.expression, last, got, want)
			}
			last = got
		}
	}
}

func TestScheduleWindow(t *testing.T) {
	for _, tt := range []struct {
		days                 int
		expression, duration string
		closes               string // of the first window after 2026-01-01 00:00
	}{
		{1, "", "", "2026-01-03"},
		{30, "", "3h", "2026-01-31 03"},
		{0, "rate(1 day)", "", "2026-01-03"},
		{0, "rate(1 day)", "24h", "2026-01-03"},
		{0, "rate(1 day)", "2h", "2026-01-02 02"},
		{0, "rate(4 hours)", "", "2026-01-01 05"},
		{0, "rate(4 hours)", "4h", "2026-01-01 08"},
		{0, "cron(0 16 1,15 * ? *)", "", "2026-01-02"},
		{0, "cron(0 16 1,15 * ? *)", "2h", "2026-01-01 18"}, // AWS: its NextRotationDate ends in 17:59:59
		{0, "cron(0 16 1,15 * ? *)", "8h", "2026-01-02"},
		{0, "cron(0 8/8 * * ? *)", "", "2026-01-01 09"},
		{0, "cron(0 8/8 * * ? *)", "8h", "2026-01-01 16"},
		{0, "cron(0 0 ? * 2 *)", "", "2026-01-06"},
	} {
		s, err := smtest.ParseSchedule(tt.days, tt.expression, tt.duration)
		if err != nil {
			t.Errorf("%s %s: %v", tt.expression, tt.duration, err)
			continue
		}
		from := utc(t, "2026-01-01")
		if _, got := s.Next(from, from); !got.Equal(utc(t, tt.closes)) {
			t.Errorf("%d %s %s: closes %v, want %s", tt.days, tt.expression, tt.duration, got, tt.closes)
		}
	}
}

func TestScheduleErrors(t *testing.T) {
	const (
		invalid  = "InvalidParameterException: Invalid schedule expression."
		both     = "InvalidParameterException: You cannot specify both rotation frequency and schedule expression together."
		days     = "InvalidParameterException: RotationRules.AutomaticallyAfterDays must be within 1-1000."
		hours    = "InvalidParameterException: Rate in hour should be least 4 and less than 24."
		rateDays = "InvalidParameterException: Rate in day should be greater than 0 and less than 1000."
		duration = "InvalidParameterException: Duration must be at least 1 hour, at most 24 hour."
		longer   = "InvalidParameterException: Duration cannot be greater than Rate in hour."
		midnight = "InvalidParameterException: Starting hour and duration must be within a day."
		pattern  = "ValidationException: 1 validation error detected: Value at 'rotationRules.duration' failed to satisfy constraint: Member must satisfy regular expression pattern: [0-9]+h"
	)
	for _, tt := range []struct {
		days                 int
		expression, duration string
		want                 string
	}{
		{30, "rate(4 hours)", "", both},
		{1001, "", "", days},
		{-1, "", "", days},
		{0, "rate(3 hours)", "", hours},
		{0, "rate(24 hours)", "", hours},
		{0, "rate(99999999999999999999 hours)", "", hours},
		{0, "rate(0 days)", "", rateDays},
		{0, "rate(1000 days)", "", rateDays},
		{0, "rate(10 minutes)", "", invalid},
		{0, "rate(1 week)", "", invalid},
		{0, "rate(10days)", "", invalid},
		{0, "rate(-1 days)", "", invalid},
		{0, "every day", "", invalid},
		{0, "cron(0 8 * * ? *", "", invalid},
		{0, "cron(0 8 * * ?)", "", invalid},
		{0, "cron(0 8 * * ? * *)", "", invalid},
		{0, "cron()", "", invalid},
		{0, "cron(15 8 * * ? *)", "", invalid},
		{0, "cron(* 8 * * ? *)", "", invalid},
		{0, "cron(0 8 * * ? 2026)", "", invalid},
		{0, "cron(0 8 * * * *)", "", invalid},
		{0, "cron(0 8 ? * ? *)", "", invalid},
		{0, "cron(0 8 1 * MON *)", "", invalid},
		{0, "cron(0 * * * ? *)", "", invalid},
		{0, "cron(0 */3 * * ? *)", "", invalid},
		{0, "cron(0 0-8 * * ? *)", "", invalid},
		{0, "cron(0 8,11 * * ? *)", "", invalid},
		{0, "cron(0 24 * * ? *)", "", invalid},
		{0, "cron(0 ? * * ? *)", "", invalid},
		{0, "cron(0 8/0 * * ? *)", "", invalid},
		{0, "cron(0 8/ * * ? *)", "", invalid},
		{0, "cron(0 8/4/2 * * ? *)", "", invalid},
		{0, "cron(0 -8 * * ? *)", "", invalid},
		{0, "cron(0 8, * * ? *)", "", invalid},
		{0, "cron(0 12-8 * * ? *)", "", invalid},
		{0, "cron(0 8 0 * ? *)", "", invalid},
		{0, "cron(0 8 32 * ? *)", "", invalid},
		{0, "cron(0 8 W * ? *)", "", invalid},
		{0, "cron(0 8 32W * ? *)", "", invalid},
		{0, "cron(0 8 5L * ? *)", "", invalid},
		{0, "cron(0 8 1,? * ? *)", "", invalid},
		{0, "cron(0 8 31 FEB ? *)", "", invalid},
		{0, "cron(0 8 30 2 ? *)", "", invalid},
		{0, "cron(0 8 1 0 ? *)", "", invalid},
		{0, "cron(0 8 1 13 ? *)", "", invalid},
		{0, "cron(0 8 1 JANUARY ? *)", "", invalid},
		{0, "cron(0 8 1 DEC-JAN ? *)", "", invalid},
		{0, "cron(0 8 ? * 0 *)", "", invalid},
		{0, "cron(0 8 ? * 8 *)", "", invalid},
		{0, "cron(0 8 ? * MON#6 *)", "", invalid},
		{0, "cron(0 8 ? * MON#0 *)", "", invalid},
		{0, "cron(0 8 ? * #1 *)", "", invalid},
		{0, "cron(0 8 ? * MON# *)", "", invalid},
		{0, "cron(0 8 ? * 8L *)", "", invalid},
		{0, "cron(0 8 ? * MO *)", "", invalid},
		{0, "rate(4 hours)", "0h", duration},
		{0, "rate(1 day)", "25h", duration},
		{30, "", "99h", duration},
		{0, "rate(4 hours)", "5h", longer},
		{0, "cron(0 8/4 * * ? *)", "5h", midnight},
		{0, "cron(0 0/8 * * ? *)", "8h", ""},
		{0, "cron(0 0,4 * * ? *)", "5h", longer},
		{0, "cron(0 16 1,15 * ? *)", "9h", midnight},
		{0, "rate(1 day)", "2", "ValidationException: 1 validation error detected: Value at 'rotationRules.duration' failed to satisfy constraint: Member must have length greater than or equal to 2"},
		{0, "rate(1 day)", "120h", "ValidationException: 1 validation error detected: Value at 'rotationRules.duration' failed to satisfy constraint: Member must have length less than or equal to 3"},
		{0, "rate(1 day)", "2d", pattern},
		{0, "rate(1 day)", "hh", pattern},
		{0, "rate(1 day);", "", `ValidationException: 1 validation error detected: Value at 'rotationRules.scheduleExpression' failed to satisfy constraint: Member must satisfy regular expression pattern: [0-9A-Za-z\(\)#\?\*\-\/, ]+`},
		{0, strings.Repeat("x", 257), "", "ValidationException: 1 validation error detected: Value at 'rotationRules.scheduleExpression' failed to satisfy constraint: Member must have length less than or equal to 256"},
	} {
		got := ""
		if _, err := smtest.ParseSchedule(tt.days, tt.expression, tt.duration); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%d %q %q\n got %s\nwant %s", tt.days, tt.expression, tt.duration, got, tt.want)
		}
	}
}

// Expressions at random, against looking at each hour one after another.
func TestScheduleAgainstEveryHour(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(items string) string {
		list := strings.Fields(items)
		out := []string{list[r.IntN(len(list))]}
		for r.IntN(3) == 0 {
			out = append(out, list[r.IntN(len(list))])
		}
		return strings.Join(out, ",")
	}
	tried := 0
	for range 200 {
		monthDay, weekday := pick("* 1 2 15 30 31 L LW 1W 2W 15W 29W 30W 31W 3-9 28-31 1/7 */10 5-25/4"), "?"
		if r.IntN(2) == 0 {
			monthDay, weekday = "?", pick("* 1 2 7 SUN FRI SAT L 1L FRIL 1#1 SAT#5 3#2 6#4 MON-FRI SAT-MON 1/3 2-6/2")
		}
		expression := "cron(0 " + pick("0 5 23 */6 0/4 1/23 20") + " " + monthDay + " " +
			pick("* * 1 2 FEB 4 JUN DEC 1/3 */2 JUL-OCT 6-12/3") + " " + weekday + " *)"
		s, err := smtest.ParseSchedule(0, expression, "")
		if err != nil {
			continue
		}
		tried++
		last := utc(t, "2027-01-01").Add(time.Duration(r.IntN(2*365*24*60)) * time.Minute)
		fields := strings.Fields(strings.TrimSuffix(strings.TrimPrefix(expression, "cron("), ")"))
		want := last.Truncate(time.Hour).Add(time.Hour)
		limit := want.AddDate(5, 0, 0) // Some are only in Februaries of five Saturdays.
		for !allows(fields, want) && want.Before(limit) {
			want = want.Add(time.Hour)
		}
		if got, _ := s.Next(last, last); !got.Equal(want) && (want.Before(limit) || got.Before(limit)) {
			t.Errorf("%s: after %v opens %v, want %v", expression, last, got, want)
		}
	}
	if tried < 100 {
		t.Errorf("only %d expressions were valid", tried)
	}
}

// FuzzSchedule checks that nothing panics, that a window opens after the last one,
// on the hour and, by a reading of the expression that has nothing in common with
// the parser, at a time that it allows.
func FuzzSchedule(f *testing.F) {
	f.Add("cron(0 8/8 1W,LW,3-9/2 JAN-MAR ? *)", "2h", int64(1767225600))
	f.Add("cron(0 0 ? 2 SUN#5,MON-WED,6L *)", "", int64(946684800))
	f.Add("cron(0 1,9 L,5 * ? *)", "8h", int64(1767225600))
	f.Add("rate(5 hours)", "4h", int64(1767225601))
	f.Add("rate(10 days)", "", int64(0))
	f.Fuzz(func(t *testing.T, expression, duration string, unix int64) {
		s, err := smtest.ParseSchedule(0, expression, duration)
		if err != nil || expression == "" {
			return
		}
		last := time.Unix(unix%(1<<33), 0).UTC()
		for range 3 {
			opens, closes := s.Next(last, last)
			if !opens.After(last) || opens.Truncate(time.Hour) != opens || !closes.After(opens) || closes.Sub(opens) > 24*time.Hour {
				t.Fatalf("%q %q: after %v opens %v, closes %v", expression, duration, last, opens, closes)
			}
			if cron, ok := strings.CutPrefix(expression, "cron("); ok && !allows(strings.Fields(strings.TrimSuffix(cron, ")")), opens) {
				t.Fatalf("%q: after %v opens %v", expression, last, opens)
			}
			last = opens
		}
	})
}

// allows reports whether a window may open at that time, by the six fields.
func allows(f []string, at time.Time) bool {
	months := strings.Fields("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
	week := strings.Fields("SUN MON TUE WED THU FRI SAT")
	length := time.Date(at.Year(), at.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	weekday := int(at.Weekday()) + 1
	return some(f[1], func(item string) bool { return covers(item, at.Hour(), 0, 23, nil) }) &&
		some(f[3], func(item string) bool { return covers(item, int(at.Month()), 1, 12, months) }) &&
		some(f[2], func(item string) bool {
			if day, ok := strings.CutSuffix(item, "W"); ok {
				return at.Day() == nearestWeekday(at.Year(), at.Month(), day, length)
			}
			return item == "?" || item == "L" && at.Day() == length || covers(item, at.Day(), 1, 31, nil)
		}) &&
		some(f[4], func(item string) bool {
			day, nth, isNth := strings.Cut(item, "#")
			lastDay, isLast := strings.CutSuffix(item, "L")
			switch {
			case item == "?":
				return true
			case item == "L":
				return weekday == 7
			case isNth:
				return covers(day, weekday, 1, 7, week) && strconv.Itoa((at.Day()-1)/7+1) == nth
			case isLast:
				return covers(lastDay, weekday, 1, 7, week) && at.Day()+7 > length
			}
			return covers(item, weekday, 1, 7, week)
		})
}

func some(list string, match func(string) bool) bool {
	return slices.ContainsFunc(strings.Split(list, ","), match)
}

// covers reports whether n is in an item such as 1-9/2.
func covers(item string, n, low, high int, names []string) bool {
	number := func(s string) int {
		if i := slices.Index(names, strings.ToUpper(s)); i >= 0 {
			return i + 1
		}
		n, _ := strconv.Atoi(s)
		return n
	}
	item, by, stepped := strings.Cut(item, "/")
	from, to, ranged := strings.Cut(item, "-")
	step, first, last := 1, number(from), number(to)
	switch {
	case item == "*":
		first, last = low, high
	case !ranged && stepped:
		last = high
	case !ranged:
		last = first
	}
	if stepped {
		step = number(by)
	}
	if n < first && last < first { // A range over the end of the week.
		n += high
	}
	if last < first {
		last += high
	}
	return n >= first && n <= last && (n-first)%step == 0
}

// nearestWeekday returns the day from Monday to Friday that is nearest to a day of
// the month; the last one if day is L, 0 if there is no such day.
func nearestWeekday(y int, m time.Month, day string, length int) int {
	n, err := strconv.Atoi(day)
	if err != nil {
		n = length
	}
	for _, d := range []int{0, -1, 1, -2, 2} {
		if err != nil && d > 0 {
			continue
		}
		at := n + d
		if n > length || at < 1 || at > length {
			continue
		}
		if w := time.Date(y, m, at, 0, 0, 0, 0, time.UTC).Weekday(); w != time.Saturday && w != time.Sunday {
			return at
		}
	}
	return 0
}
