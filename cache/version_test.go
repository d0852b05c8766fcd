package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

func getVersion(t *testing.T, c *cache.Cache, id, want string) {
	t.Helper()
	s, err := c.GetVersion(t.Context(), "prod/db", id)
	if err != nil || s.Text() != want || s.VersionID() != id {
		t.Errorf("GetVersion(%s) = %v, %v, want %s", id, s, err, want)
	}
}

// The versions that AWSCURRENT is on and was on need no call, until their TTL:
// beyond it access may have ended.
func TestGetVersion(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v1 := get(t, c, "v1").VersionID()
		getVersion(t, c, v1, "v1")
		time.Sleep(time.Minute)
		v2 := srv.Put("prod/db", "v2")
		if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
			t.Fatal(err)
		}
		getVersion(t, c, v1, "v1")
		getVersion(t, c, v2, "v2")
		calls(t, srv, 2)

		time.Sleep(4*time.Minute - time.Nanosecond) // v1 was read five minutes ago
		getVersion(t, c, v1, "v1")
		calls(t, srv, 2)
		time.Sleep(time.Nanosecond)
		getVersion(t, c, v1, "v1")
		calls(t, srv, 3)
		getVersion(t, c, v1, "v1")
		calls(t, srv, 3)

		// One that nobody has read, and that has no label any more.
		v3 := srv.Put("prod/db", "v3")
		for range 3 {
			srv.Put("prod/db", "later")
		}
		getVersion(t, c, v3, "v3")
		calls(t, srv, 4)

		_, err := c.GetVersion(t.Context(), "prod/db", "01234567-none")
		failed, ok := errors.AsType[*cache.Error](err)
		if !ok || !errors.Is(err, cache.ErrNotFound) || failed.VersionID != "01234567-none" || failed.Stage != "" ||
			!strings.Contains(err.Error(), `"prod/db" (version 01234567-none): ResourceNotFoundException`) {
			t.Errorf("GetVersion of none: %v", err)
		}
	})
}

func TestGetVersionIsRevoked(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v1 := get(t, c, "v1").VersionID()
		srv.Inject(smtest.Fault{Err: smtest.AccessDenied})
		time.Sleep(5 * time.Minute)
		if s, err := c.GetVersion(t.Context(), "prod/db", v1); err == nil {
			t.Errorf("GetVersion = %v beyond the TTL of a secret that is denied", s)
		}
	})
}

// What AWSCURRENT was seen to leave is AWSPREVIOUS: the two agree with each other,
// and no call is needed.
func TestPreviousFollowsCurrent(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		previous := func(want string, wantCalls int) {
			t.Helper()
			s, err := c.GetStage(t.Context(), "prod/db", cache.Previous)
			if err != nil || s.Text() != want {
				t.Errorf("AWSPREVIOUS = %v, %v, want %s", s, err, want)
			}
			calls(t, srv, wantCalls)
		}
		srv.Put("prod/db", "v2")
		get(t, c, "v2")
		previous("v1", 2) // read
		time.Sleep(time.Minute)
		srv.Put("prod/db", "v3")
		previous("v1", 2) // as AWSCURRENT is still v2 here
		get(t, c, "v2")
		if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
			t.Fatal(err)
		}
		previous("v2", 3)

		// v2 was last read as AWSCURRENT four minutes ago.
		time.Sleep(4*time.Minute - time.Nanosecond)
		previous("v2", 3)
		srv.Put("prod/db", "v4") // unseen: the trust is bounded for this
		time.Sleep(time.Nanosecond)
		previous("v3", 4)
	})
}

// What was read of AWSPREVIOUS itself, later, is known better.
func TestPreviousReadLaterCounts(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(time.Second)
		srv.Put("prod/db", "v2")
		if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		srv.Put("prod/db", "v3")
		if s, err := c.RefreshAfter(t.Context(), "prod/db", cache.Previous, time.Now()); err != nil || s.Text() != "v2" {
			t.Fatalf("AWSPREVIOUS = %v, %v", s, err)
		}
		if s, err := c.GetStage(t.Context(), "prod/db", cache.Previous); err != nil || s.Text() != "v2" {
			t.Errorf("AWSPREVIOUS = %v, %v, want the v2 that was read", s, err)
		}
	})
}

// What was read of AWSPREVIOUS before AWSCURRENT was seen to move never answers
// again: not when the better knowledge is old, and not when a read fails.
func TestPreviousDoesNotGoBack(t *testing.T) {
	for _, fault := range []*smtest.Error{nil, smtest.InternalServiceError, smtest.AccessDenied} {
		oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			previous := func() string {
				s, err := c.GetStage(t.Context(), "prod/db", cache.Previous)
				if err != nil {
					return "error"
				}
				return s.Text()
			}
			srv.Put("prod/db", "v2")
			get(t, c, "v2")
			time.Sleep(4 * time.Minute)
			if got := previous(); got != "v1" {
				t.Fatalf("AWSPREVIOUS = %s", got)
			}
			srv.Put("prod/db", "v3")
			if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
				t.Fatal(err)
			}
			if got := previous(); got != "v2" {
				t.Errorf("AWSPREVIOUS = %s, want v2", got)
			}
			// v2 was read as AWSCURRENT five minutes ago, and v1 as AWSPREVIOUS
			// one: nothing is fresh but what is wrong.
			time.Sleep(time.Minute)
			srv.Inject(smtest.Fault{Err: fault})
			for range 10 {
				want := "v2"
				if fault == smtest.AccessDenied {
					want = "error"
				}
				if got := previous(); got != want {
					t.Errorf("AWSPREVIOUS = %s with %v, want %s", got, fault, want)
				}
				time.Sleep(2 * time.Second)
			}
		})
	}
}

func TestLabelsOfOnesOwn(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v1 := get(t, c, "v1")
		if _, err := c.GetStage(t.Context(), "prod/db", "blue"); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("a label that is nowhere: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := srv.Client().UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
			SecretId: aws.String("prod/db"), VersionStage: aws.String("blue"), MoveToVersionId: aws.String(v1.VersionID()),
		}); err != nil {
			t.Fatal(err)
		}
		srv.Put("prod/db", "v2")
		s, err := c.GetStage(t.Context(), "prod/db", "blue")
		if err != nil || s.Text() != "v1" || !slices.Contains(s.Stages(), "blue") {
			t.Errorf("blue = %v, %v", s, err)
		}
		calls(t, srv, 3)
		_, _ = c.GetStage(t.Context(), "prod/db", "blue")
		calls(t, srv, 3)
	})
}

func TestInvalidate(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		arn := get(t, c, "v1").ARN()
		srv.Put("prod/other", "other")
		if _, err := c.Get(t.Context(), "prod/other"); err != nil {
			t.Fatal(err)
		}
		srv.Put("prod/db", "v2")
		if _, err := c.GetStage(t.Context(), arn, cache.Previous); err != nil {
			t.Fatal(err)
		}
		srv.ResetCalls()
		c.Invalidate("prod/db")
		if _, ok := c.Handle("prod/db").Peek(); ok {
			t.Error("Peek after Invalidate holds a value")
		}
		get(t, c, "v2")
		calls(t, srv, 1)
		if s, err := c.GetStage(t.Context(), arn, cache.Previous); err != nil || s.Text() != "v1" {
			t.Errorf("AWSPREVIOUS = %v, %v", s, err)
		}
		calls(t, srv, 2)
		if _, err := c.Get(t.Context(), "prod/other"); err != nil {
			t.Fatal(err)
		}
		calls(t, srv, 2)
		c.Invalidate("prod/none")
		c.Invalidate("")
		get(t, c, "v2")
		calls(t, srv, 2)
	})
}

// What a call began to read before is not brought back by it, whoever waits.
func TestInvalidateDuringAFlight(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		remove := srv.Inject(smtest.Fault{DelayAnswer: time.Second})
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "v1") }) // asked before
		synctest.Wait()
		srv.Put("prod/db", "v2")
		c.Invalidate("prod/db")
		for range 10 {
			wg.Go(func() { get(t, c, "v2") })
		}
		wg.Wait()
		calls(t, srv, 2)
		remove()
		get(t, c, "v2")
		calls(t, srv, 2)
	})
}

func TestKeysAndStats(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Put("prod/api", "key")
		get(t, c, "v1")
		_, _ = c.Get(t.Context(), "prod/none")
		_, _ = c.GetStage(t.Context(), "prod/api", cache.Current)
		_, _ = c.GetStage(t.Context(), "prod/api", cache.Pending)
		if got := slices.Sorted(c.Keys()); fmt.Sprint(got) != "[prod/api prod/db]" {
			t.Errorf("Keys = %v", got)
		}
		for range c.Keys() {
			break // which must not panic
		}
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		srv.Put("prod/db", "v2")
		get(t, c, "v2")
		time.Sleep(5 * time.Minute)
		srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		get(t, c, "v2")
		want := cache.Stats{Entries: 4, Calls: 6, Failures: 3, Waits: 6, Stale: 1, Changes: 1}
		if got := c.Stats(); got != want {
			t.Errorf("Stats = %+v, want %+v", got, want)
		}
	})
}

func TestStatus(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		h := c.Handle("prod/db")
		if got := h.Status(); got != (cache.Status{State: cache.Dead}) {
			t.Errorf("Status before the first read: %+v", got)
		}
		v1 := get(t, c, "v1").VersionID()
		time.Sleep(time.Minute)
		if got, want := h.Status(), (cache.Status{State: cache.Fresh, VersionID: v1, Age: time.Minute}); got != want {
			t.Errorf("Status = %+v, want %+v", got, want)
		}
		srv.Inject(smtest.Fault{Err: smtest.Throttling})
		_, err := c.Refresh(t.Context(), "prod/db")
		time.Sleep(time.Second)
		_, err2 := c.Refresh(t.Context(), "prod/db")
		got := h.Status()
		if err == nil || !errors.Is(err2, got.Err) || got.Failures != 2 || got.State != cache.Fresh {
			t.Errorf("Status = %+v, want the error %v", got, err2)
		}
		srv.ResetCalls()
		time.Sleep(time.Hour)
		if got := h.Status(); got.State != cache.Expired {
			t.Errorf("Status = %+v", got)
		}
		synctest.Wait()
		calls(t, srv, 0)
		c.Close()
		if got := h.Status(); got.State != cache.Dead || !errors.Is(got.Err, cache.ErrClosed) {
			t.Errorf("Status after Close: %+v", got)
		}
	})
}

// Validate keeps a version out that would break the program: the last good one
// stays, as long as in an outage.
func TestValidateKeepsTheLastGoodVersion(t *testing.T) {
	var b bytes.Buffer
	asked := 0
	opts := &cache.Options{
		Logger: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Validate: func(s *cache.Secret) error {
			asked++
			if strings.HasPrefix(s.Text(), "bad") {
				return errors.New("no host in it")
			}
			return nil
		},
		OnChange: func(from, to *cache.Secret) {
			if strings.HasPrefix(to.Text(), "bad") {
				t.Errorf("OnChange heard of %s -> %s", from.Text(), to.Text())
			}
		},
	}
	oneAttempt(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		get(t, c, "v1")
		if asked != 1 {
			t.Errorf("Validate was asked %d times about one version", asked)
		}
		bad := srv.Put("prod/db", "bad2")
		time.Sleep(5 * time.Minute)
		get(t, c, "v1")
		_, err := c.Refresh(t.Context(), "prod/db")
		if err == nil || !strings.Contains(err.Error(), "version "+bad+" was rejected by Options.Validate: no host in it") {
			t.Errorf("Refresh: %v", err)
		}
		status := c.Handle("prod/db").Status()
		if status.State != cache.Failing || status.Err == nil || c.Stats().Rejections == 0 {
			t.Errorf("Status = %+v, Stats = %+v", status, c.Stats())
		}
		synctest.Wait() // the log is written behind the answers
		for _, want := range []string{"secret not read", "no host in it", "stale secret served"} {
			if strings.Count(b.String(), want) == 0 {
				t.Errorf("the log does not say %q:\n%s", want, &b)
			}
		}
		if s, err := c.GetVersion(t.Context(), "prod/db", bad); err != nil || s.Text() != "bad2" {
			t.Errorf("GetVersion = %v, %v: it is not asked", s, err)
		}
		srv.Put("prod/db", "v3")
		time.Sleep(time.Minute)
		get(t, c, "v3")
	})
}

// On a cold start AWSPREVIOUS stands in, if that is any good, and AWSCURRENT is
// looked at again soon.
func TestValidateOnAColdStart(t *testing.T) {
	for name, test := range map[string]struct {
		previous string
		validate func(*cache.Secret) error
		want     string
	}{
		"rejected":            {"v1", func(*cache.Secret) error { return errors.New("no") }, "rejected by Options.Validate: no"},
		"panics":              {"v1", func(*cache.Secret) error { panic(sentinel) }, "rejected by Options.Validate: Options.Validate panicked with a string"},
		"previous stands in":  {"v1", validSecret, ""},
		"previous is bad too": {"bad1", validSecret, "rejected by Options.Validate: bad"},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := smtest.New(nil)
			defer srv.Close()
			srv.Put("prod/db", test.previous)
			srv.Put("prod/db", "bad2")
			c, err := cache.New(srv.Client(), &cache.Options{Validate: test.validate})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if test.want != "" {
				if _, err := c.Get(t.Context(), "prod/db"); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), sentinel) {
					t.Errorf("%s: %v, want %q", name, err, test.want)
				}
				return
			}
			get(t, c, "v1")
			calls(t, srv, 2)
			for range 100 {
				get(t, c, "v1")
			}
			calls(t, srv, 2)
			if st := c.Handle("prod/db").Status(); st.State != cache.Aging || st.Err == nil {
				t.Errorf("%s: Status = %+v", name, st)
			}
			srv.Put("prod/db", "v3")
			time.Sleep(time.Second)
			get(t, c, "v1") // has it refreshed
			synctest.Wait()
			get(t, c, "v3")
		})
	}
}

func validSecret(s *cache.Secret) error {
	if strings.HasPrefix(s.Text(), "bad") {
		return errors.New("bad")
	}
	return nil
}

// OnChange hears of each change of AWSCURRENT once, in order, one at a time, and
// nobody waits for it; it may read.
func TestOnChange(t *testing.T) {
	var c *cache.Cache
	var seen []string
	running := false
	opts := &cache.Options{OnChange: func(from, to *cache.Secret) {
		if running {
			t.Error("two calls of OnChange at the same time")
		}
		running = true
		if _, err := c.Get(t.Context(), "prod/db"); err != nil {
			t.Errorf("Get within OnChange: %v", err)
		}
		time.Sleep(10 * time.Second)
		running = false
		seen = append(seen, from.Text()+"->"+to.Text())
	}}
	bubble(t, opts, func(t *testing.T, srv *smtest.Server, cc *cache.Cache) {
		c = cc
		get(t, c, "v1")
		for _, v := range []string{"v2", "v3", "v4"} {
			time.Sleep(2 * time.Second)
			srv.Put("prod/db", v)
			start := time.Now()
			if _, err := c.Refresh(t.Context(), "prod/db"); err != nil || time.Since(start) != 0 {
				t.Errorf("Refresh: %v after %v", err, time.Since(start))
			}
			get(t, c, v)
		}
		_, _ = c.GetStage(t.Context(), "prod/db", cache.Pending)
		time.Sleep(time.Minute)
		synctest.Wait()
		if fmt.Sprint(seen) != "[v1->v2 v2->v3 v3->v4]" {
			t.Errorf("OnChange heard of %v", seen)
		}
	})
}

// The log has one line for each change of state, and none for a read.
func TestLogOfAnOutage(t *testing.T) {
	var b bytes.Buffer
	opts := &cache.Options{
		MaxStale: time.Hour,
		Logger:   slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	oneAttempt(t, opts, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		lines := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			got := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if b.Len() == 0 {
				got = nil
			}
			b.Reset()
			if len(got) != len(want) {
				t.Fatalf("%s: %d lines, want %d:\n%s", what, len(got), len(want), strings.Join(got, "\n"))
			}
			for i, line := range got {
				if !strings.Contains(line, want[i]) {
					t.Errorf("%s: %q, want %q", what, line, want[i])
				}
			}
		}
		read := func(d time.Duration) {
			for range 1000 {
				_, _ = c.Get(t.Context(), "prod/db")
				time.Sleep(d / 1000)
			}
		}
		read(4 * time.Minute)
		lines("healthy")
		remove := srv.Inject(smtest.Fault{Err: smtest.Throttling})
		read(10 * time.Minute)
		lines("outage", `level=WARN msg="secret not read" secret_id=prod/db stage=AWSCURRENT version_id=`, `level=WARN msg="stale secret served"`)
		remove()
		remove = srv.Inject(smtest.Fault{Err: smtest.AccessDenied})
		read(10 * time.Minute)
		lines("denied", `level=WARN msg="secret not read"`)
		remove()
		read(10 * time.Minute)
		lines("over", `level=INFO msg="secret read again" secret_id=prod/db stage=AWSCURRENT`)
		remove = srv.Inject(smtest.Fault{Err: smtest.InternalServiceError})
		read(10 * time.Minute)
		lines("again", `level=WARN msg="secret not read"`, `level=WARN msg="stale secret served"`)
		remove()
	})
}
