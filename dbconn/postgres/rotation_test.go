package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/internal/loadtest"
	"github.com/keyturn/keyturn/rotation"
	rotationpg "github.com/keyturn/keyturn/rotation/postgres"
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
func newLoad(t *testing.T, secret string) (*smtest.Server, *load) {
	t.Helper()
	srv, c := newCache(t, secret)
	l := &load{}
	db, err := postgres.OpenDB(c, "prod/db", &postgres.Options{Configure: l.tracer.configure})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxLifetime(100 * time.Millisecond)
	l.Load = loadtest.Start(t, 16, 20*time.Millisecond, func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "select 1")
		return err
	})
	return srv, l
}

// rotate asks for a rotation and waits for its end.
func rotate(t *testing.T, srv *smtest.Server) error {
	t.Helper()
	_, err := srv.Client().RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{
		SecretId: aws.String("prod/db"), RotationLambdaARN: aws.String(functionARN),
	})
	// A rotation that broke off is begun anew by the next request, which is
	// answered with an error all the same.
	var refused interface{ ErrorCode() string }
	if err != nil && (!errors.As(err, &refused) || refused.ErrorCode() != "InvalidRequestException") {
		t.Fatal(err)
	}
	return srv.Wait(t.Context(), "prod/db")
}

func TestTwentyRotationsUnderLoad(t *testing.T) {
	name, password := newUser(t)
	srv, l := newLoad(t, document(t, name, password))
	h := rotation.NewHandler(srv.Client(), rotationpg.NewTarget(nil), nil)
	// The function as AWS would run it, with a window of a tenth of a second.
	srv.AddFunction(functionARN, smtest.Lambda(func(ctx context.Context, e rotation.Event) error {
		switch e.Step {
		case "setSecret":
			l.tracer.Change()
		case "finishSecret":
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return h.Handle(ctx, e)
	}))
	for range 20 {
		l.Live(t, 100)
		if err := rotate(t, srv); err != nil {
			t.Fatal(err)
		}
	}
	l.Live(t, 100)
	l.Stop()
	total, most := l.tracer.Check(t, -1)
	// None of them is the rotation's own.
	if n, err := pg.FailedLogins(name); err != nil || n != total {
		t.Errorf("the server's log counts %d failed logins, %v; the pool counted %d", n, err, total)
	}
	started, _, _ := l.tracer.Logins()
	t.Logf("%d queries, %d logins, %d failed logins of at most %d", l.Queries(), started, total, most)
}

// The function is killed between each two of its steps, and started again as the
// service does, with the same token. No caller notices.
func TestRotationKilledBetweenSteps(t *testing.T) {
	name, password := newUser(t)
	srv, l := newLoad(t, document(t, name, password))
	h := rotation.NewHandler(srv.Client(), rotationpg.NewTarget(nil), nil)
	killed := errors.New("killed")
	for _, after := range []string{"createSecret", "setSecret", "testSecret", "finishSecret"} {
		kills := 1
		var steps []string
		srv.AddFunction(functionARN, smtest.Lambda(func(ctx context.Context, e rotation.Event) error {
			steps = append(steps, e.Step)
			if err := h.Handle(ctx, e); err != nil {
				return err
			}
			if e.Step == after && kills > 0 {
				kills--
				return killed // done, but nobody hears of it
			}
			return nil
		}))
		if err := rotate(t, srv); !errors.Is(err, killed) {
			t.Fatalf("killed after %s: %v", after, err)
		}
		l.Live(t, 200)
		if err := rotate(t, srv); err != nil {
			t.Fatalf("started again after %s: %v (steps %q)", after, err, steps)
		}
		l.Live(t, 100)
	}
	l.Stop()
	if l.Failed() != 0 || l.Queries() < 800 {
		t.Errorf("%d errors in %d queries", l.Failed(), l.Queries())
	}
}
