package main

import (
	"slices"
	"strings"
	"time"
)

const (
	// narrowest is the time a bar of the picture stands for, unless there are too
	// many of them: a longer run has wider ones.
	narrowest = 100 * time.Millisecond
	mostSlots = 250
)

// An answer is the end of one query, as its caller saw it.
type answer struct {
	at     time.Time
	took   time.Duration // the connect included, if there was one
	failed bool
}

// A stretch is something that lasted for a while.
type stretch struct {
	name     string
	from, to time.Time // to is zero while it lasts
}

// end ends the last of the list, if it still lasts.
func end(list []stretch) []stretch {
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		list[n-1].to = time.Now()
	}
	return list
}

// A timeline is what the pools had in common. Its times count from the
// beginning of the load.
type timeline struct {
	took    time.Duration
	slot    time.Duration // that each of the results' slots stands for
	phases  []period      // of the rotations, in order; between two of them there may be none
	windows []period      // in which some server had a password that was not AWSCURRENT
}

// inWindow reports whether a window was open at some time of a slot.
func (t timeline) inWindow(i int) bool {
	from, to := time.Duration(i)*t.slot, time.Duration(i+1)*t.slot
	return slices.ContainsFunc(t.windows, func(w period) bool { return w.from < to && w.to > from })
}

// A period is a stretch that is over.
type period struct {
	name     string
	from, to time.Duration
}

func (p period) lasted() time.Duration { return p.to - p.from }

// A slot is what the queries that ended within some time were like.
type slot struct {
	queries, failed int64
	p50, p99, most  time.Duration // of those that did not fail: an error is no answer
}

func (s slot) answered() int64 { return s.queries - s.failed }

// timeline takes stock, when the load has ended. Both secrets are rotated at
// the same moments: the phases are the last one's, the windows anybody's.
func (d *demo) timeline() timeline {
	took := d.ended.Sub(d.began)
	t := timeline{took: took, slot: slotWidth(took)}
	since := func(list []stretch) (periods []period) {
		for _, s := range list {
			p := period{name: strings.TrimSuffix(s.name, "Secret"), from: s.from.Sub(d.began), to: took}
			if !s.to.IsZero() {
				p.to = min(s.to.Sub(d.began), took)
			}
			if p.from < took {
				periods = append(periods, p)
			}
		}
		return periods
	}
	var windows []period
	for _, p := range d.pools {
		steps, open := p.function.history()
		t.phases = since(steps)
		windows = append(windows, since(open)...)
	}
	t.windows = union(windows)
	return t
}

// union returns the times that are in any of the periods, in order.
func union(periods []period) []period {
	slices.SortFunc(periods, func(a, b period) int { return int(a.from - b.from) })
	var out []period
	for _, p := range periods {
		if n := len(out); n > 0 && p.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, p.to)
			continue
		}
		out = append(out, p)
	}
	return out
}

// slotWidth returns how wide the slots of a run are: a round number.
func slotWidth(took time.Duration) time.Duration {
	width := narrowest
	for i := 0; took > mostSlots*width; i++ {
		if i%3 == 1 { // 100, 200, 500, 1000, ...
			width = width * 5 / 2
		} else {
			width *= 2
		}
	}
	return width
}

// slots sorts the answers of a run into slots, of which there is at least one.
func slots(answers []answer, began time.Time, took, width time.Duration) []slot {
	n := 1
	if took > width {
		n = int((took + width - 1) / width)
	}
	out, times := make([]slot, n), make([][]time.Duration, n)
	for _, a := range answers {
		i := 0
		if width > 0 {
			i = min(max(int(a.at.Sub(began)/width), 0), n-1)
		}
		out[i].queries++
		if a.failed {
			out[i].failed++
			continue
		}
		times[i] = append(times[i], a.took)
	}
	for i, t := range times {
		slices.Sort(t)
		out[i].p50, out[i].p99, out[i].most = percentile(t, 50), percentile(t, 99), percentile(t, 100)
	}
	return out
}
