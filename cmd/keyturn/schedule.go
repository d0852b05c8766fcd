package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// overdue is how long after its window a rotation counts as missed. NextRotationDate
// is the window's end already.
const overdue = time.Hour

// rotationFindings says when the secret is rotated, and by what.
func rotationFindings(s *snapshot, cmd commands, now time.Time) []Finding {
	if s.described == nil || s.deleted() {
		return nil
	}
	d := s.described
	found := Finding{Check: checkRotation, Status: OK}
	last := "never rotated yet"
	if d.LastRotatedDate != nil {
		last = fmt.Sprintf("last rotated %s ago, %s", period(now.Sub(*d.LastRotatedDate)), date(*d.LastRotatedDate))
	}
	switch {
	case s.primaryRegion() != s.region:
		found.Status, found.Detail = Note, "in "+s.primaryRegion()+", and copied from there"
		return []Finding{found}
	case d.RotationEnabled == nil:
		found.Status, found.Detail = Note, "never configured; "+last
		return []Finding{found}
	case !*d.RotationEnabled:
		found.Status, found.Detail = Note, "switched off; "+last
		if s.pending() != nil {
			found.Status, found.Detail = Problem, "switched off, in the midst of a rotation; "+last
			found.Fix = "switch it on, which repeats that rotation\n" + cmd.rotate()
		}
		return []Finding{found}
	}
	parts := []string{}
	if r := d.RotationRules; r != nil {
		switch {
		case aws.ToString(r.ScheduleExpression) != "":
			parts = append(parts, *r.ScheduleExpression)
		case aws.ToInt64(r.AutomaticallyAfterDays) > 0:
			parts = append(parts, fmt.Sprintf("every %d days", *r.AutomaticallyAfterDays))
		}
		if window := aws.ToString(r.Duration); window != "" {
			parts = append(parts, "within "+window)
		}
	}
	if function := aws.ToString(d.RotationLambdaARN); function != "" {
		parts = append(parts, "by "+function)
	}
	parts = append(parts, last)
	if next := d.NextRotationDate; next != nil {
		if late := now.Sub(*next); late > overdue {
			found.Status = Problem
			parts = append(parts, fmt.Sprintf("was due until %s, %s ago", date(*next), period(late)))
			found.Fix = "see why it did not start, or failed" + functionLog(s, cmd) + "\nand start it\n" + cmd.rotate()
		} else {
			parts = append(parts, "next until "+date(*next))
		}
	}
	found.Detail = strings.Join(parts, "; ")
	return []Finding{found}
}

// functionLog returns the command that shows what the rotation function has to say.
func functionLog(s *snapshot, cmd commands) string {
	if s.described == nil {
		return ""
	}
	_, name, ok := strings.Cut(aws.ToString(s.described.RotationLambdaARN), ":function:")
	if !ok {
		return ""
	}
	name, _, _ = strings.Cut(name, ":")
	return "\n" + cmd.aws("logs", "tail", "/aws/lambda/"+name, "--since", "1d")
}
