package mysql_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/mysql"
)

// newReplica starts a server that replicates another.
func newReplica(t *testing.T, of *mysqlserver.Server) *mysqlserver.Server {
	t.Helper()
	replica, err := mysqlserver.Start(t.Context(), &mysqlserver.Options{
		Kind: of.Kind(), Settings: map[string]string{"server_id": "2", "read_only": "ON"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := replica.Stop(); err != nil {
			t.Error(err)
		}
	})
	user := newName("replicator")
	admin(t, of, "CREATE USER ?@'%' IDENTIFIED BY 'replicator'", user)
	admin(t, of, "GRANT REPLICATION SLAVE ON *.* TO ?@'%'", user)
	where := "SHOW BINARY LOG STATUS"
	if of.Kind() == mysqlserver.MariaDB {
		where = "SHOW MASTER STATUS"
	}
	var file, position string
	rows, err := of.Admin().QueryContext(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values := []any{&file, &position}
	for range columns[2:] {
		values = append(values, new(any))
	}
	if !rows.Next() {
		t.Fatal("the server has no binary log")
	}
	if err := rows.Scan(values...); err != nil {
		t.Fatal(err)
	}
	statement := fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='%s', SOURCE_PASSWORD='replicator', "+
		"SOURCE_LOG_FILE='%s', SOURCE_LOG_POS=%s, GET_SOURCE_PUBLIC_KEY=1, SOURCE_SSL=0", of.Host(), of.Port(), user, file, position)
	if of.Kind() == mysqlserver.MariaDB {
		statement = strings.NewReplacer("REPLICATION SOURCE", "MASTER", "SOURCE_", "MASTER_", ", GET_SOURCE_PUBLIC_KEY=1, SOURCE_SSL=0", "").Replace(statement)
	}
	admin(t, replica, statement)
	admin(t, replica, "START REPLICA")
	return replica
}

// follow waits until the rights of a user have come over.
func follow(t *testing.T, replica *mysqlserver.Server, user string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; n == 0; {
		err := replica.Admin().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM mysql.db WHERE user = ?", user).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

func TestReplicas(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		t.Parallel()
		replica := newReplica(t, srv)
		for _, w := range ways {
			t.Run(w.name, func(t *testing.T) {
				f := newFixture(t, srv, w, "", "first")
				follow(t, replica, f.user)
				testReplica(t, f, replica)
			})
			if w.strategy == mysql.SingleUser {
				continue
			}
			t.Run(w.name+", secret of the replica", func(t *testing.T) {
				f := newFixture(t, srv, w, "", "first")
				follow(t, replica, f.user)
				testSecretOfReplica(t, f, replica)
			})
		}
	})
}

// testReplica: a promotion waits for a replica that lags behind; one that does not
// follow fails it, and applications go on with AWSCURRENT.
func testReplica(t *testing.T, f *fixture, replica *mysqlserver.Server) {
	at := net.JoinHostPort(replica.Host(), strconv.Itoa(replica.Port()))
	opts := f.options()
	opts.Replicas = []string{at}
	target := &paused{Target: mysql.NewTarget(opts)}
	if err := f.rotate(rotation.NewHandler(f.client, target, nil)); err != nil {
		t.Fatal(err)
	}

	// It has stopped.
	h := rotation.NewHandler(f.client, target, &rotation.Options{ReplicaWait: 200 * time.Millisecond})
	before := f.version("AWSCURRENT")
	admin(t, replica, "STOP REPLICA SQL_THREAD")
	token := f.begin()
	err := run(t.Context(), h, token, steps...)
	e, ok := errors.AsType[*rotation.Error](err)
	if !ok || e.Reason != rotation.ReasonReplica || !strings.Contains(err.Error(), at) {
		t.Errorf("Handle, the replica having stopped = %v, want an error that names %s", err, at)
	}
	if f.version("AWSCURRENT") != before {
		t.Error("AWSCURRENT has moved")
	}
	if f.keepsOld() && !f.logsIn(before) {
		t.Error("the server refuses AWSCURRENT")
	}

	// It goes on while testSecret waits for it.
	h = rotation.NewHandler(f.client, target, nil)
	target.then(func() { admin(t, replica, "START REPLICA SQL_THREAD") })
	if err := run(t.Context(), h, token, steps...); err != nil {
		t.Fatal(err)
	}
	f.checkRotated(before)
	if target.lagged != nil {
		t.Error("the replica was not tested")
	}
}

// paused calls a function when the replica has been seen to lag behind.
type paused struct {
	*mysql.Target

	lagged func()
}

func (p *paused) then(f func()) { p.lagged = f }

func (p *paused) TestAt(ctx context.Context, v *rotation.Value, at rotation.Node) error {
	err := p.Target.TestAt(ctx, v, at)
	if errors.Is(err, rotation.ErrRefused) && p.lagged != nil {
		p.lagged()
		p.lagged = nil
	}
	return err
}

// testSecretOfReplica: the secret is that of applications that log in to the
// replica alone; the superuser changes the password where it can be changed.
func testSecretOfReplica(t *testing.T, f *fixture, replica *mysqlserver.Server) {
	f.Put(secretName, secret(replica, f.user, "first", nil))
	h := f.handler(nil)
	for range 3 {
		before := f.version("AWSCURRENT")
		if err := f.rotate(h); err != nil {
			t.Fatal(err)
		}
		f.checkRotated(before)
	}
	// Without one it is said that it is a replica.
	token := f.begin()
	err := run(t.Context(), f.handler(&mysql.Options{}), token, steps...)
	e, ok := errors.AsType[*rotation.Error](err)
	if !ok || e.Reason != rotation.ReasonServer || !strings.Contains(e.Remedy, "the host that takes writes") {
		t.Errorf("Handle on a replica = %v, want an error that says so", err)
	}
}

// A name that resolves to several addresses is all of them.
func TestReplicaNames(t *testing.T) {
	var dialled []string
	target := mysql.NewTarget(&mysql.Options{
		Replicas: []string{"reader.example.com", "[::1]:3307", "db2:3308"},
		LookupHost: func(_ context.Context, host string) ([]string, error) {
			if host == "reader.example.com" {
				return []string{"192.0.2.1", "2001:db8::1"}, nil
			}
			return []string{host}, nil
		},
		DialFunc: func(_ context.Context, _, addr string) (net.Conn, error) {
			dialled = append(dialled, addr)
			return nil, errors.New("not today")
		},
	})
	v := rotation.NewValue(`{"host":"db","port":3310,"username":"app","password":"x","replicas":["db3"]}`)
	nodes, err := target.Replicas(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	want := []rotation.Node{
		{Name: "db3:3310", Addr: "db3:3310"},
		{Name: "reader.example.com:3310", Addr: "192.0.2.1:3310"},
		{Name: "reader.example.com:3310", Addr: "[2001:db8::1]:3310"},
		{Name: "[::1]:3307", Addr: "[::1]:3307"},
		{Name: "db2:3308", Addr: "db2:3308"},
	}
	if !slices.Equal(nodes, want) {
		t.Errorf("Replicas = %+v, want %+v", nodes, want)
	}
	for _, n := range nodes {
		err := target.TestAt(t.Context(), v, n)
		if err == nil || errors.Is(err, rotation.ErrRefused) || !strings.Contains(err.Error(), n.Name) {
			t.Errorf("TestAt(%v) = %v, want an error that names it", n, err)
		}
		if dialled[len(dialled)-1] != n.Addr {
			t.Errorf("TestAt(%v) dialled %s", n, dialled[len(dialled)-1])
		}
	}
	for _, name := range []string{"nobody", "db:0", "db:port"} {
		if err := target.TestAt(t.Context(), v, rotation.Node{Name: name}); err == nil {
			t.Errorf("TestAt(%q) gave no error", name)
		}
	}
}
