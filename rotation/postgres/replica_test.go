package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/internal/pgserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/postgres"
)

// Two replicas stream from the tests' server, once a test wants them.
var (
	startReplicas = sync.OnceValues(func() (replicas [2]*pgserver.Server, err error) {
		for i := range replicas {
			if replicas[i], err = server.Replica(context.Background(), nil); err != nil {
				return replicas, err
			}
			startedReplicas = append(startedReplicas, replicas[i])
		}
		return replicas, nil
	})
	startedReplicas []*pgserver.Server // for TestMain, when all tests are over
)

// cluster is a fixture with replicas behind one name, as a reader endpoint has them.
type cluster struct {
	*fixture

	replicas [2]*pgserver.Server
}

const reader = "reader.example.com"

func newCluster(t *testing.T, strategy postgres.Strategy) (*cluster, postgres.Options) {
	t.Helper()
	replicas, err := startReplicas()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{newPair(t, ""), replicas}
	c.caughtUp(t)
	return c, postgres.Options{
		Strategy: strategy,
		LookupHost: func(_ context.Context, host string) ([]string, error) {
			if host != reader {
				return nil, fmt.Errorf("no such host: %s", host)
			}
			return []string{"192.0.2.1", "192.0.2.2"}, nil
		},
		DialFunc: c.dial,
	}
}

func (c *cluster) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to := addr
	for i, replica := range c.replicas {
		if strings.HasPrefix(addr, fmt.Sprintf("192.0.2.%d:", i+1)) {
			to = net.JoinHostPort(replica.Host(), strconv.Itoa(replica.Port()))
		}
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// named makes the reader endpoint known by the secret.
func (c *cluster) named() *cluster {
	c.Put(secretName, secret(server, c.user, "first", map[string]any{
		"masterarn": masterName, "replicas": []string{reader + ":5432"}, "ssl": false,
	}))
	return c
}

func (c *cluster) caughtUp(t *testing.T) {
	t.Helper()
	lsn := ask[string](t, server, "postgres", "SELECT pg_current_wal_flush_lsn()::text")
	for _, replica := range c.replicas {
		eventually(t, "the replica to catch up", func() bool {
			return ask[bool](t, replica, "postgres", "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)", lsn)
		})
	}
}

func pause(t *testing.T, replica *pgserver.Server) (resume func()) {
	t.Helper()
	admin(t, replica, "postgres", "SELECT pg_wal_replay_pause()")
	eventually(t, "the pause", func() bool {
		return ask[string](t, replica, "postgres", "SELECT pg_get_wal_replay_pause_state()") == "paused"
	})
	resume = sync.OnceFunc(func() {
		cfg := replica.ConnConfig()
		_ = as(t, replica, cfg.Database, cfg.User, cfg.Password, "SELECT pg_wal_replay_resume()")
	})
	t.Cleanup(resume)
	return resume
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(30 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waiting for %s", what)
		}
	}
}

func (c *cluster) failures(t *testing.T, i int, user string) int {
	t.Helper()
	n, err := c.replicas[i].FailedLogins(user)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var strategies = map[string]postgres.Strategy{
	"single user": postgres.SingleUser, "single user by superuser": postgres.SingleUserBySuperuser, "alternating users": postgres.AlternatingUsers,
}

// The promotion waits for a replica that has not replayed yet.
func TestReplicaLags(t *testing.T) {
	for name, strategy := range strategies {
		t.Run(name, func(t *testing.T) {
			c, opts := newCluster(t, strategy)
			h := c.named().handler(&opts)
			token := c.begin()
			if err := run(t.Context(), h, token, steps[0]); err != nil {
				t.Fatal(err)
			}
			pending := c.value("AWSPENDING").Username
			resume := pause(t, c.replicas[1])
			if err := run(t.Context(), h, token, steps[1]); err != nil {
				t.Fatal(err)
			}
			tested := make(chan error, 1)
			go func() { tested <- run(t.Context(), h, token, steps[2]) }()
			eventually(t, "the second login that is refused", func() bool { return c.failures(t, 1, pending) > 1 })
			select {
			case err := <-tested:
				t.Fatalf("testSecret = %v, with a replica that refuses the password", err)
			default:
			}
			resume()
			if err := <-tested; err != nil {
				t.Fatal(err)
			}
			if err := run(t.Context(), h, token, steps[3]); err != nil {
				t.Fatal(err)
			}
			now := c.value("AWSCURRENT")
			for _, srv := range append(c.replicas[:], server) {
				if err := as(t, srv, c.database, now.Username, now.Password, "SELECT 1"); err != nil {
					t.Error(err)
				}
			}
			if n := c.failures(t, 1, pending); n > 12 {
				t.Errorf("%d logins were refused meanwhile", n)
			}
		})
	}
}

// One that never follows fails the rotation by its name, and AWSCURRENT stays.
func TestReplicaNeverFollows(t *testing.T) {
	for name, strategy := range strategies {
		t.Run(name, func(t *testing.T) {
			c, opts := newCluster(t, strategy)
			c.named()
			h := rotation.NewHandler(c.client, postgres.NewTarget(&opts), &rotation.Options{ReplicaWait: 500 * time.Millisecond})
			token := c.begin()
			before := c.value("AWSCURRENT")
			resume := pause(t, c.replicas[0])
			for range 2 { // as the service repeats it
				err := run(t.Context(), h, token, steps...)
				e, ok := errors.AsType[*rotation.Error](err)
				if !ok || e.Reason != rotation.ReasonReplica || e.Step != steps[2] ||
					!strings.Contains(err.Error(), reader+":5432 (192.0.2.1:5432)") || strings.Contains(err.Error(), "192.0.2.2") {
					t.Fatalf("run = %v, want an error of testSecret that names the replica, and that one alone", err)
				}
			}
			// finishSecret does not believe anybody.
			if err := run(t.Context(), h, token, steps[3]); err == nil {
				t.Error("finishSecret promotes")
			}
			if c.value("AWSCURRENT") != before {
				t.Error("AWSCURRENT has changed")
			}
			// Applications: the writer takes AWSPENDING if not AWSCURRENT, the replica AWSCURRENT.
			pending := c.value("AWSPENDING")
			if as(t, server, c.database, before.Username, before.Password) != nil && as(t, server, c.database, pending.Username, pending.Password) != nil {
				t.Error("no version logs in to the writer")
			}
			if err := as(t, c.replicas[0], c.database, before.Username, before.Password); err != nil {
				t.Errorf("AWSCURRENT does not log in to the replica: %v", err)
			}
			// Out of the list, the rotation goes on.
			edited, err := rotation.NewValue(c.text("AWSCURRENT")).With("replicas", "")
			if err != nil {
				t.Fatal(err)
			}
			c.Put(secretName, strings.Replace(edited.Text(), `"replicas":""`, `"replicas":[]`, 1))
			if err := run(t.Context(), h, token, steps...); err != nil {
				t.Error(err)
			}
			resume()
		})
	}
}

// One that is down is found out before anything is changed.
func TestReplicaDown(t *testing.T) {
	for name, strategy := range strategies {
		t.Run(name, func(t *testing.T) {
			f := newPair(t, "")
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			h := f.handler(&postgres.Options{Strategy: strategy, Replicas: []string{l.Addr().String()}})
			err = run(t.Context(), h, f.begin(), steps...)
			e, ok := errors.AsType[*rotation.Error](err)
			if !ok || e.Reason != rotation.ReasonReplica || e.Step != steps[1] || !strings.Contains(err.Error(), l.Addr().String()) {
				t.Errorf("run = %v, want an error of setSecret that names the replica", err)
			}
			if err := f.as("AWSCURRENT"); err != nil {
				t.Errorf("AWSCURRENT does not log in any more: %v", err)
			}
			if err := f.as("AWSPENDING"); err == nil {
				t.Error("AWSPENDING was set")
			}
		})
	}
}

// The function has not the time that it may wait.
func TestReplicaDeadline(t *testing.T) {
	c, opts := newCluster(t, postgres.SingleUser)
	h := c.named().handler(&opts)
	token := c.begin()
	resume := pause(t, c.replicas[0])
	defer resume()
	if err := run(t.Context(), h, token, steps[:2]...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := run(ctx, h, token, steps[2])
	if e, ok := errors.AsType[*rotation.Error](err); !ok || e.Reason != rotation.ReasonReplica || ctx.Err() != nil {
		t.Errorf("run = %v (%v), want the replica's error before the end", err, ctx.Err())
	}
}

// The secret of a program that only reads names a replica, and the superuser's the
// writer.
func TestSecretOfReplica(t *testing.T) {
	for _, strategy := range []postgres.Strategy{postgres.SingleUserBySuperuser, postgres.AlternatingUsers} {
		t.Run(fmt.Sprint(strategy), func(t *testing.T) {
			c, _ := newCluster(t, strategy)
			replica := c.replicas[0]
			cfg := server.ConnConfig()
			c.Put(masterName, secret(server, cfg.User, cfg.Password, nil))
			c.Put(secretName, secret(replica, c.user, "first", map[string]any{"masterarn": masterName, "dbname": c.database}))
			h := c.handler(&postgres.Options{Strategy: strategy})
			for range 2 {
				if err := c.rotate(h); err != nil {
					t.Fatal(err)
				}
				now := c.value("AWSCURRENT")
				for _, srv := range []*pgserver.Server{server, replica} {
					if err := as(t, srv, c.database, now.Username, now.Password); err != nil {
						t.Error(err)
					}
				}
			}
			// Without the superuser's secret naming the writer, nobody can write.
			if _, err := c.client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
				SecretId: aws.String(masterName), SecretString: aws.String(fmt.Sprintf(`{"username":%q,"password":%q}`, cfg.User, cfg.Password)),
			}); err != nil {
				t.Fatal(err)
			}
			c.caughtUp(t)
			err := c.rotate(h)
			if !strings.Contains(fmt.Sprint(err), "this one is a read replica") {
				t.Errorf("rotate = %v, want an error that says read replica", err)
			}
		})
	}
}
