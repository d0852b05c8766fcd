// Command fleet simulates a day of a fleet of processes that share their secrets, and
// prints how often it calls Secrets Manager, against the service's quotas. The cache
// is the real one, in virtual time. docs/fleet.md says what is simulated and what
// came of it:
//
//	go run ./fleet -svg ../docs/fleet.svg
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// Virtual time is testing/synctest's, which wants a *testing.T: testing.Main is how a
// program that is not a test comes by one. It prints PASS at the end.
func main() {
	testing.Main(
		func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "fleet", F: func(t *testing.T) {
			if err := command(t, os.Stdout); err != nil {
				t.Error(err)
			}
		}}}, nil, nil,
	)
}

var (
	processes = flag.Int("processes", 1000, "how many `processes` to simulate")
	weight    = flag.Int("weight", 10, "how many processes of the fleet each of them stands for: the quotas are divided by it")
	hours     = flag.Int("hours", 24, "how many `hours` of the day")
	quota     = flag.Bool("quota", true, "the service throttles")
	only      = flag.String("variants", "", "which `variants`, with commas between: "+keys()+"; default all")
	svg       = flag.String("svg", "", "the `file` to write the chart to")
)

func command(t *testing.T, out io.Writer) error {
	if *processes < 1 || *weight < 1 || *hours < 1 || *hours > 24 {
		return fmt.Errorf("-processes %d -weight %d -hours %d: each is to be 1 at least, the hours 24 at most", *processes, *weight, *hours)
	}
	p := newPlan(*processes, *weight)
	p.enforce, p.day = *quota, time.Duration(*hours)*time.Hour
	_, _ = fmt.Fprintf(out, "%d processes, each for %d; %d secrets; %v\n", *processes, *weight, p.secrets, p.day)
	var runs []*run
	for _, v := range variants {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), v.key) {
			continue
		}
		began := time.Now()
		r, err := simulate(t, v, p)
		if err != nil {
			return err
		}
		runs = append(runs, r)
		if err := r.report(out, time.Since(began)); err != nil {
			return err
		}
	}
	if *svg == "" {
		return nil
	}
	return os.WriteFile(*svg, chart(runs), 0o644) //nolint:gosec // A picture for everybody.
}

func keys() string {
	var all []string
	for _, v := range variants {
		all = append(all, v.key)
	}
	return strings.Join(all, ",")
}

// reads returns the calls that the quota of GetSecretValue is for, and batches those
// of BatchGetSecretValue.
func (r *run) reads() series {
	return r.service.counts[getSecretValue].plus(r.service.counts[describeSecret])
}

func (r *run) batches() series { return r.service.counts[batchGetSecretValue] }

// cost returns what 30 such days cost, in dollars: $0.05 for 10,000 calls that were
// not throttled.
func (r *run) cost() float64 {
	calls := 0
	for op := range operations {
		calls += r.service.counts[op].sum() - r.service.denied[op].sum()
	}
	days := r.plan.day.Hours() / 24
	return float64(calls*r.plan.weight) / days * 30 / 10_000 * 0.05
}

// report prints what became of the fleet.
func (r *run) report(out io.Writer, took time.Duration) error {
	w := r.plan.weight
	_, _ = fmt.Fprintf(out, "\n%s (%s): $%.0f a month; simulated in %v\n", r.variant.name, r.variant.key, r.cost(), took.Round(time.Second))
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "calls a second\tpeak\tp99\tmean\tthrottled\tbatch peak\tmean\tthrottled\t")
	all := phase{"the day", 0, r.plan.day}
	for _, ph := range append([]phase{all}, r.plan.phases()...) {
		if ph.from >= r.plan.day {
			continue
		}
		reads, batches := r.reads().between(ph.from, ph.to), r.batches().between(ph.from, ph.to)
		denied := r.service.denied[getSecretValue].plus(r.service.denied[describeSecret]).between(ph.from, ph.to)
		deniedBatches := r.service.denied[batchGetSecretValue].between(ph.from, ph.to)
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%.0f\t%d\t%d\t%.1f\t%d\t\n", ph.name, reads.peak()*w, reads.quantile(0.99)*w, reads.mean()*float64(w),
			denied.sum()*w, batches.peak()*w, batches.mean()*float64(w), deniedBatches.sum()*w)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range []string{"start", "rolling", "at once"} {
		if times := r.starts[name]; len(times) > 0 {
			slices.Sort(times)
			_, _ = fmt.Fprintf(out, "  %s: all secrets there after %v (median), %v (p99), %v (last); %d processes\n", name,
				times[len(times)/2].Round(time.Millisecond), times[len(times)*99/100].Round(time.Millisecond), times[len(times)-1].Round(time.Millisecond), len(times)*w)
		}
	}
	_, err := fmt.Fprintf(out, "  reads without a value: %d in a start, %d later; logins refused: %d\n", r.startErrors*w, r.errors*w, r.refused*w)
	return err
}
