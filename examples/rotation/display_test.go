package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// sceneOf is a run of some seconds with one window, in which the first pool
// fails.
func sceneOf(seconds int) scene {
	s := scene{names: []string{"plain", "Keyturn"}, total: 15 * time.Second, rotations: 5}
	var look sample
	for i := range seconds*ticksPerLine + 1 {
		look.at = time.Duration(i) * tick
		look.window = i >= 8 && i < 12
		look.rotation, look.step = 0, ""
		if i >= 8 {
			look.rotation, look.step = 1, "testSecret"
		}
		if look.window {
			look.failed[0] += int64(i)
		}
		look.queries[0] += 100
		look.queries[1] += 200
		s.samples = append(s.samples, look)
	}
	return s
}

func TestRender(t *testing.T) {
	s := sceneOf(4)
	want := []string{
		"4.0 s of about 15 s   rotation 1/5   test",
		"",
		"          queries  per s  failed  failed, over time",
		"plain        1700    400      38  ···▄█▅··",
		"Keyturn      3400    800       0  ········",
		"window                               WWW",
	}
	got := s.render(79, style{})
	for i := range got {
		got[i] = strings.TrimRight(got[i], " ")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("render:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	s.samples = s.samples[:11]
	if got := s.render(79, style{})[1]; !strings.HasPrefix(got, "WINDOW: ") {
		t.Errorf("in the window the second line is %q", got)
	}
}

func TestRenderNarrow(t *testing.T) {
	for width := range 100 {
		for _, seconds := range []int{0, 1, 60} {
			s := sceneOf(seconds)
			for _, line := range s.render(width, style{}) {
				if n := utf8.RuneCountInString(line); n > width {
					t.Fatalf("at width %d a line has %d characters: %q", width, n, line)
				}
			}
		}
	}
}

func TestRenderStyles(t *testing.T) {
	s := sceneOf(4)
	plain := strings.Join(s.render(79, style{ascii: true}), "\n")
	for _, r := range plain {
		if r > 126 || r == '\x1b' {
			t.Errorf("without colour and UTF-8 there is a %q", r)
		}
	}
	colored := strings.Join(s.render(79, style{ascii: true, color: true}), "\n")
	for _, code := range []string{red, green, yellow, "0"} {
		if !strings.Contains(colored, "\x1b["+code+"m") {
			t.Errorf("with colour there is no %q", code)
		}
		colored = strings.ReplaceAll(colored, "\x1b["+code+"m", "")
	}
	if colored != plain {
		t.Errorf("colours change the text:\n%s\n%s", colored, plain)
	}
}

func TestSpark(t *testing.T) {
	if got, want := spark([]int64{0, 1, 100, 50}, 100, false), "·▁█▄"; got != want {
		t.Errorf("spark = %q, want %q", got, want)
	}
}

func TestDrawInPlace(t *testing.T) {
	var out bytes.Buffer
	width, height := 80, 24
	v := &display{out: &out, size: func() (int, int) { return width, height }}
	draw := func() string {
		out.Reset()
		v.draw(sceneOf(2))
		return out.String()
	}
	if got := draw(); strings.Contains(got, "A") && strings.HasPrefix(got, "\r\x1b[") {
		t.Errorf("the first drawing goes up: %q", got)
	}
	if got := draw(); !strings.HasPrefix(got, "\r\x1b[6A") {
		t.Errorf("the second drawing does not go up by 6 lines: %q", got)
	}
	width = 30
	if got := draw(); !strings.HasPrefix(got, "\x1b[H\x1b[2J") {
		t.Errorf("after a change of the width it does not begin anew: %q", got)
	}
	height = 4
	if got := strings.Count(draw(), "\n"); got != 3 {
		t.Errorf("on 4 lines it draws %d", got)
	}
}
