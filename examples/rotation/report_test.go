package main

import (
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	tests := []struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 50, 7},
		{[]time.Duration{7}, 100, 7},
		{[]time.Duration{1, 2}, 50, 1},
		{[]time.Duration{1, 2, 3}, 50, 2},
		{hundred, 0, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
	}
	for _, tt := range tests {
		if got := percentile(tt.sorted, tt.p); got != tt.want {
			t.Errorf("percentile(%d values, %v) = %d, want %d", len(tt.sorted), tt.p, got, tt.want)
		}
	}
}

func TestTally(t *testing.T) {
	zero := time.Now()
	at := func(n int) time.Time { return zero.Add(time.Duration(n) * heard) }
	l := &logins{all: []login{
		{at(0), at(9), false},      // over before the change
		{at(5), at(15), false},     // in flight, let in
		{at(8), at(20), true},      // in flight, the first to be refused
		{at(19), at(30), true},     // began before anybody knew
		{at(23), at(31), true},     // began after that
		{at(24), at(32), false},    // with the new password
		{at(1000), at(1010), true}, // of the next change
	}}
	if got, want := l.tally(at(10), at(900)), (tally{inFlight: 3, refused: 3, late: 1}); got != want {
		t.Errorf("tally = %+v, want %+v", got, want)
	}
	if got, want := l.tally(at(900), time.Time{}), (tally{inFlight: 1, refused: 1}); got != want {
		t.Errorf("tally of the last change = %+v, want %+v", got, want)
	}
	if got := l.tally(at(2000), time.Time{}); got != (tally{}) {
		t.Errorf("tally of a change that nobody noticed = %+v", got)
	}
}

func TestVerdict(t *testing.T) {
	good := report{
		planned: 1, rotated: 1,
		plain:   result{name: "plain", queries: 10, failed: 5},
		keyturn: result{name: "Keyturn", queries: 20, failedLogins: []int{3}, tallies: []tally{{inFlight: 2}}},
	}
	tests := []struct {
		name   string
		change func(*report)
		want   string
	}{
		{"good", func(*report) {}, "Passed: in 1 rotation the Keyturn pool failed 0 of 20 queries\n(failed logins: 3 of at most 3"},
		{"cut short", func(r *report) { r.planned = 5 }, "Passed: in 1 rotation (of 5 planned)"},
		{"an error", func(r *report) { r.keyturn.failed = 1 }, "FAILED: in 1 rotation the Keyturn pool failed 1 of 20"},
		{"too many logins", func(r *report) { r.keyturn.failedLogins = []int{4} }, "FAILED: in 1 rotation the Keyturn pool failed no query, but"},
		{"nobody failed", func(r *report) { r.plain.failed = 0 }, "PROVES NOTHING"},
		{"no rotation", func(r *report) { r.rotated = 0 }, "PROVES NOTHING"},
	}
	for _, tt := range tests {
		r := good
		tt.change(&r)
		if got := r.verdict(); !strings.HasPrefix(got, tt.want) || r.good() != strings.HasPrefix(got, "Passed") {
			t.Errorf("%s: verdict %q (good: %v), want %q...", tt.name, got, r.good(), tt.want)
		}
	}
}

func TestTableIsAligned(t *testing.T) {
	want := "" +
		"       plain   Keyturn\n" +
		"µs         1         2\n" +
		"long       3   4444444\n"
	got := table([][]string{{"", "plain", "Keyturn"}, {"µs", "1", "2"}, {"long", "3", "4444444"}})
	if got != want {
		t.Errorf("table:\n%swant:\n%s", got, want)
	}
}
