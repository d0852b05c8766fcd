package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// The chart's size, in its own units. It scales.
const (
	chartWidth  = 920
	panelHeight = 230
	left, right = 70, 40
	headroom    = 60 // above a panel, for its title and the names of the lines
)

// A panel shows some of the runs over a part of the day.
type panel struct {
	title    string
	from, to time.Duration
	step     time.Duration // of which each point is the highest second
	tick     time.Duration
	most     int // the top of the scale, in calls a second
	label    func(time.Duration) string
}

// chart draws the runs as an SVG that follows the reader's choice of light or dark.
func chart(runs []*run) []byte {
	if len(runs) == 0 {
		return nil
	}
	p := runs[0].plan
	panels := []panel{
		{"The day: highest second of each 5 minutes (cut off above)", 0, p.day, 5 * time.Minute, 2 * time.Hour, 24_000, func(d time.Duration) string { return fmt.Sprintf("%.0f h", d.Hours()) }},
		{"From the deploy that restarts all within 10 s: highest of each 5 s", p.restart, p.restart + 30*time.Minute, 5 * time.Second, 5 * time.Minute, 24_000, func(d time.Duration) string { return fmt.Sprintf("+%.0f min", d.Minutes()) }},
		{"The same, an hour later", p.restart + time.Hour, p.restart + 90*time.Minute, 5 * time.Second, 5 * time.Minute, 6000, func(d time.Duration) string { return fmt.Sprintf("+%.0f min", (d + time.Hour).Minutes()) }},
	}
	var b bytes.Buffer
	height := len(panels) * (panelHeight + headroom + 40)
	_, _ = fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Calls a second of a fleet of 10,000 processes over a day">
<style>
  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #24292f; } .small { font-size: 11px; fill: #57606a; } .title { font-weight: 600; }
  .grid { stroke: #d8dee4; } .quota { stroke: #cf222e; stroke-dasharray: 6 4; } .quotatext { fill: #cf222e; font-size: 11px; }
  path { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
  .l0 { stroke: #0969da; } .l1 { stroke: #bc4c00; } .l2 { stroke: #1a7f37; } .l3 { stroke: #8250df; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #e6edf3; } .small { fill: #9198a1; } .grid { stroke: #30363d; } .quota { stroke: #ff7b72; } .quotatext { fill: #ff7b72; }
    .l0 { stroke: #58a6ff; } .l1 { stroke: #ffa657; } .l2 { stroke: #56d364; } .l3 { stroke: #d2a8ff; }
  }
</style>
`, chartWidth, height)
	for i, pan := range panels {
		pan.draw(&b, runs, i*(panelHeight+headroom+40)+headroom)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw writes the panel, its upper edge at top.
func (pan panel) draw(b *bytes.Buffer, runs []*run, top int) {
	width := chartWidth - left - right
	x := func(d time.Duration) float64 { return left + float64(width)*float64(d)/float64(pan.to-pan.from) }
	y := func(calls int) float64 {
		return float64(top+panelHeight) - float64(panelHeight)*float64(min(calls, pan.most))/float64(pan.most)
	}
	_, _ = fmt.Fprintf(b, `<text class="title" x="%d" y="%d">%s</text>`+"\n", left, top-34, pan.title)
	for i := range 5 {
		calls := pan.most * i / 4
		_, _ = fmt.Fprintf(b, `<line class="grid" x1="%d" x2="%d" y1="%.0f" y2="%.0f"/><text class="small" x="%d" y="%.0f" text-anchor="end">%d</text>`+"\n",
			left, chartWidth-right, y(calls), y(calls), left-8, y(calls)+4, calls)
	}
	for at := time.Duration(0); at <= pan.to-pan.from; at += pan.tick {
		_, _ = fmt.Fprintf(b, `<text class="small" x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", x(at), top+panelHeight+18, pan.label(at))
	}
	for i, r := range runs {
		at := left + i*width/len(runs)
		_, _ = fmt.Fprintf(b, `<path class="l%d" d="M%d %dh18"/><text class="small" x="%d" y="%d">%s</text>`+"\n", i, at, top-16, at+24, top-12, r.variant.name)
		var d strings.Builder
		for n, calls := range r.reads().between(pan.from, pan.to).peaks(int(pan.step / time.Second)) {
			_, _ = fmt.Fprintf(&d, "L%.1f %.1f", x(time.Duration(n)*pan.step), y(int(calls)*r.plan.weight))
		}
		_, _ = fmt.Fprintf(b, `<path class="l%d" d="M%s"/>`+"\n", i, strings.TrimPrefix(d.String(), "L"))
	}
	if pan.most > readQuota {
		_, _ = fmt.Fprintf(b, `<line class="quota" x1="%d" x2="%d" y1="%.0f" y2="%.0f"/><text class="quotatext" x="%d" y="%.0f" text-anchor="end">quota: 10,000 a second</text>`+"\n",
			left, chartWidth-right, y(readQuota), y(readQuota), chartWidth-right, y(readQuota)-5)
	}
}
