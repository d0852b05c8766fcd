package mysql_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/killtest"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// leavesNothing reports whether a message to the server is of the login, or a
// question: to die before or after it is to die at the statement before.
func leavesNothing(message []byte) bool {
	const query = 3 // COM_QUERY, after the header of the packet
	if len(message) < 5 || message[3] != 0 || message[4] != query {
		return true
	}
	statement := string(message[5:])
	return strings.HasPrefix(statement, "SHOW ") ||
		strings.HasPrefix(statement, "SELECT ") && !strings.HasPrefix(statement, "SELECT GET_LOCK(")
}

// killed rotates with a process that dies at the n-th moment of some steps, which
// are those up to the last one, and then with one that lives. It reports whether
// there is such a moment.
func (f *fixture) killed(n int, first, last int) bool {
	f.t.Helper()
	l := &killtest.Life{Ignore: leavesNothing}
	opts := f.options()
	opts.DialFunc = l.Dial
	h := rotation.NewHandler(killtest.Client{API: f.client, Life: l}, mysql.NewTarget(opts), nil)
	before := f.version("AWSCURRENT")
	rights := f.grants(before.Username)
	token := f.begin()
	if err := run(f.t.Context(), h, token, steps[:first]...); err != nil {
		f.t.Fatal(err)
	}
	l.Begin(n)
	err := run(f.t.Context(), h, token, steps[first:last+1]...)
	if !l.Over() {
		if err != nil {
			f.t.Fatal(err)
		}
		return false
	}
	l.Begin(0)
	current, pending := f.version("AWSCURRENT"), f.version("AWSPENDING")
	switch works := f.logsIn(current); {
	case !works && f.keepsOld():
		f.t.Fatalf("killed at %d: AWSCURRENT does not log in", n)
	case !works && !f.logsIn(pending):
		f.t.Fatalf("killed at %d: neither AWSCURRENT nor AWSPENDING logs in", n)
	}
	if now := f.grants(before.Username); !slices.Equal(now, rights) {
		f.t.Fatalf("killed at %d: the user's rights have changed from\n\t%s\nto\n\t%s", n, strings.Join(rights, "\n\t"), strings.Join(now, "\n\t"))
	}
	if err := run(f.t.Context(), h, token, steps...); err != nil {
		f.t.Fatalf("killed at %d: %v", n, err)
	}
	f.checkRotated(before)
	if f.t.Failed() {
		f.t.Fatalf("killed at %d", n)
	}
	if now := f.grants(f.version("AWSCURRENT").Username); !slices.Equal(now, rights) {
		f.t.Fatalf("killed at %d: the rights have changed from\n\t%s\nto\n\t%s", n, strings.Join(rights, "\n\t"), strings.Join(now, "\n\t"))
	}
	return true
}

// All steps and all statements: wherever the process dies, AWSCURRENT logs in, or
// AWSPENDING where the server has no room for both, and repeating the rotation
// completes it, with the rights that there were.
func TestKilled(t *testing.T) {
	eachWay(t, func(t *testing.T, srv *mysqlserver.Server, w way) {
		t.Parallel()
		f := newFixture(t, srv, w, "", "first")
		n, one := 1, false
		for more := true; more; n++ {
			more = f.killed(n, 0, len(steps)-1)
			if w.strategy != mysql.AlternatingUsers {
				continue
			}
			// Each moment for either user, and with other rights to be changed.
			one = !one
			f.toggle(one)
			more = f.killed(n, 0, len(steps)-1) || more
			if n%2 == 1 {
				one = !one
				f.toggle(one)
			}
		}
		if n < 40 {
			t.Errorf("a rotation has but %d moments to be killed at", n)
		}
		t.Logf("killed at %d moments", n-2)
	})
}

// The same, in the setSecret that makes the partner.
func TestKilledFirst(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		n := 1
		for ; ; n++ {
			f := newFixture(t, srv, way{strategy: mysql.AlternatingUsers, bare: true}, "", "first")
			f.toggle(true)
			if !f.killed(n, 1, 1) {
				break
			}
		}
		if n < 25 {
			t.Errorf("a rotation has but %d moments to be killed at", n)
		}
		t.Logf("killed at %d moments", n-1)
	})
}

// toggle gives the user of AWSCURRENT other rights than it had before, so that
// the next rotation has some to grant and some to revoke.
func (f *fixture) toggle(one bool) {
	f.t.Helper()
	user := f.version("AWSCURRENT").Username
	id := "`" + f.database() + "`"
	toRole := f.user + " role"
	f.admin("CREATE ROLE IF NOT EXISTS ?", toRole)
	if f.server.Kind() == mysqlserver.MariaDB {
		f.admin("GRANT `"+toRole+"` TO ?@'%' WITH ADMIN OPTION", f.super)
	}
	if one {
		f.admin("GRANT UPDATE ON "+id+".* TO ?@'%' WITH GRANT OPTION", user)
		f.admin("GRANT SELECT (a, b), INSERT (b) ON "+id+".t TO ?@'%'", user)
		f.admin("GRANT `"+toRole+"` TO ?@'%'", user)
		f.setDefaultRole(toRole, user)
		f.admin("ALTER USER ?@'%' WITH MAX_USER_CONNECTIONS 40", user)
		return
	}
	f.admin("REVOKE UPDATE, GRANT OPTION ON "+id+".* FROM ?@'%'", user)
	f.admin("REVOKE SELECT (a), INSERT (b) ON "+id+".t FROM ?@'%'", user)
	f.admin("GRANT UPDATE (b) ON "+id+".t TO ?@'%'", user)
	f.setDefaultRole("", user)
	f.admin("REVOKE `"+toRole+"` FROM ?@'%'", user)
	f.admin("ALTER USER ?@'%' WITH MAX_USER_CONNECTIONS 0", user)
}

func (f *fixture) setDefaultRole(role, user string) {
	f.t.Helper()
	if role = "`" + role + "`"; role == "``" {
		role = "NONE"
	}
	preposition := "TO"
	if f.server.Kind() == mysqlserver.MariaDB {
		preposition = "FOR"
	}
	f.admin("SET DEFAULT ROLE "+role+" "+preposition+" ?@'%'", user)
}
