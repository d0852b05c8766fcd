package smtest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

// A bubble's clock starts at 2000-01-01 00:00 UTC, a Saturday.

func days(n int64) func(*sm.RotateSecretInput) {
	return func(in *sm.RotateSecretInput) {
		in.RotationRules = &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(n)}
	}
}

func every(expression string) func(*sm.RotateSecretInput) {
	return func(in *sm.RotateSecretInput) {
		in.RotationRules = &types.RotationRulesType{ScheduleExpression: aws.String(expression)}
	}
}

// sleepUntil sleeps until that time, and until everything that was due then is done.
// It calls the server before, so that what the test has written, a rotator's hook
// for example, happened before what the server does at a time of its own.
func sleepUntil(t *testing.T, srv *smtest.Server, at string) {
	t.Helper()
	srv.Count("")
	time.Sleep(time.Until(utc(t, at)))
	synctest.Wait()
}

// wantDates checks LastRotatedDate and NextRotationDate; empty is absent.
func wantDates(t *testing.T, c *sm.Client, last, next string) {
	t.Helper()
	d := describe(t, c, "s")
	for _, tt := range []struct {
		name string
		got  *time.Time
		want string
	}{{"LastRotatedDate", d.LastRotatedDate, last}, {"NextRotationDate", d.NextRotationDate, next}} {
		switch {
		case tt.want == "" && tt.got == nil:
		case tt.want == "" || tt.got == nil || !tt.got.Equal(utc(t, tt.want)):
			t.Errorf("at %v %s = %v, want %q", time.Now().UTC(), tt.name, tt.got, tt.want)
		}
	}
}

func (r *rotator) count(step string) int {
	n := 0
	for _, e := range r.events {
		if e.Step == step {
			n++
		}
	}
	return n
}

func TestRotationInDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		time.Sleep(90 * time.Minute)
		if err := rotate(t, c, "b", days(30)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantDates(t, c, "2000-01-01 01:30", "2000-01-31 23:59:59")
		if d := describe(t, c, "s"); *d.RotationRules.AutomaticallyAfterDays != 30 || d.RotationRules.ScheduleExpression != nil {
			t.Errorf("RotationRules = %+v", d.RotationRules)
		}

		sleepUntil(t, srv, "2000-01-30 23:59:59")
		if n := r.count("createSecret"); n != 1 {
			t.Errorf("%d rotations before the window, want 1", n)
		}
		sleepUntil(t, srv, "2000-01-31")
		if n := r.count("createSecret"); n != 2 {
			t.Errorf("%d rotations in the window, want 2", n)
		}
		wantDates(t, c, "2000-01-31", "2000-03-01 23:59:59")
		if e := r.events[len(r.events)-1]; e.Step != "finishSecret" || len(e.ClientRequestToken) != 36 || e.SecretID != *describe(t, c, "s").ARN {
			t.Errorf("the last event is %+v", e)
		}
		wantValue(t, c, "s", "made by createSecret")

		// A value that somebody puts counts as a rotation.
		sleepUntil(t, srv, "2000-02-10 12:00")
		if err := put(t.Context(), c, "s", "c", "put"); err != nil {
			t.Fatal(err)
		}
		wantDates(t, c, "2000-01-31", "2000-03-11 23:59:59")
		sleepUntil(t, srv, "2000-03-10 23:59")
		if n := r.count("createSecret"); n != 2 {
			t.Errorf("%d rotations, want 2: the put has postponed the third", n)
		}
		sleepUntil(t, srv, "2000-03-11")
		if n := r.count("createSecret"); n != 3 {
			t.Errorf("%d rotations, want 3", n)
		}
		sleepUntil(t, srv, "2001-03-11")
		if n := r.count("createSecret"); n != 3+12 {
			t.Errorf("%d rotations after a year, want 15", n)
		}
	})
}

func TestRotationByExpression(t *testing.T) {
	for _, tt := range []struct {
		expression string
		until      string // rotations are counted until then
		want       int
		at         string // the last of them
		next       string
		days       int64 // AutomaticallyAfterDays, computed
	}{
		{"cron(0 8/8 * * ? *)", "2000-01-02 10", 3, "2000-01-02 08", "2000-01-02 16:59:59", 1},
		{"cron(0 16 1,15 * ? *)", "2000-01-20", 2, "2000-01-15 16", "2000-02-01 23:59:59", 17},
		{"cron(0 0 ? * 2 *)", "2000-01-20", 3, "2000-01-17", "2000-01-24 23:59:59", 7},
		{"rate(10 hours)", "2000-01-03", 4, "2000-01-02 16", "2000-01-03 02:59:59", 1},
		{"rate(7 days)", "2000-02-01", 4, "2000-01-29", "2000-02-05 23:59:59", 7},
	} {
		t.Run(tt.expression, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, c := newServer(t)
				create(t, c, "s", "a", "one")
				r := newRotator(srv)
				if err := rotate(t, c, "b", later, every(tt.expression)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if r.steps() != "test/b" || describe(t, c, "s").LastRotatedDate != nil {
					t.Errorf("steps = %s, want testSecret alone", r.steps())
				}
				// To write a value does not change these schedules but for that in days.
				if !strings.Contains(tt.expression, "days") {
					sleepUntil(t, srv, "2000-01-01 03:30")
					if err := put(t.Context(), c, "s", "c", "put"); err != nil {
						t.Fatal(err)
					}
				}
				sleepUntil(t, srv, tt.until)
				// Not that of 2000-01-03 00:00 itself, for rate(10 hours): it is at 02:00.
				if n := r.count("finishSecret"); n != tt.want {
					t.Errorf("%d rotations, want %d", n, tt.want)
				}
				wantDates(t, c, tt.at, tt.next)
				if rules := describe(t, c, "s").RotationRules; *rules.AutomaticallyAfterDays != tt.days || *rules.ScheduleExpression != tt.expression {
					t.Errorf("RotationRules = %d, %s, want %d", *rules.AutomaticallyAfterDays, *rules.ScheduleExpression, tt.days)
				}
			})
		})
	}
}

// RotationRules replace those before, and their schedule begins with them.
func TestRotationRulesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "b", days(1)); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-03 12:00")
		if n := r.count("createSecret"); n != 3 {
			t.Errorf("%d rotations, want 3", n)
		}
		if err := rotate(t, c, "c", later, every("rate(10 days)")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantDates(t, c, "2000-01-03", "2000-01-13 23:59:59")
		// Without rules they stay; and without a schedule there is nothing to wait for.
		sleepUntil(t, srv, "2000-01-05 12:00")
		if err := rotate(t, c, "d"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantDates(t, c, "2000-01-05 12:00", "2000-01-15 23:59:59")
		if err := rotate(t, c, "e", func(in *sm.RotateSecretInput) { in.RotationRules = &types.RotationRulesType{} }); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-06-01")
		wantDates(t, c, "2000-01-05 12:00", "")
		if n := r.count("createSecret"); n != 5 {
			t.Errorf("%d rotations, want 5", n)
		}
		if n := srv.Timed(); n != 0 {
			t.Errorf("the server waits for %d secrets, want none", n)
		}
	})
}

func TestCancelledSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "b", days(10)); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-05")
		if _, err := c.CancelRotateSecret(t.Context(), &sm.CancelRotateSecretInput{SecretId: aws.String("s")}); err != nil {
			t.Fatal(err)
		}
		wantDates(t, c, "", "") // "... or rotation has been disabled, Secrets Manager returns null."
		if d := describe(t, c, "s"); *d.RotationEnabled || *d.RotationRules.AutomaticallyAfterDays != 10 {
			t.Errorf("DescribeSecret = %+v", d)
		}
		sleepUntil(t, srv, "2000-03-01")
		if n := r.count("createSecret"); n != 1 {
			t.Errorf("%d rotations, want 1", n)
		}
		if err := rotate(t, c, "c", later); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantDates(t, c, "2000-01-01", "2000-03-11 23:59:59")
		sleepUntil(t, srv, "2000-03-11")
		if n := r.count("createSecret"); n != 2 {
			t.Errorf("%d rotations after it was switched on again, want 2", n)
		}
	})
}

// CancelRotateSecret also cancels the rotation that is running.
func TestCancelRunningRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		r.hook = func(ctx context.Context, e event) error {
			if e.Step == "setSecret" {
				<-ctx.Done() // As a function that is waiting for its database.
				return nil
			}
			return nil
		}
		if err := rotate(t, c, "b", days(1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		out, err := c.CancelRotateSecret(t.Context(), &sm.CancelRotateSecretInput{SecretId: aws.String("s")})
		if err != nil || *out.VersionId != ver("b") {
			t.Errorf("CancelRotateSecret = %+v, %v, want the version that was to be", out, err)
		}
		if err := srv.Wait(t.Context(), "s"); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v, want a cancelled rotation", err)
		}
		sleepUntil(t, srv, "2000-02-01")
		if r.steps() != "create/b set/b" {
			t.Errorf("steps = %s", r.steps())
		}
		if got, want := versions(t, c, "s"), "a:AWSCURRENT b:AWSPENDING"; got != want {
			t.Errorf("versions = %q, want %q", got, want)
		}
	})
}

// A secret that is marked for deletion is not rotated, and one that is gone never.
func TestScheduleOfDeletedSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "b", days(5)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		del := func(force bool) {
			t.Helper()
			in := &sm.DeleteSecretInput{SecretId: aws.String("s")}
			if force {
				in.ForceDeleteWithoutRecovery = aws.Bool(true)
			}
			if _, err := c.DeleteSecret(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		del(false)
		sleepUntil(t, srv, "2000-01-12")
		if n := r.count("createSecret"); n != 1 {
			t.Errorf("%d rotations of a deleted secret, want 1", n)
		}
		if _, err := c.RestoreSecret(t.Context(), &sm.RestoreSecretInput{SecretId: aws.String("s")}); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-17")
		if n := r.count("createSecret"); n != 2 {
			t.Errorf("%d rotations after it was restored, want 2", n)
		}
		del(true)
		create(t, c, "s", "c", "another")
		sleepUntil(t, srv, "2000-06-01")
		if n := r.count("createSecret"); n != 2 {
			t.Errorf("%d rotations, want 2: the secret is another one", n)
		}
		if n := srv.Timed(); n != 0 {
			t.Errorf("the server waits for %d secrets, want none", n)
		}
	})
}

func TestRetries(t *testing.T) {
	for name, tt := range map[string]struct {
		opts  smtest.RotationOptions
		fails int      // how often the function fails
		want  []string // when it was called
	}{
		"succeeds at the second": {
			fails: 1, want: []string{"2000-01-02 00:00", "2000-01-02 00:05", "2000-01-03 00:00"},
		},
		"default": {
			fails: 5,
			want: []string{
				"2000-01-02 00:00", "2000-01-02 00:05", "2000-01-02 00:10", "2000-01-02 00:15", "2000-01-02 00:20",
				"2000-01-03 00:00",
			},
		},
		"one, after an hour": {
			opts: smtest.RotationOptions{Retries: 1, RetryDelay: time.Hour}, fails: 3,
			want: []string{"2000-01-02 00:00", "2000-01-02 01:00", "2000-01-03 00:00", "2000-01-03 01:00"},
		},
		"none": {
			opts: smtest.RotationOptions{Retries: -1}, fails: 1,
			want: []string{"2000-01-02 00:00", "2000-01-03 00:00"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := smtest.New(&smtest.Options{Rotation: tt.opts})
				defer srv.Close()
				c := client(srv)
				create(t, c, "s", "a", "one")
				r := newRotator(srv)
				if err := rotate(t, c, "x", later, days(1)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				r.events = nil
				var at []string
				r.hook = func(_ context.Context, e event) error {
					if e.Step == "createSecret" {
						at = append(at, time.Now().UTC().Format("2006-01-02 15:04"))
					}
					if len(at) <= tt.fails && e.Step == "setSecret" {
						return errors.New("database down")
					}
					return nil
				}
				sleepUntil(t, srv, "2000-01-03 12:00")
				if got, want := strings.Join(at, ", "), strings.Join(tt.want, ", "); got != want {
					t.Errorf("called\n at %s\nwant %s", got, want)
				}
				// All of its attempts were at one version.
				first := r.events[0].ClientRequestToken
				for i := range min(tt.fails+1, len(at)) {
					if got := r.events[2*i].ClientRequestToken; got != first {
						t.Errorf("attempt %d was at version %s, want %s", i+1, got, first)
					}
				}
				if strings.Contains(versions(t, c, "s"), pend) {
					t.Errorf("versions = %s, want no AWSPENDING", versions(t, c, "s"))
				}
			})
		})
	}
}

// A rotation that does not succeed leaves NextRotationDate in the past.
func TestRotationOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "b", days(3)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.hook = func(context.Context, event) error { return errors.New("database down") }
		sleepUntil(t, srv, "2000-01-06")
		wantDates(t, c, "2000-01-01", "2000-01-04 23:59:59")
		r.hook = nil
		sleepUntil(t, srv, "2000-01-07")
		wantDates(t, c, "2000-01-07", "2000-01-10 23:59:59")
	})
}

// For a cron expression a value that somebody put is no rotation.
func TestRotationOverdueByExpression(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "b", every("cron(0 6 * * ? *)")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.hook = func(context.Context, event) error { return errors.New("database down") }
		sleepUntil(t, srv, "2000-01-01 12:00")
		if err := put(t.Context(), c, "s", "c", "put"); err != nil {
			t.Fatal(err)
		}
		wantDates(t, c, "2000-01-01", "2000-01-01 23:59:59")
		sleepUntil(t, srv, "2000-01-03")
		wantDates(t, c, "2000-01-01", "2000-01-01 23:59:59")
	})
}

// There must be room for the label of a rotation.
func TestRotationWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "x", later, days(1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.events = nil
		var labels []string
		for i := range 19 {
			labels = append(labels, strings.Repeat("x", i+1))
		}
		if err := put(t.Context(), c, "s", "b", "two", labels...); err != nil {
			t.Fatal(err)
		}
		wantError(t, rotate(t, c, "c"),
			"LimitExceededException: The request failed because it would exceed the quota of 20 staging labels on all versions of the secret.")
		sleepUntil(t, srv, "2000-01-02")
		if r.steps() != "" {
			t.Errorf("steps = %s, want none", r.steps())
		}
	})
}

// RotateSecret reattempts at once what would have been tried again later; then
// there is nothing left to try.
func TestRotateSecretBeforeRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		r.hook = func(context.Context, event) error { return errors.New("database down") }
		if err := rotate(t, c, "b"); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-01 00:01")
		r.hook, r.events = nil, nil
		wantError(t, rotate(t, c, "c"), "InvalidRequestException: A previous rotation isn't complete. That rotation will be reattempted.")
		if err := srv.Wait(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-02")
		if r.steps() != allFour {
			t.Errorf("steps = %s, want %s", r.steps(), allFour)
		}
	})
}

// The retry finds that somebody has seen to the rotation himself.
func TestRetryOfAbandonedRotation(t *testing.T) {
	for name, settle := range map[string]func(*smtest.Server){
		"abandoned": func(srv *smtest.Server) { srv.AbandonRotation("s") },
		"finished":  func(srv *smtest.Server) { srv.FinishRotation("s") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, c := newServer(t)
				create(t, c, "s", "a", "one")
				r := newRotator(srv)
				r.hook = func(_ context.Context, e event) error {
					if e.Step == "testSecret" {
						return errors.New("refused")
					}
					return nil
				}
				if err := rotate(t, c, "b"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				settle(srv)
				sleepUntil(t, srv, "2000-01-02")
				if r.steps() != "create/b set/b test/b" {
					t.Errorf("steps = %s", r.steps())
				}
			})
		})
	}
}

func TestCleanupDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(&smtest.Options{Rotation: smtest.RotationOptions{CleanupDelay: time.Minute}})
		defer srv.Close()
		c := client(srv)
		create(t, c, "s", "a", "one")
		newRotator(srv)
		if err := rotate(t, c, "b"); err != nil {
			t.Fatal(err)
		}
		want := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := versions(t, c, "s"); got != want {
				t.Errorf("at %v: versions = %q, want %q", time.Now().UTC(), got, want)
			}
		}
		want("a:AWSPREVIOUS b:AWSCURRENT,AWSPENDING")
		time.Sleep(59 * time.Second)
		want("a:AWSPREVIOUS b:AWSCURRENT,AWSPENDING")
		time.Sleep(time.Second)
		want("a:AWSPREVIOUS b:AWSCURRENT")

		// The next rotation need not wait for it, and does not lose its own label to it.
		if err := rotate(t, c, "c"); err != nil {
			t.Fatal(err)
		}
		want("a: b:AWSPREVIOUS c:AWSCURRENT,AWSPENDING")
		time.Sleep(30 * time.Second)
		if err := rotate(t, c, "d"); err != nil {
			t.Fatal(err)
		}
		want("a: b: c:AWSPREVIOUS d:AWSCURRENT,AWSPENDING")
		time.Sleep(30 * time.Second)
		want("a: b: c:AWSPREVIOUS d:AWSCURRENT,AWSPENDING")
		time.Sleep(30 * time.Second)
		want("a: b: c:AWSPREVIOUS d:AWSCURRENT")

		// Nor does a label that somebody has moved since.
		if err := rotate(t, c, "e"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := move(t.Context(), c, "s", pend, "e", "d"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		want("a: b: c: d:AWSPENDING,AWSPREVIOUS e:AWSCURRENT")
	})
}

// Close ends schedules and retries, and the bubble can end.
func TestCloseEndsSchedules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "b", days(1)); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-02 12:00")
		r.hook = func(ctx context.Context, _ event) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			return ctx.Err()
		}
		sleepUntil(t, srv, "2000-01-03")
		n := len(r.events)
		srv.Close() // It waits for the one that is running.
		if got := time.Now(); !got.Equal(utc(t, "2000-01-03 00:00:01")) {
			t.Errorf("Close returned at %v", got)
		}
		time.Sleep(365 * 24 * time.Hour)
		if len(r.events) != n {
			t.Errorf("%d steps were called after Close", len(r.events)-n)
		}
	})
}

// A test may end without Close while schedules are waiting: they are no goroutine.
func TestScheduleWithoutClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := smtest.New(nil)
		c := client(srv)
		create(t, c, "s", "a", "one")
		newRotator(srv)
		if err := rotate(t, c, "b", days(1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	})
}

// The server may be older than the bubble, and live on after it, also if it has a
// schedule there.
func TestScheduleFromOutsideTheBubble(t *testing.T) {
	srv, c := newServer(t)
	create(t, c, "s", "a", "one")
	r := newRotator(srv)
	for _, d := range []time.Duration{time.Minute, 60 * time.Hour, 60 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			r.events = nil
			if err := rotate(t, c, "", days(1), func(in *sm.RotateSecretInput) { in.ClientRequestToken = nil }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
			synctest.Wait()
			if n, want := r.count("finishSecret"), 1+int(d/(24*time.Hour)); n != want {
				t.Errorf("%d rotations in %v, want %d", n, d, want)
			}
		})
	}
	srv.Close()
}

// When the window opens, a rotation may be running already; and what was to be
// called may be gone.
func TestScheduleFindsNoWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := smtest.New(&smtest.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer srv.Close()
		c := client(srv)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		hold := make(chan struct{})
		r.hook = func(context.Context, event) error { <-hold; return nil }
		if err := rotate(t, c, "b", days(1)); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-02 12:00")
		if r.steps() != "create/b" {
			t.Errorf("steps = %s while one is held", r.steps())
		}
		close(hold)
		synctest.Wait()
		srv.AddFunction(functionARN, nil)
		sleepUntil(t, srv, "2000-01-03 12:00")
		if got, want := versions(t, c, "s"), "a:AWSPREVIOUS b:AWSCURRENT"; got != want {
			t.Errorf("versions = %q, want %q", got, want)
		}
		if got := log.String(); !strings.Contains(got, "rotation not started") || !strings.Contains(got, "cannot invoke") {
			t.Errorf("log = %s", got)
		}
		r = newRotator(srv)
		sleepUntil(t, srv, "2000-01-04")
		if n := r.count("finishSecret"); n != 1 {
			t.Errorf("%d rotations once the function is back, want 1", n)
		}
	})
}

// Windows that passed while nobody looked come to one rotation, and a timer that is
// late does not shift those after it.
func TestScheduleAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		r := newRotator(srv)
		if err := rotate(t, c, "b", every("cron(0 6 * * ? *)")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		srv.Rewind("s", 100*time.Hour)
		sleepUntil(t, srv, "2000-01-01 01:00")
		if n := r.count("createSecret"); n != 2 {
			t.Errorf("%d rotations, want one for all the windows of 100 hours", n)
		}
		wantDates(t, c, "2000-01-01 01:00", "2000-01-01 23:59:59")
	})
}

// Many schedules at one moment, each of its own secret.
func TestManySchedules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.AddFunction("*", srv.KeepValue())
		const n = 200
		for i := range n {
			name := "s" + strings.Repeat("x", i)
			srv.Put(name, "value")
			if _, err := c.RotateSecret(t.Context(), &sm.RotateSecretInput{
				SecretId: aws.String(name), RotationLambdaARN: aws.String(functionARN), RotateImmediately: aws.Bool(false),
				RotationRules: &types.RotationRulesType{ScheduleExpression: aws.String("rate(4 hours)")},
			}); err != nil {
				t.Fatal(err)
			}
		}
		sleepUntil(t, srv, "2000-01-02")
		for i := range n {
			d := describe(t, c, "s"+strings.Repeat("x", i))
			if d.LastRotatedDate == nil || !d.LastRotatedDate.Equal(utc(t, "2000-01-02")) {
				t.Fatalf("secret %d was last rotated at %v", i, d.LastRotatedDate)
			}
		}
	})
}
