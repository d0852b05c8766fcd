package main

import (
	"slices"
	"testing"
	"time"
)

func TestSlots(t *testing.T) {
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	answers := []answer{
		{at: at(0), took: 3},
		{at: at(99), took: 1},
		{at: at(99), took: 2},
		{at: at(100), took: 1000, failed: true},
		{at: at(250), took: 7},
		{at: at(300), took: 9}, // after the end, by what a clock takes to be read
	}
	want := []slot{
		{queries: 3, p50: 2, p99: 3, most: 3},
		{queries: 1, failed: 1},
		{queries: 2, p50: 7, p99: 9, most: 9},
	}
	if got := slots(answers, began, 260*time.Millisecond, 100*time.Millisecond); !slices.Equal(got, want) {
		t.Errorf("slots = %+v, want %+v", got, want)
	}
	if got, want := slots(nil, began, 0, 0), make([]slot, 1); !slices.Equal(got, want) {
		t.Errorf("slots of nothing = %+v, want %+v", got, want)
	}
}

func TestSlotWidth(t *testing.T) {
	tests := []struct{ took, want time.Duration }{
		{0, 100 * time.Millisecond},
		{25 * time.Second, 100 * time.Millisecond},
		{26 * time.Second, 200 * time.Millisecond},
		{time.Minute, 500 * time.Millisecond},
		{4 * time.Minute, time.Second},
		{24 * time.Hour, 500 * time.Second},
	}
	for _, tt := range tests {
		if got := slotWidth(tt.took); got != tt.want {
			t.Errorf("slotWidth(%v) = %v, want %v", tt.took, got, tt.want)
		}
	}
}

func TestUnion(t *testing.T) {
	got := union([]period{{from: 50, to: 60}, {from: 10, to: 20}, {from: 12, to: 18}, {from: 15, to: 30}, {from: 30, to: 31}})
	if want := []period{{from: 10, to: 31}, {from: 50, to: 60}}; !slices.Equal(got, want) {
		t.Errorf("union = %v, want %v", got, want)
	}
}

func TestTimeline(t *testing.T) {
	began := time.Now()
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	first := &function{windows: []stretch{{from: at(2), to: at(4)}, {from: at(8)}}}
	second := &function{
		steps: []stretch{
			{name: "createSecret", from: at(1), to: at(2)},
			{name: "wait", from: at(2), to: at(5)},
			{name: "createSecret", from: at(8)}, // to the end
			{name: "setSecret", from: at(11)},   // after it
			{name: "finishSecret", to: time.Time{}, from: at(12)},
		},
		windows: []stretch{{from: at(3), to: at(5)}},
	}
	d := &demo{began: began, ended: at(10), pools: []*pool{{function: first}, {function: second}}}
	got := d.timeline()
	if want := []period{{"create", 1 * time.Second, 2 * time.Second}, {"wait", 2 * time.Second, 5 * time.Second}, {"create", 8 * time.Second, 10 * time.Second}}; !slices.Equal(got.phases, want) {
		t.Errorf("phases %v, want %v", got.phases, want)
	}
	if want := []period{{"", 2 * time.Second, 5 * time.Second}, {"", 8 * time.Second, 10 * time.Second}}; !slices.Equal(got.windows, want) {
		t.Errorf("windows %v, want %v", got.windows, want)
	}
	if got.inWindow(19) || !got.inWindow(20) || !got.inWindow(49) || got.inWindow(50) {
		t.Error("inWindow is off by one")
	}
}
