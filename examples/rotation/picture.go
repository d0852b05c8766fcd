package main

import (
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Where things are in the picture. Its unit is a pixel if it is shown at its
// full width.
const (
	pictureWidth  = 880
	pictureHeight = 610

	plotLeft, plotRight = 62, 716
	totalsLeft          = 732

	rotationsBase           = 92 // the base line of the numbers of the rotations
	phasesTop, phasesHeight = 100, 15
	barsHeight              = 104
	latencyGap              = 9 // between the bars and the latency below them
	latencyHeight           = 44
	plainTop, keyturnTop    = 152, 350 // of the bars
	plotBottom              = keyturnTop + barsHeight + latencyGap + latencyHeight
)

// pictureStyle has no variables, which programs other than browsers do not
// know. It is scoped to the picture, as it applies to all of the page that the
// picture is in. The last part is for phones: there a unit is less than half a
// pixel, so the letters that matter grow and the others go.
//
//go:embed picture.css
var pictureStyle string

// picture draws the run as SVG. With details there are titles that a browser
// shows where the pointer is.
func (r report) picture(details bool) string {
	c := &canvas{timeline: r.timeline, details: details}
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" class="kt" viewBox="0 0 %d %d" role="img" aria-labelledby="kt-title kt-desc">`+"\n",
		pictureWidth, pictureHeight)
	c.element("title", `id="kt-title"`, r.headline())
	c.element("desc", `id="kt-desc"`, r.description())
	c.WriteString("<style>\n" + pictureStyle + "</style>\n")
	c.printf(`<rect class="card" x=".5" y=".5" width="%d" height="%d" rx="8"/>`+"\n", pictureWidth-1, pictureHeight-1)
	c.text("title", 20, 35, r.headline())
	c.noted("muted", 20, 60, r.occasion(), fmt.Sprintf(": the queries of two pools of %s, every %s",
		plural(int64(r.workers), "worker", "workers"), short(r.timeline.slot)))
	c.rotations()
	c.top = ceiling(max(r.plain.peak(), r.keyturn.peak()))
	c.low, c.high = bounds(r.plain.slots, r.keyturn.slots)
	c.pool(r.plain, plainTop, "the password from a cache with a TTL of "+r.plainTTL.String())
	c.pool(r.keyturn, keyturnTop, "the password through this library")
	c.time()
	c.legend()
	c.WriteString("</svg>\n")
	return c.String()
}

// headline says what there is to be seen.
func (r report) headline() string {
	with := "none"
	if r.keyturn.failed > 0 {
		with = strconv.FormatInt(r.keyturn.failed, 10)
	}
	return fmt.Sprintf("%s failed without Keyturn, %s with it", plural(r.plain.failed, "query", "queries"), with)
}

// occasion says when that was.
func (r report) occasion() string {
	return plural(int64(r.rotated), "rotation", "rotations") + " of a database password under load"
}

func plural(n int64, one, many string) string {
	switch n {
	case 0:
		return "no " + one
	case 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// description is for who cannot see the picture.
func (r report) description() string {
	return fmt.Sprintf("Two pools of %d workers on one PostgreSQL server, over %s. Bars count the queries that ended in each %v. "+
		"Of the plain pool, whose password is in a cache with a TTL, %d of %d queries failed; of the Keyturn pool %d of %d. "+
		"Bands are the windows between setSecret and finishSecret. Below the bars is the time to an answer, from the median to the slowest.",
		r.workers, seconds(r.timeline.took), r.timeline.slot,
		r.plain.failed, r.plain.queries, r.keyturn.failed, r.keyturn.queries)
}

// rotations draws what both pools share: the windows as bands behind all, and
// the phases as a strip.
func (c *canvas) rotations() {
	for _, w := range c.windows {
		c.titled("window", c.x(w.from), c.x(w.to), phasesTop, plotBottom,
			fmt.Sprintf("Window, %s: the server has the new password, AWSCURRENT is the old one", millis(w.lasted())))
	}
	c.text("tick minor end", plotLeft-8, phasesTop+12, "phase")
	c.rect("grid", plotLeft, plotRight, phasesTop, phasesTop+phasesHeight)
	n, free := 0, 0.0
	for _, p := range c.phases {
		left, right := c.x(p.from), c.x(p.to)
		c.titled(p.name, left, right, phasesTop, phasesTop+phasesHeight, p.name+", "+millis(p.lasted()))
		if p.name == "wait" && right-left > 32 {
			c.text("inside minor middle", (left+right)/2, phasesTop+12, "wait")
		}
		if p.name != "create" {
			continue
		}
		n++
		if left >= free {
			word := "" // where there is room, also on a phone
			if n > 1 {
				word = ` class="minor"`
			}
			c.printf(`<text class="tick" x="%s" y="%d"><tspan%s>rotation </tspan>%d</text>`+"\n", number(left), rotationsBase, word, n)
			free = left + 90
		}
	}
}

// pool draws the queries of a pool, and the time they took below.
func (c *canvas) pool(r result, top float64, what string) {
	bottom := top + barsHeight
	c.noted("name", plotLeft, top-12, r.name, "  "+what)
	bar := func(n int64) float64 { return barsHeight * float64(n) / c.top }
	for n := step(c.top); n <= c.top; n += step(c.top) {
		y := bottom - barsHeight*n/c.top
		c.line("grid", plotLeft, plotRight, y)
		c.text("tick end", plotLeft-8, y+4.5, number(n))
	}
	gap := min((c.x(c.slot)-c.x(0))*0.15, 1)
	for i, s := range r.slots {
		left, right := c.edges(i)
		if s.failed > 0 {
			c.rect("failed", left, right-gap, bottom-bar(s.failed), bottom)
		}
		if s.answered() > 0 {
			c.rect("ok", left, right-gap, bottom-bar(s.queries), bottom-bar(s.failed))
		}
	}
	c.line("axis", plotLeft, plotRight, bottom)
	c.latency(r.slots, bottom+latencyGap)
	c.failures(r.slots, func(n int64) float64 { return bottom - bar(n) })
	c.totals(r, top)
	if !c.details {
		return
	}
	for i, s := range r.slots {
		left, right := c.edges(i)
		c.titled("hit", left, right, top, bottom+latencyGap+latencyHeight, c.describe(i, s))
	}
}

// edges returns where a slot begins and ends.
func (c *canvas) edges(i int) (left, right float64) {
	return c.x(time.Duration(i) * c.slot), c.x(min(time.Duration(i+1)*c.slot, c.took))
}

// describe is what a slot says under the pointer.
func (c *canvas) describe(i int, s slot) string {
	text := fmt.Sprintf("%s: %d queries, %d failed", seconds(time.Duration(i)*c.slot), s.queries, s.failed)
	if c.inWindow(i) {
		text += ", window"
	}
	if s.answered() > 0 {
		text += fmt.Sprintf("\nanswered within p50 %s, p99 %s, max %s", millis(s.p50), millis(s.p99), millis(s.most))
	}
	return text
}

// latency draws the time from the median to the slowest answer. Where no query
// was answered there is nothing to draw.
func (c *canvas) latency(slots []slot, top float64) {
	y := func(seconds float64) float64 {
		part := math.Log(seconds/c.low) / math.Log(c.high/c.low)
		return top + latencyHeight*(1-min(max(part, 0), 1))
	}
	for tick := math.Pow(10, math.Ceil(math.Log10(c.low*0.999))); tick <= c.high*1.001; tick *= 10 {
		c.line("grid", plotLeft, plotRight, y(tick))
		c.text("tick minor end", plotLeft-8, y(tick)+4.5, short(time.Duration(math.Round(tick*1e9))))
	}
	var spread, median strings.Builder
	joined := false
	for i, s := range slots {
		if s.answered() == 0 {
			joined = false
			continue
		}
		left, right := c.edges(i)
		middle, most := y(s.p50.Seconds()), y(s.most.Seconds())
		fmt.Fprintf(&spread, "M%s %sV%sH%sV%sz", number(left), number(middle), number(most), number(right), number(middle))
		if !joined {
			fmt.Fprintf(&median, "M%s %s", number(left), number(middle))
		}
		fmt.Fprintf(&median, "V%sH%s", number(middle), number(right))
		joined = true
	}
	c.printf(`<path class="spread" d="%s"/>`+"\n", spread.String())
	c.printf(`<path class="median" d="%s"/>`+"\n", median.String())
}

// failures writes how many queries failed where some did.
func (c *canvas) failures(slots []slot, y func(int64) float64) {
	const apart = 500 * time.Millisecond // of two that are told from each other
	free := 0.0
	for i := 0; i < len(slots); i++ {
		if slots[i].failed == 0 {
			continue
		}
		last, sum, most := i, int64(0), int64(0)
		for j := i; j < len(slots) && time.Duration(j-last)*c.slot <= max(apart, c.slot); j++ {
			if slots[j].failed > 0 {
				last = j
				sum += slots[j].failed
				most = max(most, slots[j].failed)
			}
		}
		left, _ := c.edges(i)
		_, right := c.edges(last)
		if middle := (left + right) / 2; middle-20 >= free {
			c.text("count bad halo middle", middle, y(most)-20, strconv.FormatInt(sum, 10))
			c.text("tick bad halo minor middle", middle, y(most)-6, "failed")
			free = middle + 20
		}
		i = last
	}
}

// totals writes the numbers of the whole run beside a pool's plots.
func (c *canvas) totals(r result, top float64) {
	class := "total"
	if r.failed > 0 {
		class += " bad"
	}
	if r.failed > 99999 {
		class += " long"
	}
	c.text(class, totalsLeft, top+34, strconv.FormatInt(r.failed, 10))
	c.text("muted", totalsLeft, top+60, "failed")
	c.noted("muted", totalsLeft, top+82, fmt.Sprintf("of %d", r.queries), " queries")
	if r.answered.answered() == 0 {
		return
	}
	below := top + barsHeight + latencyGap
	c.text("tick minor", totalsLeft, below+12, "p50 "+millis(r.answered.p50))
	c.text("tick minor", totalsLeft, below+28, "p99 "+millis(r.answered.p99))
	c.text("tick minor", totalsLeft, below+44, "max "+millis(r.answered.most))
}

// time draws the axis of time.
func (c *canvas) time() {
	c.line("axis", plotLeft, plotRight, plotBottom)
	width := step(max(c.took.Seconds(), 1e-3) * 0.45)
	for n := 0.0; n <= c.took.Seconds(); n += width {
		x := c.x(time.Duration(n * float64(time.Second)))
		c.printf(`<path class="axis" d="M%s %dv5"/>`+"\n", number(x), plotBottom)
		c.text("tick middle", x, plotBottom+20, number(n)+" s")
	}
}

// legend says what the colours are: on a phone, those of its first line alone.
func (c *canvas) legend() {
	const first, second = pictureHeight - 46, pictureHeight - 21
	x := float64(plotLeft)
	entry := func(class, text, note string, width float64) {
		c.rect(class, x, x+14, first-11, first+2)
		c.noted("legend", x+20, first, text, note)
		x += width
	}
	entry("ok", "answered", "", 160)
	entry("failed", "failed", "", 128)
	entry("window", "window", ": the server has the new password, AWSCURRENT is the old one", 0)

	c.WriteString(`<g class="minor">` + "\n")
	x = plotLeft
	for _, name := range []string{"create", "set", "test", "wait", "finish"} {
		c.rect(name, x, x+46, second-12, second+3)
		class := "inside middle"
		if name == "set" || name == "finish" {
			class += " onset"
		}
		c.text(class, x+23, second, name)
		x += 46
	}
	c.text("legend", x+8, second, "the phases of a rotation")
	x += 214
	c.printf(`<rect class="spread" x="%s" y="%d" width="24" height="12"/>`, number(x), second-10)
	c.line("median", x, x+24, second+2)
	c.text("legend", x+31, second, "time to an answer: median to slowest")
	c.WriteString("</g>\n")
}

// peak is the most queries in a slot.
func (r result) peak() (most int64) {
	for _, s := range r.slots {
		most = max(most, s.queries)
	}
	return most
}
