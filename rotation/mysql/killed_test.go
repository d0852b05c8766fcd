package mysql_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// life is that of a process: it ends at the n-th tick, and nothing that the
// process would still do happens after that.
type life struct {
	mu    sync.Mutex // protects following
	left  int        // 0: lives for ever
	dead  bool
	conns []net.Conn
	last  string // what the process was about to do, or had just done
}

var errKilled = errors.New("killed")

func (l *life) tick(what string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left > 0 {
		l.last = what
		if l.left--; l.left == 0 {
			l.dead = true
			for _, c := range l.conns { // as the kernel does
				_ = c.Close()
			}
			l.conns = nil
		}
	}
	if l.dead {
		return errKilled
	}
	return nil
}

func (l *life) begin(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.dead = n, false
}

// over reports whether it has ended, and where.
func (l *life) over() (bool, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead, l.last
}

// dial opens a connection on which each statement is a moment to die before, and
// one to die after. What is sent before the first one, the login, changes nothing.
func (l *life) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if dead, _ := l.over(); dead {
		return nil, errKilled
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return &mortalConn{conn, l}, nil
}

type mortalConn struct {
	net.Conn

	life *life
}

func (c *mortalConn) Write(b []byte) (int, error) {
	const query = 3 // COM_QUERY, after the header of the packet
	if len(b) < 5 || b[3] != 0 || b[4] != query {
		if dead, _ := c.life.over(); dead {
			return 0, errKilled
		}
		return c.Conn.Write(b)
	}
	what := string(b[5:min(len(b), 50)])
	if err := c.life.tick("before " + what); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil || strings.HasPrefix(what, "SELECT ") || strings.HasPrefix(what, "SHOW ") {
		return n, err // after a question is as good as before the next statement
	}
	return n, c.life.tick("after " + what)
}

// mortal is a client that dies before the calls that change something, and
// after their effect. Package rotation's own tests do so at all of them.
type mortal struct {
	*secretsmanager.Client

	life *life
}

func (m mortal) PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error) {
	if err := m.life.tick("before PutSecretValue"); err != nil {
		return nil, err
	}
	out, err := m.Client.PutSecretValue(ctx, in, opts...)
	return out, errors.Join(err, m.life.tick("after PutSecretValue"))
}

func (m mortal) UpdateSecretVersionStage(ctx context.Context, in *secretsmanager.UpdateSecretVersionStageInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
	if err := m.life.tick("before UpdateSecretVersionStage"); err != nil {
		return nil, err
	}
	out, err := m.Client.UpdateSecretVersionStage(ctx, in, opts...)
	return out, errors.Join(err, m.life.tick("after UpdateSecretVersionStage"))
}

func (m mortal) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	if err := m.life.tick("before GetSecretValue"); err != nil {
		return nil, err
	}
	return m.Client.GetSecretValue(ctx, in, opts...)
}

// killed rotates with a process that dies at the n-th moment of some steps, which
// are those up to the last one, and then with one that lives. It reports whether
// there is such a moment.
func (f *fixture) killed(n int, first, last int) bool {
	f.t.Helper()
	l := &life{}
	opts := f.options()
	opts.DialFunc = l.dial
	h := rotation.NewHandler(mortal{f.client, l}, mysql.NewTarget(opts), nil)
	before := f.version("AWSCURRENT")
	rights := f.grants(before.Username)
	token := f.begin()
	if err := run(f.t.Context(), h, token, steps[:first]...); err != nil {
		f.t.Fatal(err)
	}
	l.begin(n)
	err := run(f.t.Context(), h, token, steps[first:last+1]...)
	dead, at := l.over()
	if !dead {
		if err != nil {
			f.t.Fatal(err)
		}
		return false
	}
	l.begin(0)
	current, pending := f.version("AWSCURRENT"), f.version("AWSPENDING")
	switch works := f.logsIn(current); {
	case !works && f.keepsOld():
		f.t.Fatalf("killed at %d, %s: AWSCURRENT does not log in", n, at)
	case !works && !f.logsIn(pending):
		f.t.Fatalf("killed at %d, %s: neither AWSCURRENT nor AWSPENDING logs in", n, at)
	}
	if now := f.grants(before.Username); !slices.Equal(now, rights) {
		f.t.Fatalf("killed at %d, %s: the user's rights have changed from\n\t%s\nto\n\t%s", n, at, strings.Join(rights, "\n\t"), strings.Join(now, "\n\t"))
	}
	if err := run(f.t.Context(), h, token, steps...); err != nil {
		f.t.Fatalf("killed at %d, %s: %v", n, at, err)
	}
	f.checkRotated(before)
	if f.t.Failed() {
		f.t.Fatalf("killed at %d, %s", n, at)
	}
	if now := f.grants(f.version("AWSCURRENT").Username); !slices.Equal(now, rights) {
		f.t.Fatalf("killed at %d, %s: the rights have changed from\n\t%s\nto\n\t%s", n, at, strings.Join(rights, "\n\t"), strings.Join(now, "\n\t"))
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
		n := 1
		for ; f.killed(n, 0, len(steps)-1); n++ {
			if w.strategy == mysql.AlternatingUsers {
				f.toggle(n%2 == 1)
			}
		}
		if n < 20 {
			t.Errorf("a rotation has but %d moments to be killed at", n)
		}
		t.Logf("killed at %d moments", n-1)
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
		if n < 40 {
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
