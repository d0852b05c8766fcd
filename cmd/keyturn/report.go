package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A report is all that was found. Its JSON is documented at the package.
type report struct {
	Secret   string    `json:"secret"`
	Region   string    `json:"region"`
	Time     time.Time `json:"time"`
	Status   Status    `json:"status"`
	Findings []Finding `json:"findings"`
}

func (r report) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

const (
	defaultWidth = 100
	minWidth     = 60
	indent       = 19 // of the details
)

// table writes a row per finding: status, check, detail, wrapped to width columns.
// Commands are never wrapped, so that they can be copied.
func (r report) table(w io.Writer, width int) error {
	if width <= 0 {
		width = defaultWidth
	}
	width = max(width, minWidth) - indent
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s, %s\n\n", r.Secret, r.Region, date(r.Time))
	for _, f := range r.Findings {
		shout := string(f.Status)
		if f.Status == Problem || f.Status == Unknown {
			shout = strings.ToUpper(shout)
		}
		text := f.Detail
		if f.Server != "" {
			text = f.Server + ": " + text
		}
		if f.Version != "" {
			text += " [" + f.Version + "]"
		}
		head := fmt.Sprintf("%-8s %-9s ", shout, f.Check)
		for _, line := range wrap(text, width) {
			b.WriteString(head + line + "\n")
			head = strings.Repeat(" ", indent)
		}
		for text := range strings.SplitSeq(f.Fix, "\n") {
			switch {
			case text == "":
			case strings.HasPrefix(text, "  "):
				b.WriteString(strings.Repeat(" ", indent) + text + "\n")
			default:
				arrow := "-> "
				for _, line := range wrap(text, width-3) {
					b.WriteString(strings.Repeat(" ", indent) + arrow + line + "\n")
					arrow = "   "
				}
			}
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.verdict())
	// A secret, or a server, may have said something that a terminal obeys.
	_, err := io.WriteString(w, strings.Map(func(c rune) rune {
		if c != '\n' && !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, b.String()))
	return err
}

func (r report) verdict() string {
	count := make(map[Status]int)
	for _, f := range r.Findings {
		count[f.Status]++
	}
	switch {
	case count[Problem] == 1:
		return "1 problem"
	case count[Problem] > 1:
		return fmt.Sprintf("%d problems", count[Problem])
	case count[Unknown] > 0:
		return "no problem found, but not all could be checked"
	default:
		return "healthy"
	}
}

// wrap breaks a text at its spaces into lines of at most width columns. A longer word
// has a line of its own.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
