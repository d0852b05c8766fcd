package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostile is what an error's text could be, if a server meant no good.
const hostile = `"><script>alert('x')</script> & ]]> {{.}} </style> \`

// runOf is a run of some seconds with one window, in which the plain pool fails.
func runOf(took time.Duration) report {
	began := time.Now()
	var plain, keyturn []answer
	for at := time.Duration(0); at < took; at += max(5*time.Millisecond, took/4000) {
		failed := at >= took/4 && at < took/2 && len(plain)%4 > 0
		plain = append(plain, answer{began.Add(at), 12 * time.Millisecond, failed})
		keyturn = append(keyturn, answer{began.Add(at), 9 * time.Millisecond, false})
	}
	r := report{
		planned: 1, rotated: 1, workers: 16, plainTTL: time.Second,
		timeline: timeline{
			took: took, slot: slotWidth(took),
			windows: []period{{"", took / 4, took / 2}},
			phases: []period{
				{"create", took / 5, took * 21 / 100},
				{"set", took * 21 / 100, took / 4},
				{"test", took / 4, took * 26 / 100},
				{"wait", took * 26 / 100, took * 49 / 100},
				{"finish", took * 49 / 100, took / 2},
			},
		},
	}
	result := func(name string, answers []answer) result {
		p := result{name: name, queries: int64(len(answers)), failedLogins: []int{3}, tallies: []tally{{inFlight: 4}}}
		p.slots = slots(answers, began, took, r.timeline.slot)
		p.answered = slots(answers, began, took, took)[0]
		p.failed = p.answered.failed
		return p
	}
	r.plain, r.keyturn = result("plain", plain), result("Keyturn", keyturn)
	r.plain.firstErr = errors.New("nobody is\nlet in " + hostile)
	return r
}

// A drawing is what is to be found in a picture.
type drawing struct {
	rects map[string][]box // by class
	text  string           // of all elements
}

type box struct{ x, y, width, height float64 }

// parsePicture reads a picture as an XML parser sees it.
func parsePicture(t *testing.T, svg string) drawing {
	t.Helper()
	d := drawing{rects: make(map[string][]box)}
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for depth := 0; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if depth++; depth == 1 && token.Name != (xml.Name{Space: "http://www.w3.org/2000/svg", Local: "svg"}) {
				t.Fatalf("the picture is a %v", token.Name)
			}
			if token.Name.Local != "rect" {
				continue
			}
			var b box
			class := ""
			for _, a := range token.Attr {
				value := map[string]*float64{"x": &b.x, "y": &b.y, "width": &b.width, "height": &b.height}[a.Name.Local]
				if a.Name.Local == "class" {
					class = a.Value
				} else if value != nil {
					if *value, err = strconv.ParseFloat(a.Value, 64); err != nil || math.IsNaN(*value) || math.IsInf(*value, 0) {
						t.Fatalf("a rect of class %s has %s=%q", class, a.Name.Local, a.Value)
					}
				}
			}
			d.rects[class] = append(d.rects[class], b)
		case xml.EndElement:
			depth--
			if token.Name.Local != "tspan" {
				d.text += "\n"
			}
		case xml.CharData:
			d.text += string(token)
		}
	}
}

// bars returns the bars of a class; the first swatch of the legend is no bar.
func (d drawing) bars(class string) []box {
	return slices.DeleteFunc(slices.Clone(d.rects[class]), func(b box) bool { return b.y > plotBottom })
}

func TestPicture(t *testing.T) {
	r := runOf(4 * time.Second)
	if len(r.plain.slots) != 40 || r.plain.failed != 150 {
		t.Fatalf("the run has %d slots and %d failed queries", len(r.plain.slots), r.plain.failed)
	}
	svg := r.picture(false)
	d := parsePicture(t, svg)
	// 40 slots a pool, in 10 of which three of four queries of the plain one failed.
	for class, want := range map[string]int{"ok": 40 + 40, "failed": 10, "window": 1, "wait": 1, "hit": 0} {
		if got := len(d.bars(class)); got != want {
			t.Errorf("%d bars of class %q, want %d", got, class, want)
		}
	}
	sum := func(bars []box) (height float64) {
		for _, b := range bars {
			height += b.height
		}
		return height
	}
	if got, want := sum(d.bars("failed"))/sum(d.bars("ok")), float64(r.plain.failed)/float64(r.plain.queries-r.plain.failed+r.keyturn.queries); math.Abs(got-want) > 0.01 {
		t.Errorf("the failed bars are %.3f of the others in height, want %.3f", got, want)
	}
	window := d.rects["window"][0]
	for _, b := range d.bars("failed") {
		if b.x < window.x-0.1 || b.x+b.width > window.x+window.width+0.1 {
			t.Errorf("a failed bar at %+v is not in the window at %+v", b, window)
		}
	}
	for _, want := range []string{"150 queries failed without Keyturn, none with it", "\n150\n\nfailed\n", "of 800 queries", "plain", "Keyturn", "\nrotation 1\n"} {
		if !strings.Contains(d.text, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}

	detailed := parsePicture(t, r.picture(true))
	if got := len(detailed.rects["hit"]); got != 80 {
		t.Errorf("%d slots say something under the pointer, want 80", got)
	}
	if want := "1.0 s: 20 queries, 15 failed, window\n"; !strings.Contains(detailed.text, want) {
		t.Errorf("no slot says %q", want)
	}
	if len(svg) > 60_000 {
		t.Errorf("the picture has %d bytes", len(svg))
	}
}

// However a run was, everything is on the picture.
func TestPictureBounds(t *testing.T) {
	none := report{planned: 1, plain: result{name: "plain", slots: make([]slot, 1)}, keyturn: result{name: "Keyturn", slots: make([]slot, 1)}}
	slow := runOf(4 * time.Second)
	slow.plain.slots[3].most, slow.keyturn.slots[3].p50 = time.Hour, time.Nanosecond
	busy := runOf(4 * time.Second)
	busy.keyturn.slots[5].queries = 1e9
	all := runOf(4 * time.Second)
	for i := range all.plain.slots {
		all.plain.slots[i].failed = all.plain.slots[i].queries
		all.keyturn.slots[i] = all.plain.slots[i]
	}
	many := runOf(10 * time.Minute)
	for i := range 500 {
		at := time.Duration(i) * many.timeline.took / 500
		many.timeline.phases = append(many.timeline.phases, period{"create", at, at + time.Second})
	}
	runs := map[string]report{
		"nothing": none, "slow": slow, "busy": busy, "all failed": all, "many rotations": many,
		"an instant": runOf(time.Millisecond), "a day": runOf(24 * time.Hour),
	}
	for name, r := range runs {
		svg := r.picture(true)
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%s: the picture has a number that is none", name)
		}
		for class, boxes := range parsePicture(t, svg).rects {
			for _, b := range boxes {
				if b.x < 0 || b.y < 0 || b.width < 0 || b.height < 0 || b.x+b.width > pictureWidth || b.y+b.height > pictureHeight {
					t.Errorf("%s: a rect of class %q is at %+v", name, class, b)
				}
			}
		}
		if n := len(r.plain.slots); n > mostSlots {
			t.Errorf("%s: %d slots", name, n)
		}
		if _, err := r.page(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeadline(t *testing.T) {
	tests := []struct {
		plain, keyturn int64
		want           string
	}{
		{5, 0, "5 queries failed without Keyturn, none with it"},
		{1, 2, "1 query failed without Keyturn, 2 with it"},
		{0, 0, "no query failed without Keyturn, none with it"},
	}
	for _, tt := range tests {
		r := report{plain: result{failed: tt.plain}, keyturn: result{failed: tt.keyturn}}
		if got := r.headline(); got != tt.want {
			t.Errorf("headline = %q, want %q", got, tt.want)
		}
	}
}

func TestBounds(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		p50, most time.Duration
		low, high float64
	}{
		{6 * ms, 120 * ms, 0.005, 0.2},
		{5 * ms, 500 * ms, 0.005, 0.5},
		{9 * ms, 9 * ms, 0.005, 0.05}, // no scale is shorter than a decade
	}
	for _, tt := range tests {
		low, high := bounds([]slot{{queries: 1, p50: tt.p50, most: tt.most}, {queries: 1, failed: 1}})
		if math.Abs(low/tt.low-1) > 1e-9 || math.Abs(high/tt.high-1) > 1e-9 {
			t.Errorf("bounds of %v and %v: %v, %v; want %v, %v", tt.p50, tt.most, low, high, tt.low, tt.high)
		}
	}
}

// What the page says is what the terminal says.
func TestPageTotals(t *testing.T) {
	r := runOf(4 * time.Second)
	page := pageOf(t, r)
	for _, row := range r.rows()[1:] {
		found := regexp.MustCompile(`<th scope="row"[^>]*>` + regexp.QuoteMeta(strings.ReplaceAll(row[0], "'", "&#39;")) + `</th><td>([^<]*)</td><td>([^<]*)</td>`).FindStringSubmatch(page)
		if found == nil || found[1] != row[1] || found[2] != row[2] {
			t.Errorf("the page has %q, the report %q", found, row)
		}
	}
	if !strings.Contains(page, r.verdict()) {
		t.Errorf("the page lacks the verdict %q", r.verdict())
	}
	if got, want := strings.Count(page, "<tr><th scope=\"row\">1</th>"), 1; got != want {
		t.Errorf("%d first rotations, want %d", got, want)
	}
	if got, want := strings.Count(page, "<td>window</td>"), 10; got != want {
		t.Errorf("%d slots of the table are in a window, want %d", got, want)
	}
}

func pageOf(t *testing.T, r report) string {
	t.Helper()
	page, err := r.page()
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestHostileText(t *testing.T) {
	r := runOf(time.Second)
	r.plain.name += hostile
	d := parsePicture(t, r.picture(true))
	if !strings.Contains(d.text, hostile) {
		t.Error("the picture lacks the pool's name as it is")
	}
	page := pageOf(t, r)
	for _, bad := range []string{"<script", "</style> ", "'x'"} {
		if strings.Contains(page, bad) {
			t.Errorf("%q has come through", bad)
		}
	}
	if want := "nobody is let in &#34;&gt;&lt;script&gt;alert("; !strings.Contains(page, want) {
		t.Errorf("the page lacks the first error, escaped: %q", want)
	}
}

// reference finds what makes a browser load something.
var reference = regexp.MustCompile(`(?i)https?:|//[a-z]|url\(|@import|\b(src|href|srcset)\s*=|<(script|link|img|iframe|object|embed|image|use|foreignObject)\b`)

func selfContained(t *testing.T, name, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, `xmlns="http://www.w3.org/2000/svg"`, "")
	if found := reference.FindString(text); found != "" {
		t.Errorf("%s refers to something: %q", name, found)
	}
}

func TestSelfContained(t *testing.T) {
	r := runOf(4 * time.Second)
	selfContained(t, "the picture", r.picture(false))
	selfContained(t, "the page", pageOf(t, r))
	readme, err := os.ReadFile("../../docs/demo.svg")
	if err != nil {
		t.Fatal(err)
	}
	selfContained(t, "docs/demo.svg", string(readme))
	if d := parsePicture(t, string(readme)); len(d.bars("ok")) == 0 || len(d.bars("failed")) == 0 {
		t.Error("docs/demo.svg shows nothing")
	}
}

func TestSave(t *testing.T) {
	r := runOf(time.Second)
	dir := t.TempDir()
	s := settings{html: filepath.Join(dir, "page.html"), svg: filepath.Join(dir, "picture.svg")}
	var out strings.Builder
	if err := r.save(s, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), s.html) {
		t.Errorf("%q does not say where the page is", out.String())
	}
	for path, want := range map[string]string{s.html: pageOf(t, r), s.svg: r.picture(false)} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s has %d bytes, want %d (%v)", path, len(got), len(want), err)
		}
	}

	missing := filepath.Join(dir, "missing", "file")
	for _, s := range []settings{{html: missing, svg: filepath.Join(dir, "1")}, {svg: missing, html: filepath.Join(dir, "2")}} {
		err := r.save(s, io.Discard)
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(fmt.Sprint(err), missing) {
			t.Errorf("error %v, want one that names %s", err, missing)
		}
	}
	for _, name := range []string{"1", "2"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("one file that cannot be written keeps the other from it: %v", err)
		}
	}

	out.Reset()
	if err := r.save(settings{}, &out); err != nil || out.Len() > 0 {
		t.Errorf("nothing to save: %v, %q", err, out.String())
	}
}
