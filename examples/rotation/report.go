package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// pricePer10000 is what Secrets Manager takes for that many calls, in dollars.
const pricePer10000 = 0.05

// A report is how it was.
type report struct {
	planned, rotated int
	plainTTL         time.Duration
	plain, keyturn   result
	workers          int
	timeline         timeline
}

// A result is how it was for one pool.
type result struct {
	name           string
	queries        int64
	failed         int64
	opened         int
	p50, p99, most time.Duration
	failedLogins   []int   // by rotation, from the server's log
	tallies        []tally // by rotation, from the pool's own tracer
	calls          int64
	firstErr       error
	answered       slot   // the whole run
	slots          []slot // the run by time
}

// report takes stock. The pools do nothing any more.
func (d *demo) report() (report, error) {
	r := report{
		planned: d.rotations, rotated: int(d.rotated.Load()), plainTTL: d.plainTTL,
		workers: d.workers, timeline: d.timeline(),
	}
	var err error
	if r.plain, err = d.pools[0].result(d); err != nil {
		return r, err
	}
	r.keyturn, err = d.pools[1].result(d)
	return r, err
}

func (p *pool) result(d *demo) (result, error) {
	logins, err := p.failedLogins(d.pg)
	if err != nil {
		return result{}, err
	}
	took := d.ended.Sub(d.began)
	changes, _ := p.function.past()
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.opening)
	r := result{
		name:     p.name,
		queries:  p.queries.Load(),
		failed:   p.failed.Load(),
		opened:   len(p.opening),
		p50:      percentile(p.opening, 50),
		p99:      percentile(p.opening, 99),
		most:     percentile(p.opening, 100),
		calls:    p.api.calls.Load(),
		firstErr: p.firstErr,
		answered: slots(p.answers, d.began, took, took)[0],
		slots:    slots(p.answers, d.began, took, slotWidth(took)),
	}
	marks := append(slices.Clone(p.marks), logins)
	marks[0] = 0 // what failed before the first rotation should not have, and counts to it
	for i := range len(marks) - 1 {
		r.failedLogins = append(r.failedLogins, marks[i+1]-marks[i])
		var t tally
		if i < len(changes) {
			var next time.Time
			if i+1 < len(changes) {
				next = changes[i+1]
			}
			t = p.logins.tally(changes[i], next)
		}
		r.tallies = append(r.tallies, t)
	}
	return r, nil
}

// percentile returns the smallest of the sorted values that is not smaller than
// p percent of them; zero if there are none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// logins returns the failed logins of all rotations, how many of them could not
// be avoided, and how many began when the pool knew.
func (r result) logins() (failed, allowed, late int) {
	for i, n := range r.failedLogins {
		failed += n
		allowed += r.tallies[i].allowed()
		late += r.tallies[i].late
	}
	return failed, allowed, late
}

// allowed is what a pool cannot avoid: the login that finds out, and those in
// flight until then.
func (t tally) allowed() int { return 1 + t.inFlight }

// excess reports whether some rotation had more failed logins than allowed.
func (r result) excess() bool {
	for i, n := range r.failedLogins {
		if n > r.tallies[i].allowed() {
			return true
		}
	}
	return false
}

// good reports whether the run shows what it is meant to show.
func (r report) good() bool {
	return r.rotated > 0 && r.keyturn.failed == 0 && !r.keyturn.excess() && r.plain.failed > 0
}

// rows is the table: a label, and what there is to say of each pool.
func (r report) rows() [][]string {
	row := func(label string, of func(result) string) []string {
		return []string{label, of(r.plain), of(r.keyturn)}
	}
	count := func(n int64) string { return fmt.Sprint(n) }
	return [][]string{
		{"", r.plain.name, r.keyturn.name},
		row("queries", func(p result) string { return count(p.queries) }),
		row("failed queries", func(p result) string { return count(p.failed) }),
		row("connections opened", func(p result) string { return count(int64(p.opened)) }),
		row("  time to open one, p50", func(p result) string { return millis(p.p50) }),
		row("  p99", func(p result) string { return millis(p.p99) }),
		row("  max", func(p result) string { return millis(p.most) }),
		row("failed logins in the server's log", func(p result) string { n, _, _ := p.logins(); return count(int64(n)) }),
		row("  begun after the first was known", func(p result) string { _, _, n := p.logins(); return count(int64(n)) }),
		row("Secrets Manager calls", func(p result) string { return count(p.calls) }),
		row("  price at $0.05 per 10,000", func(p result) string { return price(p.calls) }),
	}
}

// print prints the table and the verdict.
func (r report) print(w io.Writer) {
	_, _ = fmt.Fprintf(w, "\n%s\n", table(r.rows()))
	_, _ = fmt.Fprintf(w, "The plain pool keeps its password for %v: a longer TTL makes fewer calls and\nfails for longer.\n", r.plainTTL)
	_, _ = fmt.Fprintln(w, "Failed logins of the Keyturn pool by rotation, of those that cannot be avoided\n(the one that finds out, and those in flight until then):\n ", r.keyturn.byRotation())
	for _, p := range []result{r.plain, r.keyturn} {
		if p.firstErr != nil {
			_, _ = fmt.Fprintf(w, "First error of the %s pool:\n  %s\n", p.name, oneLine(p.firstErr))
		}
	}
	_, _ = fmt.Fprintf(w, "\n%s\n", r.verdict())
}

// byRotation lists the failed logins next to those that cannot be avoided.
func (r result) byRotation() string {
	var list []string
	for i, n := range r.failedLogins {
		list = append(list, fmt.Sprintf("%d of %d", n, r.tallies[i].allowed()))
	}
	return strings.Join(list, ", ")
}

func (r report) verdict() string {
	rotations := "1 rotation"
	if r.rotated != 1 {
		rotations = fmt.Sprintf("%d rotations", r.rotated)
	}
	if r.rotated < r.planned {
		rotations += fmt.Sprintf(" (of %d planned)", r.planned)
	}
	failed, allowed, _ := r.keyturn.logins()
	switch {
	case r.rotated == 0:
		return "PROVES NOTHING: no rotation was completed."
	case r.keyturn.failed > 0:
		return fmt.Sprintf("FAILED: in %s the Keyturn pool failed %d of %d queries.", rotations, r.keyturn.failed, r.keyturn.queries)
	case r.keyturn.excess():
		return fmt.Sprintf("FAILED: in %s the Keyturn pool failed no query, but in at least one it had more failed logins\nthan cannot be avoided (see above).", rotations)
	case r.plain.failed == 0:
		return "PROVES NOTHING: the plain pool did not fail either."
	}
	return fmt.Sprintf("Passed: in %s the Keyturn pool failed 0 of %d queries\n(failed logins: %d of at most %d allowed); the plain pool failed %d of %d.",
		rotations, r.keyturn.queries, failed, allowed, r.plain.failed, r.plain.queries)
}

// table aligns the rows: the first column to the left, the others to the right.
func table(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "%-*s", widths[0], row[0])
		for i, cell := range row[1:] {
			fmt.Fprintf(&b, "   %*s", widths[i+1], cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func price(calls int64) string {
	return fmt.Sprintf("$%.6f", float64(calls)*pricePer10000/10000)
}

// oneLine is the text of an error without the line breaks of pgx's.
func oneLine(err error) string {
	return strings.Join(strings.Fields(cmp.Or(err.Error(), "?")), " ")
}
