package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/rotation"
)

// maxRoundsOfChange bounds how often the rights are read, changed and read again. One or
// two are usual, as many as there are kinds of change the most that is known.
const maxRoundsOfChange = 12

// converge gives an account the attributes and the rights of another, no less and
// no more, and returns what it granted and revoked.
//
// It does not revoke all and grant anew, as is tempting: connections of the
// account from before the last rotation may still be at work. So it asks for the
// difference, makes one kind of change, and asks again: servers have their own
// ideas of what a statement implies.
func (s *session) converge(ctx context.Context, to, from account, mark right) (granted, revoked []right, err error) {
	want, err := s.profile(ctx, from, mark)
	if err != nil {
		return nil, nil, err
	}
	for range maxRoundsOfChange {
		is, err := s.profile(ctx, to, mark)
		if err != nil {
			return nil, nil, err
		}
		if is.attributes != want.attributes {
			if err := s.exec(ctx, "ALTER USER "+to.String()+" "+want.attributes.options(s.server)); err != nil {
				return nil, nil, err
			}
		}
		missing, extra, err := s.differences(ctx, want, is)
		if err != nil {
			return nil, nil, err
		}
		statements, grant, revoke := s.changes(to, want.rights.settable(), missing, extra)
		if len(statements) == 0 && is.attributes == want.attributes {
			return granted, revoked, nil
		}
		for _, statement := range statements {
			if err := s.exec(ctx, statement); err != nil {
				return nil, nil, err
			}
		}
		granted, revoked = append(granted, grant...), append(revoked, revoke...)
	}
	return nil, nil, rotation.Problem(rotation.ReasonPrivileges, "give both users the same rights by hand, and repeat the rotation",
		fmt.Errorf("the rights of %s do not become those of %s in %d rounds", to, from, maxRoundsOfChange))
}

// differences returns what the second profile lacks of the first and what it has
// besides, but for rights on what is no more, as servers keep them.
func (s *session) differences(ctx context.Context, want, is *profile) (missing, extra []right, err error) {
	rights := want.rights.settable()
	missing, extra = without(rights, is.rights), without(is.rights, rights)
	for _, list := range []*[]right{&missing, &extra} {
		var gone []right
		for _, r := range *list {
			is, err := s.gone(ctx, r)
			if err != nil {
				return nil, nil, err
			}
			if is {
				gone = append(gone, r)
			}
		}
		*list = slices.DeleteFunc(*list, func(r right) bool { return slices.Contains(gone, r) })
	}
	return missing, extra, nil
}

// gone reports whether the table, the column or the routine of a right is no more.
// Nobody can be given a right on it.
func (s *session) gone(ctx context.Context, r right) (bool, error) {
	if r.kind != privilege || strings.HasSuffix(r.on, ".*") {
		return false, nil
	}
	if r.on[0] != '`' { // PROCEDURE `db`.`p`
		_, err := s.column(ctx, "SHOW CREATE "+r.on)
		return number(err) == noSuchRoutine, ctx.Err()
	}
	columns, err := s.column(ctx, "SHOW COLUMNS FROM "+r.on)
	switch n := number(err); {
	case n == noSuchTable || n == noSuchDatabase:
		return true, nil
	case err != nil || r.column == "":
		return false, ctx.Err() // what is wrong with it, GRANT will say
	}
	return !slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(identifier(c), r.column) }), nil
}

// changes returns the statements of the first kind of change that there is to be
// made, and what they grant and revoke.
func (s *session) changes(to account, want rights, missing, extra []right) (statements []string, granted, revoked []right) {
	grant := slices.DeleteFunc(slices.Clone(missing), func(r right) bool {
		return r.kind == restriction || r.kind == defaultRole || slices.ContainsFunc(extra, r.coveredBy)
	})
	if len(grant) > 0 {
		return s.grants(to, grant), grant, nil
	}
	revoke := slices.DeleteFunc(slices.Clone(extra), func(r right) bool { return r.kind == restriction || r.kind == defaultRole })
	if len(revoke) > 0 {
		return s.revokes(to, revoke), nil, revoke
	}
	for _, r := range missing {
		if r.kind == restriction {
			statements, revoked = append(statements, "REVOKE "+r.name+" ON "+r.on+" FROM "+to.String()), append(revoked, r)
		}
	}
	for _, r := range extra {
		if r.kind == restriction {
			statements, granted = append(statements, "GRANT "+r.name+" ON "+r.on+" TO "+to.String()), append(granted, r)
		}
	}
	if len(statements) > 0 || len(missing)+len(extra) == 0 {
		return statements, granted, revoked
	}
	return []string{s.setDefaultRoles(to, want)}, missing, extra
}

// coveredBy reports whether the right is part of another, so that granting it
// would change nothing before the other is revoked.
func (r right) coveredBy(other right) bool {
	if other == (right{kind: privilege, name: "ALL PRIVILEGES", on: r.on}) {
		return r.kind == privilege && r.name != grantOption
	}
	r.grantable = true
	return r == other
}

// grants returns one statement for all privileges in one place, and one for each
// right that is not of that kind.
func (s *session) grants(to account, rs []right) (statements []string) {
	for _, group := range grouped(rs) {
		switch r := group[0]; {
		case r.kind == role:
			statements = append(statements, "GRANT "+r.name+" TO "+to.String()+with("ADMIN OPTION", r.grantable))
		case r.kind == proxy:
			statements = append(statements, "GRANT PROXY ON "+r.name+" TO "+to.String()+with("GRANT OPTION", r.grantable))
		case r.name == grantOption:
			statements = append(statements, "GRANT USAGE ON "+r.on+" TO "+to.String()+with("GRANT OPTION", true))
		default:
			statements = append(statements, "GRANT "+list(group)+" ON "+r.on+" TO "+to.String()+with("GRANT OPTION", r.grantable))
		}
	}
	return statements
}

func (s *session) revokes(from account, rs []right) (statements []string) {
	for _, group := range grouped(rs) {
		switch r := group[0]; r.kind {
		case role:
			statements = append(statements, "REVOKE "+r.name+" FROM "+from.String())
		case proxy:
			statements = append(statements, "REVOKE PROXY ON "+r.name+" FROM "+from.String())
		default:
			statements = append(statements, "REVOKE "+list(group)+" ON "+r.on+" FROM "+from.String())
		}
	}
	return statements
}

func with(option string, granted bool) string {
	if !granted {
		return ""
	}
	return " WITH " + option
}

// grouped puts rights together that go into one statement. They come sorted by
// where they hold.
func grouped(rs []right) (groups [][]right) {
	for _, r := range rs {
		if n := len(groups); n > 0 && r.joins(groups[n-1][0]) {
			groups[n-1] = append(groups[n-1], r)
			continue
		}
		groups = append(groups, []right{r})
	}
	return groups
}

func (r right) joins(other right) bool {
	return r.kind == privilege && other.kind == privilege && r.on == other.on && r.grantable == other.grantable &&
		r.name != grantOption && other.name != grantOption &&
		r.name != "ALL PRIVILEGES" && other.name != "ALL PRIVILEGES"
}

// list returns privileges as GRANT takes them.
func list(group []right) string {
	var b strings.Builder
	for i, r := range group {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(r.name)
		if r.column != "" {
			b.WriteString(" (" + r.column + ")")
		}
	}
	return b.String()
}

func (s *session) setDefaultRoles(of account, rs rights) string {
	var names []string
	for r := range rs {
		if r.kind == defaultRole {
			names = append(names, r.name)
		}
	}
	slices.Sort(names)
	preposition := " TO "
	if s.server.mariadb {
		preposition = " FOR "
	}
	return "SET DEFAULT ROLE " + or(strings.Join(names, ", "), "NONE") + preposition + of.String()
}
