package mysql

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
)

// kind is a kind of [right].
type kind int

const (
	privilege   kind = iota
	restriction      // MySQL's partial revokes: a global privilege, but not here
	role
	proxy
	defaultRole
)

// right is one thing that a user may do. All texts are the server's own, quoted.
type right struct {
	kind   kind
	name   string // SELECT; of a role or a proxied user who it is
	column string // "": not of a column
	on     string // `db`.`table`, PROCEDURE `db`.`p`, *.*; "" for roles and proxies

	// grantable is WITH GRANT OPTION, or WITH ADMIN OPTION of roles, where each
	// right has its own: of roles, of proxies and of MySQL's dynamic privileges.
	// Of the others it is one for all that the user may do in one place; there
	// it is a right of its own, named [grantOption].
	grantable bool
}

const grantOption = "GRANT OPTION"

// String returns the right for the reader of an error or a log.
func (r right) String() string {
	s := r.name
	switch r.kind {
	case privilege, restriction:
		if r.column != "" {
			s += " (" + r.column + ")"
		}
		s += " ON " + r.on
		if r.kind == restriction {
			s = "not " + s
		}
	case role:
		s = "role " + s
	case proxy:
		s = "PROXY ON " + s
	case defaultRole:
		s = "default role " + s
	}
	switch {
	case r.grantable && r.kind == role:
		s += " WITH ADMIN OPTION"
	case r.grantable:
		s += " WITH GRANT OPTION"
	}
	return s
}

// rights are what a user may do.
type rights map[right]bool

var errRow = errors.New("SHOW GRANTS has a row that this version cannot read, and nothing was changed: " +
	"rotate this user with the single-user strategy, and report the kind of privilege that it has")

// add reads a row of SHOW GRANTS. Rows about others, which MariaDB adds, are left
// out.
func (rs rights) add(row string, of account) error {
	r := reader(tokens(row))
	switch {
	case r.take("SET", "DEFAULT", "ROLE"):
		name, ok := r.user()
		if !ok || !r.take("FOR") {
			return errRow
		}
		if who, ok := r.user(); !ok || who != of.String() {
			return errRow
		}
		rs[right{kind: defaultRole, name: name}] = true
		return nil
	case r.take("REVOKE"):
		return rs.addPrivileges(&r, of, restriction, "FROM")
	case !r.take("GRANT"):
		return errRow
	case r.take("PROXY", "ON"):
		return rs.addProxy(&r, of)
	case len(r) > 0 && r[0].quoted:
		return rs.addRoles(&r, of)
	}
	return rs.addPrivileges(&r, of, privilege, "TO")
}

func (rs rights) addProxy(r *reader, of account) error {
	name, ok := r.user()
	if !ok || !r.take("TO") {
		return errRow
	}
	if who, ok := r.user(); ok && who == of.String() {
		rs[right{kind: proxy, name: name, grantable: r.has("GRANT", "OPTION")}] = true
	}
	return nil
}

func (rs rights) addRoles(r *reader, of account) error {
	var names []string
	for {
		name, ok := r.user()
		if !ok {
			return errRow
		}
		names = append(names, name)
		if !r.take(",") {
			break
		}
	}
	if !r.take("TO") {
		return errRow
	}
	if who, ok := r.user(); ok && who == of.String() {
		for _, name := range names {
			rs[right{kind: role, name: name, grantable: r.has("ADMIN", "OPTION")}] = true
		}
	}
	return nil
}

func (rs rights) addPrivileges(r *reader, of account, k kind, preposition string) error {
	var found []right
	for {
		words := r.words()
		if len(words) == 0 {
			return errRow
		}
		one := right{kind: k, name: strings.Join(words, " ")}
		columns, ok := r.columns()
		if !ok {
			return errRow
		}
		for _, one.column = range columns {
			found = append(found, one)
		}
		if !r.take(",") {
			break
		}
	}
	if !r.take("ON") {
		return errRow
	}
	on, ok := r.object()
	if !ok || !r.take(preposition) {
		return errRow
	}
	if who, ok := r.user(); !ok || who != of.String() {
		return nil
	}
	grantable := r.has("GRANT", "OPTION")
	for _, one := range found {
		one.on = on
		one.grantable = grantable && one.dynamic()
		if one.name != "USAGE" {
			rs[one] = true
		}
	}
	if grantable && !found[0].dynamic() {
		rs[right{kind: privilege, name: grantOption, on: on}] = true
	}
	return nil
}

// dynamic reports whether the privilege is one of MySQL's that components bring
// along. They are shown in rows of their own; the others have no underscore.
func (r right) dynamic() bool { return strings.Contains(r.name, "_") }

// user reads `name`@`host`, or `name`, as roles are called in MariaDB.
func (r *reader) user() (string, bool) {
	name := r.next()
	if !name.quoted {
		return "", false
	}
	if !r.take("@") {
		return identifier(name.unquote()), true
	}
	host := r.next()
	return account{name.unquote(), host.unquote()}.String(), host.quoted
}

// columns reads a list in parentheses. Without one it is one column without name.
func (r *reader) columns() ([]string, bool) {
	if !r.take("(") {
		return []string{""}, true
	}
	var names []string
	for {
		t := r.next()
		if !t.quoted {
			return nil, false
		}
		names = append(names, t.text)
		if !r.take(",") {
			break
		}
	}
	return names, r.take(")")
}

// words reads those that come next, up to an ON.
func (r *reader) words() (words []string) {
	for len(*r) > 0 && !(*r)[0].quoted && isWord((*r)[0].text[0]) && (*r)[0].text != "ON" {
		words = append(words, r.next().text)
	}
	return words
}

// object reads where a privilege holds.
func (r *reader) object() (string, bool) {
	prefix := strings.Join(append(r.words(), ""), " ") // PROCEDURE, PACKAGE BODY
	schema := r.next()
	if !r.take(".") {
		return "", false
	}
	name := r.next()
	star := token{text: "*"}
	if !schema.quoted && (schema != star || name != star) || !name.quoted && name != star {
		return "", false
	}
	return prefix + schema.text + "." + name.text, true
}

// settable returns the rights but for default roles that have been revoked:
// MariaDB keeps those, and lets nobody set them.
func (rs rights) settable() rights {
	rs = maps.Clone(rs)
	maps.DeleteFunc(rs, func(r right, _ bool) bool {
		return r.kind == defaultRole && !rs[right{kind: role, name: r.name}] && !rs[right{kind: role, name: r.name, grantable: true}]
	})
	return rs
}

// without returns what is in rs and not in others, in an order that is always the
// same.
func without(rs, others rights) []right {
	var out []right
	for r := range rs {
		if !others[r] {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b right) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.on, b.on), cmp.Compare(a.name, b.name), cmp.Compare(a.column, b.column),
			cmp.Compare(a.String(), b.String()))
	})
	return out
}
