package cache_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

func TestStatuses(t *testing.T) {
	named(t, &cache.Options{MaxStale: time.Hour}, func(t *testing.T, srv *smtest.Server, c *cache.Cache, arn string) {
		states := func() map[string]cache.State {
			got := make(map[string]cache.State)
			for id, status := range c.Statuses() {
				if _, twice := got[id]; twice {
					t.Errorf("%q is there twice", id)
				}
				got[id] = status.State
				// The loop may call the Cache, which must not lead to more of it.
				c.Handle("made in the loop")
				if h := c.Handle(id).Status(); h.State != status.State || h.VersionID != status.VersionID || h.Age != status.Age ||
					h.Failures != status.Failures || (h.Err == nil) != (status.Err == nil) {
					t.Errorf("%q: %+v, and of its Handle %+v", id, status, h)
				}
			}
			return got
		}
		want := func(when string, want map[string]cache.State) {
			t.Helper()
			if got := states(); !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		want("New", map[string]cache.State{})
		srv.Put("prod/api", "key")
		_ = c.Handle("prod/api") // not read yet
		get(t, c, "v1")
		wantText(t, c, arn, "v1")
		_, _ = c.Get(t.Context(), "prod/none")
		_, _ = c.GetStage(t.Context(), "prod/api", cache.Pending)
		_, _ = c.GetVersion(t.Context(), "prod/api", "none")
		want("read", map[string]cache.State{"prod/db": cache.Fresh, arn: cache.Fresh, "prod/none": cache.Dead})
		srv.Inject(smtest.Fault{Err: smtest.Throttling})
		time.Sleep(5 * time.Minute)
		get(t, c, "v1") // expired: it waits for the answer
		want("throttled", map[string]cache.State{"prod/db": cache.Failing, arn: cache.Failing, "prod/none": cache.Dead})
		for id, status := range c.Statuses() {
			if status.Err == nil {
				t.Errorf("%q: no error", id)
			}
		}
		for range c.Statuses() {
			break // which must not panic
		}
		n := 0
		for range c.Statuses() {
			n++
			c.Close()
		}
		if n != 1 {
			t.Errorf("%d after Close, in the loop or before it; want none", n-1)
		}
		want("closed", map[string]cache.State{})
	})
}

// A secret that nobody reads any more is dead in the end; that nothing failed must
// be there to see, or each alert on dead secrets would be a false one.
func TestStatusesOfWhatNobodyReads(t *testing.T) {
	oneAttempt(t, nil, func(t *testing.T, _ *smtest.Server, c *cache.Cache) {
		get(t, c, "v1")
		time.Sleep(48 * time.Hour)
		for id, status := range c.Statuses() {
			if status.State != cache.Dead || status.Err != nil || status.Age != 48*time.Hour {
				t.Errorf("%q: %+v, want dead without an error", id, status)
			}
		}
	})
}

// How many secrets are in which state, for whatever collects metrics.
func ExampleCache_Statuses() {
	srv, client := service()
	defer srv.Close()
	c := must(cache.New(client, nil))
	defer c.Close()
	must(c.Get(context.Background(), "prod/api"))
	_, _ = c.Get(context.Background(), "prod/misspelt")

	secrets, failed := make(map[cache.State]int), 0
	for _, status := range c.Statuses() {
		secrets[status.State]++
		if status.Err != nil {
			failed++
		}
	}
	fmt.Println(secrets[cache.Fresh], "fresh,", secrets[cache.Dead], "dead,", failed, "failed")
	// Output: 1 fresh, 1 dead, 1 failed
}
