package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"
)

// tolerance is by how much the heap may have grown: some caches and pools hold more
// than at the start, whatever they have been through.
const tolerance = 4 << 20

// enough is how long a run is in which every secret is rotated.
const enough = time.Minute

// A report is how it was.
type report struct {
	Seed      uint64        `json:"seed"`
	Length    time.Duration `json:"length"`
	Took      time.Duration `json:"took"`
	Go        string        `json:"go"`
	System    string        `json:"system"`
	CPUs      int           `json:"cpus"`
	Databases []string      `json:"databases"`
	Pools     []*result     `json:"pools"`
	Controls  []*result     `json:"controls"`
	Faults    map[kind]int  `json:"faults"`
	Start     resources     `json:"start"`
	End       resources     `json:"end"`
	Faulty    []string      `json:"faulty"` // why the run has failed; none if it has not
}

// A result is how it was for one pool.
type result struct {
	Database string        `json:"database"`
	Name     string        `json:"name"`
	Queries  int64         `json:"queries"`
	GivenUp  int64         `json:"given_up"`
	Longest  time.Duration `json:"longest"` // of the queries that succeeded
	Ours     int64         `json:"ours"`
	Excused  int64         `json:"excused"`
	Excuses  map[kind]int  `json:"excuses"`
	Findings []string      `json:"findings"`

	// Of the pools whose users are rotated.
	Control   int64 `json:"control"` // errors of the bare driver, as many workers
	Rotations int   `json:"rotations"`
	Repeated  int   `json:"repeated"` // attempts at a rotation that failed
	Logins    int64 `json:"logins"`
	Failed    int   `json:"failed_logins"`
	Allowed   int   `json:"allowed_logins"`
}

func (s *soak) newReport() *report {
	r := &report{
		Seed: s.seed, Length: s.length, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
	}
	for _, db := range s.databases {
		r.Databases = append(r.Databases, db.name+" "+db.version)
	}
	return r
}

// fill takes stock of what the pools and the servers know, and judges.
func (r *report) fill(s *soak, idle []*pool) error {
	r.Faults = s.faults.count()
	for _, p := range s.pools {
		res := &result{
			Database: p.database.name, Name: p.name, Queries: p.tally.queries.Load(), GivenUp: p.tally.givenUp.Load(),
			Longest: time.Duration(p.tally.longest.Load()), Ours: p.tally.ours.Load(), Excused: p.tally.excused.Load(),
			Excuses: p.tally.excuses, Findings: p.tally.findings,
		}
		if p.control == nil {
			r.Controls = append(r.Controls, res)
			continue
		}
		res.Control = p.control.tally.excused.Load() + p.control.tally.ours.Load()
		res.Logins = int64(p.stats.Logins.Load()) //nolint:gosec // An hour has fewer.
		res.Rotations, res.Repeated = p.rotated.rotated, p.rotated.failed
		// The login that finds out, those in flight until then, and that which tries
		// AWSPREVIOUS where AWSPENDING cannot be read.
		res.Allowed = len(p.rotated.changes) * (1 + size + 1)
		var err error
		if res.Failed, err = p.rotated.failedLogins(); err != nil {
			return err
		}
		r.Pools = append(r.Pools, res)
	}
	r.judge()
	for _, p := range idle {
		r.blame("%s, %s: no progress after the last fault", p.database.name, p.name)
	}
	return nil
}

func (r *report) blame(format string, args ...any) {
	r.Faulty = append(r.Faulty, fmt.Sprintf(format, args...))
}

// judge says what is wrong with the numbers.
func (r *report) judge() {
	for _, p := range r.Pools {
		if p.Ours > 0 {
			r.blame("%s, %s: %d errors that the bare driver would not have given", p.Database, p.Name, p.Ours)
		}
		if p.Excused > 2*p.Control+50 {
			r.blame("%s, %s: %d errors while there was a fault, and the bare driver had %d", p.Database, p.Name, p.Excused, p.Control)
		}
		if p.Failed > p.Allowed {
			r.blame("%s, %s: %d failed logins, of %d that cannot be avoided", p.Database, p.Name, p.Failed, p.Allowed)
		}
		if p.Rotations == 0 && r.Took >= enough {
			r.blame("%s, %s: no rotation", p.Database, p.Name)
		}
	}
	for _, p := range r.Controls {
		if p.Ours > 0 {
			r.blame("%s, %s: %d errors that no fault explains: the rules for that are wrong", p.Database, p.Name, p.Ours)
		}
	}
	if r.End.Goroutines > r.Start.Goroutines {
		r.blame("%d goroutines are left of %d", r.End.Goroutines, r.Start.Goroutines)
	}
	if r.End.Files > r.Start.Files {
		r.blame("%d file descriptors are left of %d", r.End.Files, r.Start.Files)
	}
	if r.End.Heap > r.Start.Heap+tolerance {
		r.blame("the heap has grown from %s to %s", mebibytes(r.Start.Heap), mebibytes(r.End.Heap))
	}
}

// print prints the report as Markdown.
func (r *report) print(w io.Writer) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s of load; seed %d; %s, %s, %d CPUs; %s.\n\n",
		r.Took.Round(time.Second), r.Seed, r.Go, r.System, r.CPUs, strings.Join(r.Databases, ", "))
	rows := [][]string{{"pool", "queries", "rotations", "attempts that failed", "errors", "errors of the faults", "the bare driver's", "failed logins", "at most", "of logins", "longest query"}}
	var sum result
	for _, p := range r.Pools {
		rows = append(rows, p.row(p.Database+", "+p.Name))
		sum.Queries, sum.Rotations, sum.Repeated = sum.Queries+p.Queries, sum.Rotations+p.Rotations, sum.Repeated+p.Repeated
		sum.Ours, sum.Excused, sum.Control = sum.Ours+p.Ours, sum.Excused+p.Excused, sum.Control+p.Control
		sum.Failed, sum.Allowed, sum.Logins = sum.Failed+p.Failed, sum.Allowed+p.Allowed, sum.Logins+p.Logins
		sum.Longest = max(sum.Longest, p.Longest)
	}
	table(&b, append(rows, sum.row("all")))
	rows = [][]string{{"bare driver", "queries", "errors", "that no fault explains", "longest query"}}
	for _, p := range r.Controls {
		rows = append(rows, []string{p.Database + ", " + p.Name, fmt.Sprint(p.Queries), fmt.Sprint(p.Excused + p.Ours), fmt.Sprint(p.Ours), millis(p.Longest)})
	}
	table(&b, rows)
	rows = [][]string{{"fault", "times", "errors of Keyturn's pools", "of the bare driver's"}}
	for _, k := range slices.SortedFunc(maps.Keys(r.Faults), cmp.Compare[kind]) {
		rows = append(rows, []string{string(k), fmt.Sprint(r.Faults[k]), fmt.Sprint(excusedBy(r.Pools, k)), fmt.Sprint(excusedBy(r.Controls, k))})
	}
	table(&b, rows)
	table(&b, [][]string{
		{"at rest", "goroutines", "file descriptors", "heap", "resident"},
		r.Start.row("at the start"), r.End.row("at the end"),
	})
	for _, p := range slices.Concat(r.Pools, r.Controls) {
		for _, finding := range p.Findings {
			fmt.Fprintf(&b, "- %s, %s: %s\n", p.Database, p.Name, finding)
		}
	}
	b.WriteString(r.verdict() + "\n")
	_, _ = io.WriteString(w, b.String())
}

func (p *result) row(name string) []string {
	return []string{
		name, fmt.Sprint(p.Queries), fmt.Sprint(p.Rotations), fmt.Sprint(p.Repeated), fmt.Sprint(p.Ours), fmt.Sprint(p.Excused),
		fmt.Sprint(p.Control), fmt.Sprint(p.Failed), fmt.Sprint(p.Allowed), fmt.Sprint(p.Logins), millis(p.Longest),
	}
}

func (r resources) row(name string) []string {
	return []string{name, fmt.Sprint(r.Goroutines), fmt.Sprint(r.Files), mebibytes(r.Heap), mebibytes(r.Resident)}
}

func excusedBy(results []*result, k kind) (n int) {
	for _, p := range results {
		n += p.Excuses[k]
	}
	return n
}

// verdict is the last line.
func (r *report) verdict() string {
	if len(r.Faulty) > 0 {
		return "FAILED: " + strings.Join(r.Faulty, "; ") + "."
	}
	var queries int64
	rotations, faults := 0, 0
	for _, p := range r.Pools {
		queries, rotations = queries+p.Queries, rotations+p.Rotations
	}
	for _, n := range r.Faults {
		faults += n
	}
	short := ""
	if r.Took < r.Length {
		short = fmt.Sprintf(", ended after %s of %s", r.Took.Round(time.Second), r.Length)
	}
	return fmt.Sprintf("Passed: %d queries, %d rotations, %d faults, 0 errors that the bare driver would not have given; nothing leaked%s.",
		queries, rotations, faults, short)
}

// table writes a table, as Markdown that can be read as it is too.
func table(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			if i == 0 {
				fmt.Fprintf(b, "| %-*s ", widths[i], cell)
			} else {
				fmt.Fprintf(b, "| %*s ", widths[i], cell)
			}
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				fmt.Fprintf(b, "|%s", strings.Repeat("-", width+2))
			} else {
				fmt.Fprintf(b, "|%s:", strings.Repeat("-", width+1))
			}
		}
		b.WriteString("|\n")
	}
	b.WriteString("\n")
}

func millis(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
