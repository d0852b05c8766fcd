package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// versionFindings says which versions have which labels, and how old they are.
func versionFindings(s *snapshot, now time.Time) []Finding {
	var found []Finding
	var told []*secretVersion
	for _, label := range stages {
		v := s.labelled[label]
		if v == nil || slices.Contains(told, v) {
			continue
		}
		told = append(told, v)
		found = append(found, Finding{Check: checkVersion, Status: OK, Version: v.id, Detail: strings.Join(s.labelsOf(v), " ") + ": " + v.age(now)})
	}
	if s.described != nil && !s.deleted() && s.labelled[cache.Current] == nil {
		found = append(found, Finding{
			Check: checkVersion, Status: Problem, Detail: "no version is AWSCURRENT: the secret never got a value",
			Fix: "put a first value into it",
		})
	}
	if n := len(s.other); n > 0 {
		found = append(found, Finding{Check: checkVersion, Status: OK, Detail: fmt.Sprintf("without a label: %d, the newest %s", n, s.other[0].age(now))})
	}
	return found
}

func (s *snapshot) labelsOf(v *secretVersion) []string {
	var labels []string
	for _, label := range stages {
		if s.labelled[label] == v {
			labels = append(labels, label)
		}
	}
	return labels
}

func (v *secretVersion) age(now time.Time) string {
	if v.created.IsZero() {
		return "age not known"
	}
	return fmt.Sprintf("%s old, of %s", period(now.Sub(v.created)), date(v.created))
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// period prints a time in the largest unit that there are two of.
func period(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}
