package cache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/smtest"
)

// watching returns client, and has see called with the context of every call.
func watching(client cache.API, see func(context.Context)) cache.API {
	return clientFunc(func(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
		see(ctx)
		return client.GetSecretValue(ctx, in, opts...)
	})
}

// manySecrets returns a client with n secrets s0, s1, .. and what counts its calls.
func manySecrets(n int) cache.API {
	values := make(map[string]string)
	for i := range n {
		values[fmt.Sprint("s", i)] = fmt.Sprint("value ", i)
	}
	return cache.Static(values)
}

func mustGet(t *testing.T, c *cache.Cache, i int) {
	t.Helper()
	if s, err := c.Get(t.Context(), fmt.Sprint("s", i)); err != nil || s.Text() != fmt.Sprint("value ", i) {
		t.Fatalf("Get(s%d) = %v, %v", i, s, err)
	}
}

// However many secrets are read, so many are held; each read is right, and what is
// read again and again stays.
func TestMaxEntries(t *testing.T) {
	for _, max := range []int{1, 2, 7, 100} {
		c, err := cache.New(manySecrets(1000), &cache.Options{MaxEntries: max})
		if err != nil {
			t.Fatal(err)
		}
		for round := range 3 {
			for i := range 1000 {
				mustGet(t, c, i)
				if max > 1 {
					mustGet(t, c, 0)
				}
			}
			if got := c.Stats(); got.Entries != max {
				t.Errorf("round %d: %d entries, want %d", round, got.Entries, max)
			}
		}
		// s0 is read once; of the others, what a round begins with may be what the
		// round before ended with.
		if n := c.Stats().Calls; n > 3000 || max > 1 && n > 3*999+1 {
			t.Errorf("MaxEntries %d: %d calls; what is read all the time was evicted", max, n)
		}
		c.Close()
	}
}

func TestMaxEntriesOff(t *testing.T) {
	c, err := cache.New(manySecrets(5000), &cache.Options{MaxEntries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		for i := range 5000 {
			mustGet(t, c, i)
		}
	}
	if got := c.Stats(); got.Entries != 5000 || got.Calls != 5000 || got.Evictions != 0 {
		t.Errorf("Stats = %+v", got)
	}
}

// A handle outlives the eviction of its secret, and shares with everybody else
// again once it has to read.
func TestHandleOutlivesEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := cache.New(manySecrets(10), &cache.Options{MaxEntries: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		h := c.Handle("s0")
		for i := range 10 {
			mustGet(t, c, i)
		}
		if c.Stats().Evictions == 0 {
			t.Fatal("nothing was evicted")
		}
		time.Sleep(time.Hour)
		before := c.Stats().Calls
		if s, err := h.Get(t.Context()); err != nil || s.Text() != "value 0" {
			t.Errorf("Get = %v, %v", s, err)
		}
		mustGet(t, c, 0)
		if n := c.Stats().Calls - before; n != 1 {
			t.Errorf("%d calls by the handle and the cache", n)
		}
		if s, ok := h.Peek(); !ok || s.Text() != "value 0" {
			t.Errorf("Peek = %v, %v", s, ok)
		}
	})
}

// A secret whose call is under way is not evicted: its readers, and those that
// come, share that call.
func TestFlightsAreNotEvicted(t *testing.T) {
	bubble(t, &cache.Options{MaxEntries: 1}, func(t *testing.T, srv *smtest.Server, c *cache.Cache) {
		srv.Put("prod/other", "other")
		srv.Inject(smtest.Fault{SecretID: "prod/db", Delay: time.Second})
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "v1") })
		synctest.Wait()
		if _, err := c.Get(t.Context(), "prod/other"); err != nil {
			t.Error(err)
		}
		wg.Go(func() { get(t, c, "v1") })
		wg.Wait()
		calls(t, srv, 2)
		for range 3 {
			if _, err := c.Get(t.Context(), "prod/other"); err != nil {
				t.Error(err)
			}
		}
		if n := c.Stats().Entries; n > 2 {
			t.Errorf("%d entries", n)
		}
	})
}

// Readers of a table that grows, and that entries leave, find the right ones.
func TestReadersBesideWriters(t *testing.T) {
	for _, max := range []int{8, 64, -1} {
		c, err := cache.New(manySecrets(300), &cache.Options{MaxEntries: max})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 600 {
					n := (i*7 + g*13) % 300
					s, err := c.Get(t.Context(), fmt.Sprint("s", n))
					if err != nil || s.Text() != fmt.Sprint("value ", n) {
						t.Errorf("Get(s%d) = %v, %v", n, s, err)
					}
					if i%50 == 0 {
						c.Invalidate(fmt.Sprint("s", n))
						for range c.Statuses() {
							break
						}
					}
				}
			})
		}
		wg.Wait()
		if got := c.Stats().Entries; max > 0 && got > max+8 {
			t.Errorf("%d entries, want %d", got, max)
		}
		c.Close()
	}
}
