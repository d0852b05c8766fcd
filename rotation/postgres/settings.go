package postgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// setting is one that ALTER ROLE .. [IN DATABASE ..] SET makes.
type setting struct{ database, name string } // database "": in all of them

func compareSettings(a, b setting) int {
	return cmp.Or(cmp.Compare(a.database, b.database), cmp.Compare(a.name, b.name))
}

// settings makes those of the clone the base's, and its sessions act as the base.
// If the base's act as a third role, so do the clone's.
func (c *comparison) settings(ctx context.Context) error {
	want, err := c.readSettings(ctx, c.base)
	if err != nil {
		return err
	}
	have, err := c.readSettings(ctx, c.clone)
	if err != nil {
		return err
	}
	if _, ok := want[setting{name: "role"}]; !ok {
		want[setting{name: "role"}] = c.base.name
	}
	for _, s := range slices.SortedFunc(maps.Keys(want), compareSettings) {
		value, ok := have[s]
		if expression := s.expression(want[s]); !ok || s.expression(value) != expression {
			c.add("%s SET %s TO %s", c.alter(s), s.ident(), expression)
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(have), compareSettings) {
		if _, ok := want[s]; !ok {
			c.add("%s RESET %s", c.alter(s), s.ident())
		}
	}
	return nil
}

func (c *comparison) alter(s setting) string {
	if s.database == "" {
		return "ALTER ROLE " + ident(c.clone.name)
	}
	return "ALTER ROLE " + ident(c.clone.name) + " IN DATABASE " + ident(s.database)
}

func (c *comparison) readSettings(ctx context.Context, of *role) (map[setting]string, error) {
	rows, err := c.q.Query(ctx, `
		SELECT coalesce(d.datname::text, ''), unnest(s.setconfig)
		FROM pg_db_role_setting s
		LEFT JOIN pg_database d ON d.oid = s.setdatabase
		WHERE s.setrole = $1`, of.oid)
	if err != nil {
		return nil, err
	}
	settings := map[setting]string{}
	var database, assignment string
	_, err = pgx.ForEachRow(rows, []any{&database, &assignment}, func() error {
		name, value, _ := strings.Cut(assignment, "=")
		settings[setting{database, name}] = value
		return nil
	})
	return settings, err
}

// ident quotes the name, which may have dots: "myapp"."tenant".
func (s setting) ident() string { return pgx.Identifier(strings.Split(s.name, ".")).Sanitize() }

// lists are the settings whose value the server keeps as a list of quoted names
// (GUC_LIST_QUOTE): written as one string they would be a list of one.
var lists = []string{
	"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
	"temp_tablespaces", "unix_socket_directories",
}

// expression is the value as SET takes it.
func (s setting) expression(value string) string {
	if !slices.Contains(lists, strings.ToLower(s.name)) {
		return literal(value)
	}
	var elements []string
	for _, e := range splitList(value) {
		elements = append(elements, literal(e))
	}
	return strings.Join(elements, ", ")
}

// splitList takes a list of names apart, some of which are quoted. There is
// always one, if only an empty one.
func splitList(list string) []string {
	var names []string
	for rest := list; ; {
		rest = strings.TrimSpace(rest)
		name := ""
		if strings.HasPrefix(rest, `"`) {
			for rest = rest[1:]; ; rest = rest[1:] {
				part, after, closed := strings.Cut(rest, `"`)
				name += part
				rest = after
				if !closed || !strings.HasPrefix(rest, `"`) {
					break
				}
				name += `"` // two of them are one
			}
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			name, rest, _ = strings.Cut(rest, ",")
			name = strings.TrimSpace(name)
		}
		names = append(names, name)
		if rest == "" {
			return names
		}
	}
}
