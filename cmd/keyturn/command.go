package main

import (
	"regexp"
	"strings"
)

// commands makes the lines of a fix that are to be pasted into a shell: for the
// same secret, Region and profile as the check.
type commands struct {
	secret string
	common []string // flags that every command of the AWS CLI gets
	own    []string // flags of keyturn
}

func newCommands(s settings, region string) commands {
	c := commands{secret: s.secret}
	add := func(flag, value string) {
		if value != "" {
			c.common = append(c.common, "--"+flag, value)
			c.own = append(c.own, "-"+flag, value)
		}
	}
	add("region", region)
	add("profile", s.profile)
	add("endpoint-url", s.endpoint)
	return c
}

func (c commands) aws(service, operation string, args ...string) string {
	words := append([]string{"aws", service, operation}, args...)
	return line(append(words, c.common...))
}

func (c commands) secretsmanager(operation string, args ...string) string {
	return c.aws("secretsmanager", operation, append([]string{"--secret-id", c.secret}, args...)...)
}

// rotate repeats the rotation that is incomplete, or starts one.
func (c commands) rotate() string { return c.secretsmanager("rotate-secret") }

// promote makes a version AWSCURRENT; AWSPREVIOUS follows by itself.
func (c commands) promote(to, from string) string {
	return c.secretsmanager("update-secret-version-stage", "--version-stage", stageCurrent, "--move-to-version-id", to, "--remove-from-version-id", from)
}

// giveUp takes AWSPENDING off a version.
func (c commands) giveUp(version string) string {
	return c.secretsmanager("update-secret-version-stage", "--version-stage", stagePending, "--remove-from-version-id", version)
}

// login is this program's own check, with logins.
func (c commands) login() string {
	return line(append(append([]string{"keyturn", "check", "-login"}, c.own...), c.secret))
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./!-]+$`)

// line quotes for a POSIX shell. An exclamation mark, which is in the name of every
// managed secret, is harmless in single quotes alone.
func line(words []string) string {
	for i, word := range words {
		if !plainWord.MatchString(word) || strings.Contains(word, "!") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return "  " + strings.Join(words, " ")
}
