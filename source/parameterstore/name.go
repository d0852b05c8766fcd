package parameterstore

import "strings"

// A parameter is what an ID means.
type parameter struct {
	name     string // or ARN
	selector string // what the ID selects of it: a version or a label
}

// parse takes the selector off an ID. A name has no colon in it, and of an ARN the
// first five are its own.
func parse(id string) parameter {
	var arn string
	if strings.HasPrefix(id, "arn:") {
		parts := strings.SplitN(id, ":", 6)
		arn, id = strings.Join(parts[:len(parts)-1], ":")+":", parts[len(parts)-1]
	}
	name, selector, _ := strings.Cut(id, ":")
	return parameter{arn + name, selector}
}

// region returns the Region of an ARN, and nothing for a name.
func (p parameter) region() string {
	if parts := strings.SplitN(p.name, ":", 5); parts[0] == "arn" && len(parts) == 5 {
		return parts[3]
	}
	return ""
}

// isLabel reports whether a parameter can have that label. What it cannot have could
// be a version, or the end of another selector. The rules are those of
// LabelParameterVersion in the AWS Systems Manager API Reference.
func isLabel(label string) bool {
	lower := strings.ToLower(label)
	if label == "" || len(label) > 100 || '0' <= label[0] && label[0] <= '9' ||
		strings.HasPrefix(lower, "aws") || strings.HasPrefix(lower, "ssm") {
		return false
	}
	return strings.Trim(lower, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}
