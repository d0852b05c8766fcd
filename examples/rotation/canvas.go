package main

import (
	"encoding/xml"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
)

// A canvas is a picture being drawn.
type canvas struct {
	strings.Builder
	timeline

	details   bool
	top       float64 // of the bars' scale; it begins at zero
	low, high float64 // of the latency's scale, which is logarithmic, in seconds
}

func (c *canvas) printf(format string, args ...any) {
	fmt.Fprintf(&c.Builder, format, args...)
}

// x is where a time is.
func (c *canvas) x(t time.Duration) float64 {
	return plotLeft + (plotRight-plotLeft)*float64(t)/float64(max(c.took, 1))
}

// element writes an element with text in it.
func (c *canvas) element(name, attributes, text string) {
	c.printf("<%s %s>", name, attributes)
	_ = xml.EscapeText(c, []byte(text)) // a Builder does not fail
	c.printf("</%s>\n", name)
}

func (c *canvas) text(class string, x, y float64, text string) {
	c.element("text", fmt.Sprintf(`class="%s" x="%s" y="%s"`, class, number(x), number(y)), text)
}

// noted is text with more behind it, for which there is no room on a phone.
func (c *canvas) noted(class string, x, y float64, text, note string) {
	c.printf(`<text class="%s" x="%s" y="%s" xml:space="preserve">`, class, number(x), number(y))
	_ = xml.EscapeText(c, []byte(text))
	c.WriteString(`<tspan class="note muted minor">`)
	_ = xml.EscapeText(c, []byte(note))
	c.WriteString("</tspan></text>\n")
}

func (c *canvas) rect(class string, left, right, top, bottom float64) {
	c.printf(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`+"\n",
		class, number(left), number(top), number(right-left), number(bottom-top))
}

// titled is a rect with something to say about it.
func (c *canvas) titled(class string, left, right, top, bottom float64, text string) {
	if !c.details {
		c.rect(class, left, right, top, bottom)
		return
	}
	c.WriteString("<g>")
	c.element("title", "", text)
	c.rect(class, left, right, top, bottom)
	c.WriteString("</g>\n")
}

func (c *canvas) line(class string, left, right, y float64) {
	c.printf(`<path class="%s" d="M%s %sH%s"/>`+"\n", class, number(left), number(y), number(right))
}

// step returns a round number for the ticks of a scale up to top: there are two
// to five of them.
func step(top float64) float64 {
	ten := math.Pow(10, math.Floor(math.Log10(top)))
	switch part := top / ten; {
	case part < 2:
		return ten / 2
	case part < 5:
		return ten
	}
	return ten * 2
}

// ceiling returns the top of a scale for numbers up to most, with some room.
func ceiling(most int64) float64 {
	top := max(float64(most), 1) * 1.05
	return math.Ceil(top/step(top)) * step(top)
}

// bounds returns the ends of a scale in seconds that has all latencies on it:
// each is a one, a two or a five.
func bounds(pools ...[]slot) (low, high float64) {
	least, most := time.Duration(math.MaxInt64), time.Duration(0)
	for _, slots := range pools {
		for _, s := range slots {
			if s.answered() > 0 {
				least, most = min(least, s.p50), max(most, s.most)
			}
		}
	}
	if most == 0 {
		return 0.01, 1
	}
	low, high = 1e-6, 1e-5
	for part := range steps(low) {
		if part <= least.Seconds() {
			low = part
		}
		if high = part; part >= most.Seconds() && part >= 10*low {
			break
		}
	}
	return low, high
}

// steps returns 1, 2, 5, 10, 20 ... times the first, without end.
func steps(first float64) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		for ten := first; yield(ten) && yield(2*ten) && yield(5*ten); ten *= 10 {
		}
	}
}

// short is a duration as people write it, with a space: 100 ms.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return number(d.Seconds()) + " s"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// number is short: a tenth of a pixel is not seen.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}
