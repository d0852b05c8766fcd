package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// save writes the files that the flags ask for, and says where the page is.
// One that cannot be written does not keep the other from it.
func (r report) save(s settings, stdout io.Writer) error {
	var errs []error
	if s.svg != "" {
		errs = append(errs, write(s.svg, "-svg", []byte(r.picture(false))))
	}
	if s.html != "" {
		page, err := r.page()
		if err == nil {
			err = write(s.html, "-html", page)
		}
		if err == nil {
			path, _ := filepath.Abs(s.html) // it fails if there is no current directory; then nothing is relative to it
			_, _ = fmt.Fprintf(stdout, "\nThe same as a picture, for a browser: %s\n", path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func write(path, name string, data []byte) error {
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("the report above is complete, but its picture is not saved: %w; give %s a file that can be written", err, name)
	}
	return nil
}

// page is the run as one file of HTML, which refers to nothing outside of it.
func (r report) page() ([]byte, error) {
	rows := r.rows()
	// Not in the report of the terminal: there it would be three lines more of
	// what rotation hardly changes.
	latency := func(label string, of func(slot) time.Duration) {
		rows = append(rows, []string{label, millis(of(r.plain.answered)), millis(of(r.keyturn.answered))})
	}
	latency("time to an answer, p50", func(s slot) time.Duration { return s.p50 })
	latency("  p99", func(s slot) time.Duration { return s.p99 })
	latency("  max", func(s slot) time.Duration { return s.most })

	type failure struct{ Pool, Text string }
	var failures []failure
	for _, p := range []result{r.plain, r.keyturn} {
		if p.firstErr != nil {
			failures = append(failures, failure{p.name, oneLine(p.firstErr)})
		}
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, map[string]any{
		"Headline":  r.headline(),
		"Occasion":  r.occasion(),
		"Verdict":   r.verdict(),
		"Good":      r.good(),
		"Picture":   template.HTML(r.picture(true)), // escaped where it is drawn
		"Columns":   rows[0][1:],
		"Rows":      rows[1:],
		"Rotations": r.rotations(),
		"Logins":    r.keyturn.byRotation(),
		"Failures":  failures,
		"Slots":     r.slotRows(),
		"Slot":      short(r.timeline.slot),
		"TTL":       r.plainTTL,
		"Workers":   r.workers,
		"CPUs":      runtime.NumCPU(),
		"System":    runtime.GOOS + "/" + runtime.GOARCH,
	})
	return b.Bytes(), err
}

// rotations returns how long each phase of each rotation took: number,
// beginning, create, set, test, wait, finish. A step that was repeated counts
// as often as it was.
func (r report) rotations() (rows [][]string) {
	names := []string{"create", "set", "test", "wait", "finish"}
	var began time.Duration
	var took map[string]time.Duration
	add := func() {
		if took == nil {
			return
		}
		row := []string{fmt.Sprint(len(rows) + 1), seconds(began)}
		for _, name := range names {
			row = append(row, millis(took[name]))
		}
		rows = append(rows, row)
	}
	for _, p := range r.timeline.phases {
		if p.name == "create" {
			add()
			began, took = p.from, make(map[string]time.Duration)
		}
		if took != nil {
			took[p.name] += p.lasted()
		}
	}
	add()
	return rows
}

// slotRows returns the numbers of which the picture is drawn.
func (r report) slotRows() (rows [][]string) {
	cells := func(s slot) []string {
		row := []string{fmt.Sprint(s.queries), fmt.Sprint(s.failed)}
		if s.answered() == 0 {
			return append(row, "", "", "")
		}
		return append(row, millis(s.p50), millis(s.p99), millis(s.most))
	}
	for i := range r.plain.slots {
		from := time.Duration(i) * r.timeline.slot
		mark := ""
		if r.timeline.inWindow(i) {
			mark = "window"
		}
		row := append([]string{seconds(from), mark}, cells(r.plain.slots[i])...)
		rows = append(rows, append(row, cells(r.keyturn.slots[i])...))
	}
	return rows
}

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"indented": func(s string) bool { return strings.HasPrefix(s, " ") },
}).Parse(pageSource))
