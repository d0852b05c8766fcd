package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

const (
	tick          = 250 * time.Millisecond // between two looks
	ticksPerLine  = 4                      // of the plain lines
	ticksPerPoint = 2                      // of the graphs
)

// A display shows what happens while it happens: on a terminal in place, and
// otherwise as one line per second.
type display struct {
	out   io.Writer
	size  func() (width, height int) // nil: no terminal
	style style
	total time.Duration // about how long it will take

	drawn int // lines on the screen that the next drawing replaces
	width int // for which they were drawn
}

func newDisplay(out io.Writer, s settings) *display {
	v := &display{out: out, total: s.duration, style: style{
		color: os.Getenv("NO_COLOR") == "",
		ascii: !utf8Locale(),
	}}
	if v.total == 0 {
		v.total = 2*margin + time.Duration(s.rotations)*s.window + time.Duration(s.rotations-1)*s.pause
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		v.size = func() (int, int) {
			width, height, err := term.GetSize(int(f.Fd()))
			if err != nil || width <= 0 || height <= 0 {
				return 80, 24
			}
			return width, height
		}
	}
	return v
}

// utf8Locale reports whether the terminal can show block characters.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// run shows the demo until it has ended.
func (v *display) run(d *demo, ended <-chan struct{}) {
	start, ticker := time.Now(), time.NewTicker(tick)
	defer ticker.Stop()
	s := scene{total: v.total, rotations: d.rotations}
	for _, p := range d.pools {
		s.names = append(s.names, p.name)
	}
	s.add(d, 0)
	for {
		select {
		case <-ticker.C:
		case <-ended:
			if v.size != nil {
				s.add(d, time.Since(start))
				v.draw(s)
			}
			return
		}
		s.add(d, time.Since(start))
		switch {
		case v.size != nil:
			v.draw(s)
		case (len(s.samples)-1)%ticksPerLine == 0:
			_, _ = fmt.Fprintln(v.out, s.line())
		}
	}
}

// draw replaces what it has drawn before. It leaves the cursor below, and does
// nothing to the terminal that would have to be undone.
func (v *display) draw(s scene) {
	width, height := v.size()
	lines := s.render(width-1, v.style) // a full line would wrap on some terminals
	lines = lines[:min(len(lines), height-1)]
	var b strings.Builder
	switch {
	case v.drawn > 0 && width != v.width:
		b.WriteString("\x1b[H\x1b[2J") // the terminal may have broken the lines anew: nobody knows where they are
	case v.drawn > 0:
		fmt.Fprintf(&b, "\r\x1b[%dA", v.drawn)
	}
	for _, line := range lines {
		b.WriteString(line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	v.drawn, v.width = len(lines), width
	_, _ = io.WriteString(v.out, b.String())
}

// A scene is what there is to be seen.
type scene struct {
	names     []string // of the pools
	total     time.Duration
	rotations int
	samples   []sample
}

// A sample is one look at the demo.
type sample struct {
	at       time.Duration
	rotation int64
	step     string // "" between rotations
	window   bool   // open at some time since the last look
	queries  [2]int64
	failed   [2]int64
}

func (s *scene) add(d *demo, at time.Duration) {
	look := sample{at: at, rotation: d.rotation.Load()}
	for i, p := range d.pools {
		look.queries[i], look.failed[i] = p.queries.Load(), p.failed.Load()
		// Both are rotated at the same moments: what counts is the last one's
		// step, and anybody's window.
		step, window := p.function.look()
		look.step, look.window = step, look.window || window
	}
	s.samples = append(s.samples, look)
}

// back returns the sample n looks ago.
func (s *scene) back(n int) sample { return s.samples[max(len(s.samples)-1-n, 0)] }

// phase is the step as people say it.
func (s sample) phase() string {
	if s.step == "" {
		return "idle"
	}
	return strings.TrimSuffix(s.step, "Secret")
}

// line is what one second was like.
func (s *scene) line() string {
	now, then := s.back(0), s.back(ticksPerLine)
	window := ""
	for i := range ticksPerLine {
		if s.back(i).window {
			window = "WINDOW"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%3.0fs  rotation %d/%d  %-6s  %-6s", now.at.Seconds(), now.rotation, s.rotations, now.phase(), window)
	for i, name := range s.names {
		fmt.Fprintf(&b, "   %s: %4d queries, %3d failed", name, now.queries[i]-then.queries[i], now.failed[i]-then.failed[i])
	}
	return b.String()
}

// render returns the lines of the live display, none longer than width.
func (s *scene) render(width int, st style) []string {
	now, then := s.back(0), s.back(ticksPerLine)
	head := fmt.Sprintf("%.1f s of about %.0f s   rotation %d/%d   %s",
		now.at.Seconds(), s.total.Seconds(), now.rotation, s.rotations, now.phase())
	var window line
	if now.window {
		window = line{{"WINDOW: the server has the new password, AWSCURRENT is the old one", yellow}}
	}
	lines := []line{{{text: head}}, window, {{text: columns("", "queries", "per s", "failed") + "  failed, over time"}}}
	graph := max(width-len(columns("", "", "", ""))-2, 0)
	failed, windows := s.points(graph)
	top := int64(1)
	for _, points := range failed {
		for _, n := range points {
			top = max(top, n)
		}
	}
	for i, name := range s.names {
		color := green
		if now.failed[i] > 0 {
			color = red
		}
		rate := 0.0
		if took := now.at - then.at; took > 0 {
			rate = float64(now.queries[i]-then.queries[i]) / took.Seconds()
		}
		text := columns(name, fmt.Sprint(now.queries[i]), fmt.Sprintf("%.0f", rate), fmt.Sprint(now.failed[i]))
		numbers := len(text) - len(fmt.Sprint(now.failed[i]))
		lines = append(lines, line{
			{text: text[:numbers]},
			{text[numbers:], color},
			{text: "  "},
			{spark(failed[i], top, st.ascii), color},
		})
	}
	lines = append(lines, line{{text: columns("window", "", "", "") + "  "}, {windows, yellow}})
	var out []string
	for _, l := range lines {
		out = append(out, l.render(width, st.color))
	}
	return out
}

// columns sets one line of the live display.
func columns(name, queries, rate, failed string) string {
	return fmt.Sprintf("%-8s %8s %6s %7s", name, queries, rate, failed)
}

// points sums the samples up for the graphs, the latest of them if there is no
// room for all: failed queries of each pool, and where a window was open.
func (s *scene) points(room int) (failed [][]int64, windows string) {
	failed = make([][]int64, len(s.names))
	all := (len(s.samples) - 1 + ticksPerPoint - 1) / ticksPerPoint
	var marks strings.Builder
	for p := max(all-room, 0); p < all; p++ {
		from, to := p*ticksPerPoint, min((p+1)*ticksPerPoint, len(s.samples)-1)
		for i := range failed {
			failed[i] = append(failed[i], s.samples[to].failed[i]-s.samples[from].failed[i])
		}
		mark := byte(' ')
		for _, look := range s.samples[from+1 : to+1] {
			if look.window {
				mark = 'W'
			}
		}
		marks.WriteByte(mark)
	}
	return failed, marks.String()
}

// spark draws numbers as bars, of which top is the highest. Zero is a dot:
// nothing may look like something.
func spark(points []int64, top int64, ascii bool) string {
	zero, bars := '·', []rune("▁▂▃▄▅▆▇█")
	if ascii {
		zero, bars = '.', []rune("123456789")
	}
	var b strings.Builder
	for _, n := range points {
		if n == 0 {
			b.WriteRune(zero)
			continue
		}
		b.WriteRune(bars[(n*int64(len(bars))-1)/top])
	}
	return b.String()
}

// style is what the terminal can show.
type style struct{ color, ascii bool }

const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// A line is text of several colours.
type line []span

type span struct{ text, color string }

// render cuts the line to the width. All characters used are one column wide.
func (l line) render(width int, color bool) string {
	var b strings.Builder
	for _, s := range l {
		text := []rune(s.text)
		text = text[:min(len(text), max(width, 0))]
		width -= len(text)
		if len(text) == 0 {
			continue
		}
		if color && s.color != "" {
			b.WriteString("\x1b[" + s.color + "m" + string(text) + "\x1b[0m")
		} else {
			b.WriteString(string(text))
		}
	}
	return b.String()
}
