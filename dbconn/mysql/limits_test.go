package mysql_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	godriver "github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/dbconn/mysql"
)

// Each login has its own limit, whichever the timer was set for.
func TestLimitOfEachLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withTimeout, start := mysql.NewLimits(), time.Now()
		took := make(chan time.Duration, 8)
		for _, begins := range []time.Duration{0, 3, 9, 25} {
			begins *= time.Second
			time.Sleep(time.Until(start.Add(begins)))
			_, over := withTimeout(t.Context(), 10*time.Second)
			over() // one that is quick
			ctx, cancel := withTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if deadline, ok := ctx.Deadline(); !ok || !deadline.Equal(time.Now().Add(10*time.Second)) {
				t.Errorf("Deadline() = %v, %v at %v", deadline, ok, time.Now())
			}
			context.AfterFunc(ctx, func() {
				took <- time.Since(start) - begins
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Errorf("Err() = %v", ctx.Err())
				}
			})
		}
		time.Sleep(time.Hour)
		if len(took) != 4 {
			t.Fatalf("%d logins ended, want 4", len(took))
		}
		for range 4 {
			if took := <-took; took != 10*time.Second {
				t.Errorf("a login ended after %v, want 10s", took)
			}
		}
	})
}

// What the caller says of its context goes before the limit.
func TestLimitAndTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withTimeout := mysql.NewLimits()
		for _, tt := range []struct {
			name   string
			caller func(context.Context) (context.Context, context.CancelFunc)
			after  time.Duration
			want   error
		}{
			{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Second, cancel)
				return ctx, cancel
			}, time.Second, context.Canceled},
			{"cancelled for a deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(time.Second, func() { cancel(context.DeadlineExceeded) })
				return ctx, func() { cancel(nil) }
			}, time.Second, context.Canceled},
			{"a deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Second)
			}, time.Second, context.DeadlineExceeded},
			{"a later deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Minute)
			}, 10 * time.Second, context.DeadlineExceeded},
		} {
			start := time.Now()
			caller, cancel := tt.caller(t.Context())
			ctx, over := withTimeout(caller, 10*time.Second)
			<-ctx.Done()
			if took := time.Since(start); took != tt.after || !errors.Is(ctx.Err(), tt.want) {
				t.Errorf("%s: ended after %v with %v, want %v and %v", tt.name, took, ctx.Err(), tt.after, tt.want)
			}
			over()
			cancel()
		}
	})
}

// The limit is told as such where a dial function has made a context of its own.
func TestLimitOfADialFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := cache.New(cache.Static(map[string]string{"prod/db": `{"username":"u","password":"s3cret","host":"127.0.0.1"}`}), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cfg := godriver.NewConfig()
		cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
		}
		connector, err := mysql.NewConnector(c, "prod/db", &mysql.Options{Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = connector.Connect(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "took longer than 10s") || time.Since(start) != 10*time.Second {
			t.Errorf("after %v: %v, want the limit's error after 10s", time.Since(start), err)
		}
	})
}
