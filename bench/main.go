// Command bench measures what a read of a cache costs, beside the least that it
// could cost and beside AWS's own client, and what a connect costs beside the
// driver's own, on servers that it starts; it prints them with the bounds that are set
// to them. It takes under two minutes. It reports and does not judge: on a machine that
// others use too, one run over a bound says little. The same comparisons are
// benchmarks for benchstat:
//
//	go test -run='^$' -bench=. -cpu=1,2 -count=10 | tee new.txt
//	benchstat -col=/impl new.txt
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
)

func main() {
	if err := report(os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func report(out io.Writer) error {
	_, err := fmt.Fprintf(out, "%s, %s/%s, %d processors; median (minimum) of %d rounds of %v, alternating\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), rounds, turn)
	if err != nil {
		return err
	}
	for _, part := range []func(*table) error{reads, scaling, heaps, inserts, evictions, connects} {
		t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
		if err := part(t); err != nil {
			return err
		}
		if err := t.w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// A table has one line per measure.
type table struct{ w *tabwriter.Writer }

func (t *table) line(cells ...any) {
	for _, cell := range cells {
		_, _ = fmt.Fprintf(t.w, "%v\t", cell) // Flush returns the error
	}
	_, _ = fmt.Fprintln(t.w)
}

// verdict is what the last column says.
func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "OVER"
}

func nanoseconds(s series) string { return fmt.Sprintf("%.1f (%.1f) ns", s.median(), s.min()) }

// A row compares a contender with the floor under it.
type row struct {
	name  string
	run   contender
	bound float64 // of the quotient; zero: none
}

// reads compares reads of fresh entries, on one and on two processors.
func reads(t *table) error {
	one, err := newSubjects(1)
	if err != nil {
		return err
	}
	many, err := newSubjects(1000)
	if err != nil {
		return err
	}
	t.line("\nread of a fresh entry", "goroutines", "measured", "floor", "ratio", "of minima", "bound", "")
	for _, goroutines := range processors() {
		for _, group := range []struct {
			s     *subjects
			floor contender
			rows  []row
		}{
			{one, runFloor, []row{{"Get, 1 key", runGet, 1.25}, {"AWS's client, 1 key", runAWS, 0}}},
			{many, runFloor, []row{{"Get, 1,000 keys", runGet, 1.25}, {"AWS's client, 1,000 keys", runAWS, 0}}},
			{one, runSince, []row{{"Handle.Get", runHandle, 1.15}, {"Handle.Peek", runPeek, 1.15}, {"Value.Get", runValue, 0}}},
		} {
			entrants := []entrant{{group.floor, goroutines}}
			for _, r := range group.rows {
				entrants = append(entrants, entrant{r.run, goroutines})
			}
			times := compete(group.s, entrants...)
			for i, r := range group.rows {
				t.compare(r, goroutines, times[i+1], times[0])
			}
		}
	}
	return nil
}

func (t *table) compare(r row, goroutines int, measured, floor series) {
	ratio := measured.over(floor).median()
	bound, ok := "-", ""
	if r.bound > 0 {
		bound, ok = fmt.Sprintf("%.2f", r.bound), verdict(ratio <= r.bound)
	}
	t.line(r.name, goroutines, nanoseconds(measured), nanoseconds(floor),
		fmt.Sprintf("%.2f", ratio), fmt.Sprintf("%.2f", measured.min()/floor.min()), bound, ok)
}

// processors returns 1 and, where there are, 2.
func processors() []int {
	if runtime.NumCPU() < 2 {
		return []int{1}
	}
	return []int{1, 2}
}

// scaling compares the work that two goroutines do with that of one.
func scaling(t *table) error {
	if runtime.NumCPU() < 2 {
		return nil
	}
	t.line("\nwork of two goroutines / of one", "median", "most", "floor's", "bound", "")
	for _, keys := range []int{1, 1000} {
		s, err := newSubjects(keys)
		if err != nil {
			return err
		}
		const bound = 1.8
		times := compete(s, entrant{runGet, 1}, entrant{runGet, 2}, entrant{runFloor, 1}, entrant{runFloor, 2})
		ours, floors := times[0].over(times[1]), times[2].over(times[3])
		says := verdict(ours.median() >= bound)
		if floors.median() < bound {
			says = "the machine has no second processor to spare"
		}
		t.line(fmt.Sprintf("Get, keys: %d", keys), fmt.Sprintf("%.2f", ours.median()), fmt.Sprintf("%.2f", ours.max()),
			fmt.Sprintf("%.2f", floors.median()), fmt.Sprintf("%.2f", bound), says)
	}
	return nil
}

// What many secrets are.
const many = 10_000

func heaps(t *table) error {
	held, rotated, err := heapPerSecret(many)
	if err != nil {
		return err
	}
	t.line(fmt.Sprintf("\nheap per secret of 1 KiB, of %d", many), "bytes", "bound", "")
	t.line("read once", fmt.Sprintf("%.0f", held), 2048, verdict(held <= 2048))
	t.line("rotated once", fmt.Sprintf("%.0f", rotated), 3584, verdict(rotated <= 3584))
	return nil
}

func inserts(t *table) error {
	var gets, prefetch, service series
	for range 10 {
		g, p, s, err := insertion(names(0, many))
		if err != nil {
			return err
		}
		gets = append(gets, g.Seconds()*1000)
		prefetch = append(prefetch, p.Seconds()*1000)
		service = append(service, s.Seconds()*1000)
	}
	// There is no floor to divide by, measured beside it. So what counts is the turn
	// that was disturbed least.
	t.line(fmt.Sprintf("\ninsertion of %d secrets of 1 KiB", many), "median", "min", "client's own", "bound of min", "")
	for _, r := range []struct {
		name  string
		times series
	}{{"Get, one after the other", gets}, {"one Prefetch", prefetch}} {
		t.line(r.name, fmt.Sprintf("%.1f ms", r.times.median()), fmt.Sprintf("%.1f ms", r.times.min()),
			fmt.Sprintf("%.1f ms", service.median()), "100 ms", verdict(r.times.min() < 100))
	}
	return nil
}

func evictions(t *table) error {
	var caches []*full
	for _, entries := range []int{1000, 10_000, 100_000} {
		f, err := newFull(entries)
		if err != nil {
			return err
		}
		defer f.cache.Close()
		caches = append(caches, f)
	}
	const turns, perTurn = 40, 5000
	times, err := insertions(caches, turns, perTurn)
	if err != nil {
		return err
	}
	t.line("\ninsertion into a full cache", "median", "min", "max of turns", "evictions/insertion")
	for i, f := range caches {
		stats := f.cache.Stats()
		t.line(fmt.Sprintf("MaxEntries: %d", stats.Entries), fmt.Sprintf("%.0f ns", times[i].median()), fmt.Sprintf("%.0f ns", times[i].min()),
			fmt.Sprintf("%.0f ns", times[i].max()), fmt.Sprintf("%.3f", float64(stats.Evictions)/(turns*perTurn)))
	}
	return nil
}
