package mysql

import "strings"

// account is a user as the servers know it: by name and by where it logs in from.
type account struct{ user, host string }

// String returns the account as a statement takes it. In backticks only backticks
// are special, in every sql_mode.
func (a account) String() string { return identifier(a.user) + "@" + identifier(a.host) }

func identifier(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// literal returns a string for a [session], which has NO_BACKSLASH_ESCAPES: there
// the quote is the one character to be escaped.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
