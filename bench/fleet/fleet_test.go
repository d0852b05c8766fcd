package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"testing"
	"time"
)

// smallPlan is a day of two hours for few processes, without quotas: what each
// event costs can be told from the number of calls.
func smallPlan() *plan {
	p := newPlan(20, 1)
	p.enforce = false
	p.day = 2 * time.Hour
	p.rotation = 30 * time.Minute
	p.outage = 50 * time.Minute
	p.rolling = 80 * time.Minute
	p.restart = 100 * time.Minute
	return p
}

func find(t *testing.T, key string) variant {
	t.Helper()
	for _, v := range variants {
		if v.key == key {
			return v
		}
	}
	t.Fatalf("there is no variant %q", key)
	return variant{}
}

func live(t *testing.T, key string, p *plan) *run {
	t.Helper()
	r, err := simulate(t, find(t, key), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"start", "rolling", "at once"} {
		if n := len(r.starts[name]); n != p.processes {
			t.Errorf("%s, %s: %d processes had all their secrets, want %d", key, name, n, p.processes)
		}
	}
	if r.errors != 0 {
		t.Errorf("%s: %d reads after the start got no value, want 0", key, r.errors)
	}
	return r
}

// within fails the test if n is outside the bounds.
func within(t *testing.T, what string, n, least, most int) {
	t.Helper()
	if n < least || n > most {
		t.Errorf("%s: %d, want %d to %d", what, n, least, most)
	}
}

func TestCallsOfTheCache(t *testing.T) {
	p := smallPlan()
	r := live(t, "keyturn-5m", p)
	all := p.processes * p.secrets
	busy := p.processes * (p.secrets - p.rare)
	within(t, "calls of the start", r.reads().between(0, p.launch+time.Second).sum(), all, all)
	// Every 225 to 255 s and what passes until the next read, 10 s on average; the
	// rare ones at every read.
	quiet := 20 * time.Minute
	rounds := func(period time.Duration) int { return busy * int(quiet/time.Second) / int(period/time.Second) }
	rare := p.processes * p.rare * int(quiet) / int(p.rarePause)
	within(t, "calls in 20 quiet minutes", r.reads().between(10*time.Minute, 30*time.Minute).sum(),
		rounds(270*time.Second), rounds(230*time.Second)+2*rare)
	// One refused login for each secret in each process, and one call for it. Not of
	// those that were refreshed before they were used to log in.
	within(t, "refused logins", r.refused, busy*3/4, all)
	within(t, "calls of the rotation", r.reads().between(p.rotation, p.rotation+2*p.rotateFor).sum(), busy*3/4, 2*all)
	// After the first retries of the SDK, whose tokens are used up, a call for each
	// secret after 1 s, 2, 4, .. 60: not more than 18 in 10 minutes.
	tokens := p.processes * 500 / 5
	within(t, "calls of the outage", r.reads().between(p.outage, p.outage+p.outageFor).sum(), 5*busy, 18*all+tokens)
	if n := r.batches().sum(); n != 0 {
		t.Errorf("%d batches without Prefetch", n)
	}
}

func TestPrefetchIsACallPerProcess(t *testing.T) {
	p := smallPlan()
	r := live(t, "prefetch-1h", p)
	within(t, "batches of the start", r.batches().between(0, p.launch+time.Second).sum(), p.processes, p.processes)
	within(t, "other calls of the start", r.reads().between(0, p.launch+time.Second).sum(), 0, 0)
	within(t, "batches of the day", r.batches().sum(), 3*p.processes, 3*p.processes)
}

// Without a back-off every read beyond the TTL is a call, in an outage.
func TestOutageWithoutBackoff(t *testing.T) {
	p := smallPlan()
	outage := func(r *run) int { return r.reads().between(p.outage, p.outage+p.outageFor).sum() }
	ours, fixed := outage(live(t, "keyturn-5m", p)), outage(live(t, "fixed-5m", p))
	if fixed < 2*ours {
		t.Errorf("%d calls in the outage with a back-off, %d without; want less than half", ours, fixed)
	}
}

// A fleet that may make fewer calls a second than its start needs gets there.
func TestQuota(t *testing.T) {
	p := smallPlan()
	p.enforce, p.weight = true, 500 // 20 reads a second for 400 secrets
	for _, key := range []string{"keyturn-5m", "prefetch-5m"} {
		r := live(t, key, p)
		denied := r.service.denied[getSecretValue].plus(r.service.denied[describeSecret])
		if denied.sum() == 0 {
			t.Errorf("%s: no call was throttled, so the test shows nothing", key)
		}
		answered := 0
		for second, calls := range r.reads() {
			answered = max(answered, int(calls-denied[second]))
		}
		if answered != readQuota/p.weight {
			t.Errorf("%s: at most %d calls a second were answered, want %d", key, answered, readQuota/p.weight)
		}
	}
}

func TestSeries(t *testing.T) {
	s := series{1, 5, 2, 0, 9, 3}
	if got := s.between(time.Second, 3*time.Second); got.sum() != 7 || got.peak() != 5 || got.mean() != 3.5 {
		t.Errorf("between = %v", got)
	}
	if got := s.quantile(0.5); got != 2 {
		t.Errorf("the median is %d, want 2", got)
	}
	if got := s.peaks(4); len(got) != 2 || got[0] != 5 || got[1] != 9 {
		t.Errorf("peaks = %v, want [5 9]", got)
	}
	if got := s.plus(s).sum(); got != 40 {
		t.Errorf("the sum of both is %d, want 40", got)
	}
	if got := s.between(time.Hour, 2*time.Hour); got.peak() != 0 || got.quantile(0.99) != 0 || got.mean() != 0 {
		t.Errorf("beyond the end: %v", got)
	}
}

// The chart is XML, with a line for each run in each of its panels.
func TestChart(t *testing.T) {
	p := smallPlan()
	p.processes = 3
	r := live(t, "keyturn-1h", p)
	d := xml.NewDecoder(bytes.NewReader(chart([]*run{r, r})))
	paths := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "path" {
			paths++
		}
	}
	if want := 2 * 2 * 3; paths != want { // with those of the legend
		t.Errorf("%d paths, want %d", paths, want)
	}
}
