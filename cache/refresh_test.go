package cache_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

func TestRefreshReadsAtOnceAndNotTooOften(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		srv.Put("prod/db", "v2")
		if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v1" {
			t.Errorf("Refresh within MinRefresh = %v, %v, want what is held", s, err)
		}
		calls(t, srv, 1)
		time.Sleep(time.Second)
		if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v2" {
			t.Errorf("Refresh = %v, %v, want v2", s, err)
		}
		calls(t, srv, 2)
		get(t, c, "v2")
	})
}

// A failure is told at once, and asked about again once MinRefresh has passed.
func TestRefreshAfterAFailure(t *testing.T) {
	for _, fault := range []*smtest.Error{smtest.AccessDenied, smtest.Throttling} {
		synctest.Test(t, func(t *testing.T) {
			srv := smtest.New(nil)
			defer srv.Close()
			srv.Put("prod/db", "v1")
			c, err := cache.New(srv.Client(func(o *secretsmanager.Options) { o.RetryMaxAttempts = 1 }), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			remove := srv.Inject(smtest.Fault{Err: fault})
			start := time.Now()
			for i := range 3 {
				for range 10 {
					if _, err := c.Refresh(t.Context(), "prod/db"); err == nil {
						t.Fatal("Refresh succeeded against a failure")
					}
				}
				calls(t, srv, i+1)
				time.Sleep(time.Second)
			}
			remove()
			if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v1" {
				t.Errorf("Refresh = %v, %v", s, err)
			}
			if time.Since(start) != 3*time.Second {
				t.Errorf("the refreshes took %v beside the test's own 3s; they must not sleep", time.Since(start)-3*time.Second)
			}
		})
	}
}

// A value is good until its TTL, whatever becomes of a forced read.
func TestFailedRefreshTakesNothingAway(t *testing.T) {
	for _, fault := range []*smtest.Error{smtest.AccessDenied, smtest.InternalServiceError} {
		bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
			get(t, c, "v1")
			time.Sleep(time.Minute)
			remove := srv.Inject(smtest.Fault{Err: fault})
			if _, err := c.Refresh(t.Context(), "prod/db"); err == nil {
				t.Error("Refresh succeeded")
			}
			srv.ResetCalls()
			get(t, c, "v1")
			calls(t, srv, 0)
			remove()
		})
	}
}

// A flight that began before the call may have seen the labels as they were: it
// is waited out, and its successor is shared.
func TestRefreshTakesNoOlderFlight(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(5 * time.Minute)
		// The TTL's own read: it sees v1, and its answer takes 2 s.
		remove := srv.Inject(smtest.Fault{DelayAnswer: 2 * time.Second, Times: 1})
		defer remove()
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "v1") })
		synctest.Wait()
		srv.Put("prod/db", "v2")
		for range 10 {
			wg.Go(func() {
				if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v2" {
					t.Errorf("Refresh = %v, %v, want v2", s, err)
				}
			})
		}
		wg.Wait()
		calls(t, srv, 3)
	})
}

func TestRefreshIf(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v1 := get(t, c, "v1")
		srv.Put("prod/db", "v2")
		time.Sleep(time.Second)
		srv.Inject(smtest.Fault{Delay: time.Second})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if s, err := c.RefreshIf(t.Context(), "prod/db", v1.VersionID()); err != nil || s.Text() != "v2" {
					t.Errorf("RefreshIf = %v, %v, want v2", s, err)
				}
			})
		}
		wg.Wait()
		calls(t, srv, 2)
		if s, err := c.RefreshIf(t.Context(), "prod/db", v1.VersionID()); err != nil || s.Text() != "v2" {
			t.Errorf("RefreshIf of a version no longer held = %v, %v", s, err)
		}
		calls(t, srv, 2)
	})
}

func TestRefreshAfter(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(time.Millisecond)
		refused := time.Now()
		srv.Put("prod/db", "v2")
		time.Sleep(time.Millisecond)
		for range 10 { // however many ask, and although MinRefresh has not passed
			s, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, refused)
			if err != nil || s.Text() != "v2" || !s.Fetched().After(refused) {
				t.Fatalf("RefreshAfter = %v, %v", s, err)
			}
		}
		calls(t, srv, 2)

		// A failure counts as an answer too, and says when it was given.
		for range 10 {
			_, err := c.RefreshAfter(t.Context(), "prod/db", cache.Pending, refused)
			failed, ok := errors.AsType[*cache.Error](err)
			if !ok || !errors.Is(err, cache.ErrNotFound) || !failed.Began.After(refused) {
				t.Fatalf("RefreshAfter(AWSPENDING): %v", err)
			}
		}
		calls(t, srv, 3)

		// An instant that has not come means now, not for ever.
		if s, err := c.RefreshAfter(t.Context(), "prod/db", cache.Current, time.Now().Add(time.Hour)); err != nil || s.Text() != "v2" {
			t.Errorf("RefreshAfter(in an hour) = %v, %v", s, err)
		}
		calls(t, srv, 4)
	})
}

func TestLabelThatMovesBackIsConfirmed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		v1 := get(t, c, "v1")
		time.Sleep(time.Minute)
		srv.Put("prod/db", "v2")
		v2, err := c.Refresh(t.Context(), "prod/db")
		if err != nil || v2.Text() != "v2" {
			t.Fatalf("Refresh = %v, %v", v2, err)
		}

		// A stale read: the service answers once from before the change. The
		// label is put back for that one read.
		move := func(to, from string) {
			_, err := srv.Client().UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
				SecretId: aws.String("prod/db"), VersionStage: aws.String(cache.Current),
				MoveToVersionId: aws.String(to), RemoveFromVersionId: aws.String(from),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		move(v1.VersionID(), v2.VersionID())
		remove := srv.Inject(smtest.Fault{Operation: "GetSecretValue", Times: 1, DelayAnswer: time.Second})
		srv.ResetCalls()
		var wg sync.WaitGroup
		wg.Go(func() {
			if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v2" {
				t.Errorf("after a stale read: %v, %v, want v2", s, err)
			}
		})
		synctest.Wait()
		remove()
		move(v2.VersionID(), v1.VersionID())
		wg.Wait()
		calls(t, srv, 2)

		// A real rollback: the second read says the same.
		time.Sleep(time.Minute)
		move(v1.VersionID(), v2.VersionID())
		if s, err := c.Refresh(t.Context(), "prod/db"); err != nil || s.Text() != "v1" {
			t.Errorf("after a rollback: %v, %v, want v1", s, err)
		}
		calls(t, srv, 4)
	})
}
