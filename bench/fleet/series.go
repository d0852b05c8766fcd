package main

import (
	"slices"
	"time"
)

// A series is a number of calls for each second of the day.
type series []uint32

// plus returns the sum of both.
func (s series) plus(other series) series {
	sum := slices.Clone(s)
	for i, n := range other {
		sum[i] += n
	}
	return sum
}

// between returns the seconds from one instant of the day to another.
func (s series) between(from, to time.Duration) series {
	return s[min(int(from/time.Second), len(s)):min(int(to/time.Second), len(s))]
}

func (s series) sum() (n int) {
	for _, calls := range s {
		n += int(calls)
	}
	return n
}

func (s series) peak() int {
	if len(s) == 0 {
		return 0
	}
	return int(slices.Max(s))
}

func (s series) mean() float64 { return float64(s.sum()) / float64(max(len(s), 1)) }

// quantile returns the number that the part q of the seconds stays at or below.
func (s series) quantile(q float64) int {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Clone(s)
	slices.Sort(sorted)
	return int(sorted[int(q*float64(len(sorted)-1))])
}

// peaks returns the highest of each so many seconds.
func (s series) peaks(seconds int) series {
	var all series
	for part := range slices.Chunk(s, seconds) {
		all = append(all, slices.Max(part))
	}
	return all
}
