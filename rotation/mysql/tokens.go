package mysql

import "strings"

// token is a word, a quoted string or a single character of what a server writes.
type token struct {
	text   string // as it is there
	quoted bool
}

// tokens takes a row of SHOW GRANTS or SHOW CREATE USER apart. In strings of
// single quotes backslashes escape, in backticks they do not; both double quotes
// of their own kind.
func tokens(s string) []token {
	var out []token
	for s != "" {
		n := 1
		quoted := false
		switch c := s[0]; {
		case c == ' ':
			s = s[1:]
			continue
		case c == '`' || c == '\'' || c == '"':
			n, quoted = quotedLength(s), true
		case isWord(c):
			for n < len(s) && isWord(s[n]) {
				n++
			}
		}
		out = append(out, token{s[:n], quoted})
		s = s[n:]
	}
	return out
}

// quotedLength returns where the quoted string that s begins with ends.
func quotedLength(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && s[0] != '`':
			i++
		case s[i] != s[0]:
		case i+1 < len(s) && s[i+1] == s[0]:
			i++
		default:
			return i + 1
		}
	}
	return len(s)
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// reader reads tokens in order.
type reader []token

// next returns the next token, of the empty text at the end.
func (r *reader) next() token {
	if len(*r) == 0 {
		return token{}
	}
	t := (*r)[0]
	*r = (*r)[1:]
	return t
}

// take reads the words if they come next, and reports whether they did.
func (r *reader) take(words ...string) bool {
	if len(*r) < len(words) {
		return false
	}
	for i, w := range words {
		if t := (*r)[i]; t.quoted || t.text != w {
			return false
		}
	}
	*r = (*r)[len(words):]
	return true
}

// has reports whether the words are anywhere in what is left.
func (r *reader) has(words ...string) bool {
	for rest := *r; len(rest) > 0; rest = rest[1:] {
		if rest.take(words...) {
			return true
		}
	}
	return false
}

// unquote returns what a quoted token stands for.
func (t token) unquote() string {
	if !t.quoted || len(t.text) < 2 {
		return t.text
	}
	quote := t.text[:1]
	s := strings.ReplaceAll(t.text[1:len(t.text)-1], quote+quote, quote)
	if quote == "`" {
		return s
	}
	return unescape(s)
}

// unescape undoes backslashes, for the strings that come here: verifiers.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
