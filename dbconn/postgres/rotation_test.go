package postgres_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/dbconn/postgres"
	"github.com/keyturn/keyturn/rotation"
	rotationpg "github.com/keyturn/keyturn/rotation/postgres"
	"github.com/keyturn/keyturn/smtest"
)

const functionARN = "arn:aws:lambda:us-east-1:123456789012:function:rotate"

// A load is a pool whose connections live for a moment, and workers that query
// it all the time and count their errors.
type load struct {
	tracer  tracer
	queries atomic.Int64
	errors  atomic.Int64
	stop    func()
}

// newLoad starts 16 workers on the secret prod/db of srv.
func newLoad(t *testing.T, secret string) (*smtest.Server, *load) {
	t.Helper()
	srv, c := newCache(t, secret)
	l := &load{}
	db, err := postgres.OpenDB(c, "prod/db", &postgres.Options{Configure: l.tracer.configure})
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxLifetime(100 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				_, err := db.ExecContext(ctx, "select 1")
				if ctx.Err() != nil {
					return // the query was cut off by our own end
				}
				l.queries.Add(1)
				if err != nil {
					l.errors.Add(1)
					t.Errorf("a query failed: %v", err)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		_ = db.Close()
	})
	t.Cleanup(l.stop)
	return srv, l
}

// live lets the workers make some more queries.
func (l *load) live(t *testing.T, queries int64) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for until := l.queries.Load() + queries; l.queries.Load() < until; {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
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
			l.tracer.change()
		case "finishSecret":
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return h.Handle(ctx, e)
	}))
	for range 20 {
		l.live(t, 100)
		if err := rotate(t, srv); err != nil {
			t.Fatal(err)
		}
	}
	l.live(t, 100)
	l.stop()
	total, most := 0, 0
	for i, change := range l.tracer.changes {
		if change.refused > change.bound+1 {
			t.Errorf("rotation %d: %d failed logins, want at most 1 and the %d in flight", i+1, change.refused, change.bound)
		}
		total, most = total+change.refused, most+change.bound+1
	}
	if total == 0 {
		t.Error("no login was ever refused: the test has proved nothing")
	}
	// None of them is the rotation's own.
	if n, err := pg.FailedLogins(name); err != nil || n != total {
		t.Errorf("the server's log counts %d failed logins, %v; the pool counted %d", n, err, total)
	}
	t.Logf("%d queries, %d errors, %d logins, %d failed logins of at most %d", l.queries.Load(), l.errors.Load(), l.tracer.started, total, most)
}

// The function is killed between each two of its steps, and started again as the
// service does, with the same token. No caller notices.
func TestRotationKilledBetweenSteps(t *testing.T) {
	name, password := newUser(t)
	srv, l := newLoad(t, document(t, name, password))
	h := rotation.NewHandler(srv.Client(), rotationpg.NewTarget(nil), nil)
	l.tracer.change() // the counts are the other test's
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
		l.live(t, 200)
		if err := rotate(t, srv); err != nil {
			t.Fatalf("started again after %s: %v (steps %q)", after, err, steps)
		}
		l.live(t, 100)
	}
	l.stop()
	if l.errors.Load() != 0 || l.queries.Load() < 800 {
		t.Errorf("%d errors in %d queries", l.errors.Load(), l.queries.Load())
	}
}
