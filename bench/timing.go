package main

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// How long a contender runs at a time, and how often. The contenders take turns: a
// neighbour that takes the processor away for a second takes it from all of them.
// The turns are short, so that many pass between two visits of the neighbour.
const (
	turn   = 5 * time.Millisecond
	rounds = 60
)

// A series is one number per round.
type series []float64

func (s series) min() float64 { return slices.Min(s) }

func (s series) max() float64 { return slices.Max(s) }

func (s series) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// over returns the quotients, round by round: what disturbed a round disturbed
// both sides of it.
func (s series) over(other series) series {
	quotients := make(series, len(s))
	for i := range s {
		quotients[i] = s[i] / other[i]
	}
	return quotients
}

// An entrant is a contender on so many goroutines, each on a processor of its own.
type entrant struct {
	run        contender
	goroutines int
}

// nanoseconds has the entrant make n reads on each goroutine, and returns what one
// read took by the wall: with perfect scaling, half as much on two goroutines.
func (e entrant) nanoseconds(s *subjects, n int) float64 {
	if runtime.GOMAXPROCS(0) != e.goroutines {
		runtime.GOMAXPROCS(e.goroutines)
	}
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	ready.Add(e.goroutines)
	for g := range e.goroutines {
		done.Go(func() {
			at := g * len(s.ids) / e.goroutines
			e.run(s, at, 100) // its code and data are in the processor's caches
			ready.Done()
			<-begin
			e.run(s, at, n)
		})
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	return float64(time.Since(start)) / float64(n*e.goroutines)
}

// compete has all entrants take their turn in each round, and returns their
// nanoseconds per read. Each round begins with the next one, so that none always
// comes after the same.
func compete(s *subjects, entrants ...entrant) []series {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	times := make([]series, len(entrants))
	reads := make([]int, len(entrants))
	for i, e := range entrants {
		times[i] = make(series, rounds)
		const probe = 20_000
		one := min(e.nanoseconds(s, probe), e.nanoseconds(s, probe)) * float64(e.goroutines)
		reads[i] = int(float64(turn) / one)
	}
	for round := range rounds {
		for i := range entrants {
			i = (i + round) % len(entrants)
			times[i][round] = entrants[i].nanoseconds(s, reads[i])
		}
	}
	return times
}
