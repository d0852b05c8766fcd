package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/dbconn/mysql"
	"github.com/keyturn/keyturn/internal/loadtest"
	"github.com/keyturn/keyturn/internal/mysqlserver"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/smtest"
)

const functionARN = "arn:aws:lambda:us-east-1:123456789012:function:rotate"

// A load is a pool whose connections live for a moment, and 16 workers that query it
// all the time.
type load struct {
	*loadtest.Load

	tracer tracer
}

// newLoad starts the workers on the secret prod/db of srv.
func newLoad(t *testing.T, secret string, opts *mysql.Options) (*smtest.Server, *load) {
	t.Helper()
	srv, c := newCache(t, secret)
	l := &load{}
	connector, err := mysql.NewTracedConnector(c, "prod/db", opts, l.tracer.begin)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxLifetime(100 * time.Millisecond)
	l.Load = loadtest.Start(t, 16, 20*time.Millisecond, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "do 1")
		return err
	})
	return srv, l
}

// rotate asks for a rotation and waits for its end.
func rotate(t *testing.T, srv *smtest.Server) {
	t.Helper()
	_, err := srv.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String("prod/db"), RotationLambdaARN: aws.String(functionARN),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(t.Context(), "prod/db"); err != nil {
		t.Fatal(err)
	}
}

// A target is a user of a server, whose password an administrator changes. As AWS's
// own function does, it tries the new one first.
type target struct{ srv *mysqlserver.Server }

func (target) Next(current, password *rotation.Value) (*rotation.Value, error) {
	return current.With("password", password.Text())
}

func (target) Check(_, _ *rotation.Value) error { return nil }

func (g target) Test(ctx context.Context, v *rotation.Value) error {
	var s struct{ Username, Password string }
	if err := v.Decode(&s); err != nil {
		return err
	}
	connector, err := godriver.NewConnector(config(func(c *godriver.Config) {
		c.User, c.Passwd, c.Addr = s.Username, s.Password, net.JoinHostPort(g.srv.Host(), strconv.Itoa(g.srv.Port()))
	}))
	if err != nil {
		return err
	}
	conn, err := connector.Connect(ctx)
	if err == nil {
		return conn.Close()
	}
	if refusal, ok := errors.AsType[*godriver.MySQLError](err); ok && refusal.Number == 1045 {
		return rotation.Refused(err)
	}
	return err
}

func (g target) Set(ctx context.Context, c rotation.Change) error {
	if err := g.Test(ctx, c.Pending); !errors.Is(err, rotation.ErrRefused) {
		return err
	}
	var s struct{ Username, Password string }
	if err := c.Pending.Decode(&s); err != nil {
		return err
	}
	return g.srv.SetPassword(ctx, s.Username, s.Password)
}

// function is the rotation function as AWS would run it, with a window between the
// change of the password and that of the label.
func function(srv *smtest.Server, l *load, of target, window time.Duration) smtest.Function {
	h := rotation.NewHandler(srv.Client(), of, nil)
	return smtest.Lambda(func(ctx context.Context, e rotation.Event) error {
		switch e.Step {
		case "setSecret":
			l.tracer.Change()
		case "finishSecret":
			select {
			case <-time.After(window):
			case <-ctx.Done():
			}
		}
		return h.Handle(ctx, e)
	})
}

func TestRotationsUnderLoad(t *testing.T) {
	eachServer(t, func(t *testing.T, srv *mysqlserver.Server) {
		name, password := newUser(t, srv)
		sm, l := newLoad(t, document(t, srv, name, password), nil)
		const rotations = 10
		for i := range rotations {
			sm.AddFunction(functionARN, function(sm, l, target{srv}, time.Duration(i%2)*300*time.Millisecond))
			l.Live(t, 100)
			rotate(t, sm)
		}
		l.Live(t, 100)
		l.Stop()
		total, most := l.tracer.Check(t, -1)
		// setSecret tries the pending password before it sets it, which is one
		// failed login a rotation, and not the pool's.
		if n := failures(t, srv, name); n != total+rotations {
			t.Errorf("the server's log counts %d failed logins; the pool counted %d, and the rotations are %d more", n, total, rotations)
		}
		started, _, _ := l.tracer.Logins()
		t.Logf("%d queries, %d logins, %d failed logins of at most %d", l.Queries(), started, total, most)
	})
}

// A server that locks an account after three failures does not lock this one, with
// one login at a time: the rotation's own and the pool's are two.
func TestNoLockout(t *testing.T) {
	for kind, start := range map[mysqlserver.Kind]func(*testing.T) *mysqlserver.Server{
		mysqlserver.MariaDB: limited,
		mysqlserver.MySQL:   func(*testing.T) *mysqlserver.Server { return mysqld },
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			name, password := newUser(t, srv)
			if kind == mysqlserver.MySQL {
				admin(t, srv, "ALTER USER ?@'%' FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME UNBOUNDED", name)
			}
			sm, l := newLoad(t, document(t, srv, name, password), &mysql.Options{MaxConcurrentLogins: 1})
			const rotations = 4
			for i := range rotations {
				sm.AddFunction(functionARN, function(sm, l, target{srv}, time.Duration(i%2)*300*time.Millisecond))
				l.Live(t, 1000) // more than a second: what was read of the labels is from after the last one
				rotate(t, sm)
			}
			l.Live(t, 100)
			l.Stop()
			started, peak, locked := l.tracer.Logins()
			if locked != 0 || peak != 1 {
				t.Errorf("%d logins to a locked account, %d logins at once, want 0, 1", locked, peak)
			}
			// The one that finds out, and at times one more, that had chosen
			// the version before the label was seen to move.
			total, _ := l.tracer.Check(t, 1)
			if n := failures(t, srv, name); n != total+rotations {
				t.Errorf("the server's log counts %d failed logins; the pool counted %d, and the rotations are %d more", n, total, rotations)
			}
			t.Logf("%d queries, %d logins, %d failed logins in %d rotations", l.Queries(), started, total, rotations)
		})
	}
}
