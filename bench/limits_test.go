package main

import (
	"fmt"
	"runtime"
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

// What is a count or a size is tested here. What is a time is not, anywhere: that
// would fail on whatever machine is busy.

func TestFreshReadsDoNotAllocate(t *testing.T) {
	ctx := t.Context()
	one, err := newSubjects(1)
	if err != nil {
		t.Fatal(err)
	}
	many, err := newSubjects(1000)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for name, read := range map[string]func() error{
		"Get, 1 key": func() error { _, err := one.cache.Get(ctx, one.ids[0]); return err },
		"Get, 1,000 keys": func() error {
			at = (at + 1) % len(many.ids)
			_, err := many.cache.Get(ctx, many.ids[at])
			return err
		},
		"Handle.Get": func() error { _, err := one.handle.Get(ctx); return err },
		"Handle.Peek": func() error {
			if _, ok := one.handle.Peek(); !ok {
				return cache.ErrNotFound
			}
			return nil
		},
		"Value.Get": func() error { _, err := one.value.Get(ctx); return err },
	} {
		if n := testing.AllocsPerRun(2000, func() {
			if err := read(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// decoded counts how often it was.
type decoded struct{ text string }

var decodings int

func (d *decoded) UnmarshalJSON(b []byte) error {
	decodings++
	d.text = string(b)
	return nil
}

func TestValueIsDecodedOncePerVersion(t *testing.T) {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", `{"v":1}`)
	c, err := cache.New(srv.Client(), &cache.Options{MinRefresh: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	v := cache.JSON[decoded](c, "prod/db")
	decodings = 0
	for version := range 3 {
		want := fmt.Sprintf(`{"v":%d}`, version+1)
		srv.Put("prod/db", want)
		if _, err := c.Refresh(t.Context(), "prod/db"); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if got, err := v.Get(t.Context()); err != nil || got.text != want {
				t.Fatalf("Get = %q, %v, want %q", got.text, err, want)
			}
		}
		if decodings != version+1 {
			t.Errorf("%d versions were decoded %d times", version+1, decodings)
		}
	}
}

// The calls that a cold cache makes, over the SDK's own client.
func TestColdReads(t *testing.T) {
	ids := names(0, 20)
	for name, test := range map[string]struct {
		read func(t *testing.T, c *cache.Cache)
		want string // the calls
	}{
		"one reader": {func(t *testing.T, c *cache.Cache) {
			if _, err := c.Get(t.Context(), ids[0]); err != nil {
				t.Error(err)
			}
		}, "GetSecretValue"},
		"100 readers": {func(t *testing.T, c *cache.Cache) {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if _, err := c.Get(t.Context(), ids[0]); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}, "GetSecretValue"},
		"prefetch of 20": {func(t *testing.T, c *cache.Cache) {
			if err := c.Prefetch(t.Context(), ids...); err != nil {
				t.Error(err)
			}
			for _, id := range ids {
				if _, err := c.Get(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		}, "BatchGetSecretValue"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := smtest.New(nil)
				defer srv.Close()
				for _, id := range ids {
					srv.Put(id, "v1")
				}
				srv.Inject(smtest.Fault{Delay: time.Second})
				c, err := cache.New(srv.Client(), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				test.read(t, c)
				var made []string
				for _, call := range srv.Calls() {
					made = append(made, call.Operation)
				}
				if got := strings.Join(made, " "); got != test.want {
					t.Errorf("calls %q, want %q", got, test.want)
				}
			})
		})
	}
}

// The bounds are those of 10,000 secrets of 1 KiB, overhead of the table included.
func TestHeapPerSecret(t *testing.T) {
	held, rotated, err := heapPerSecret(10_000)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a secret of 1 KiB takes %.0f bytes of heap, rotated once %.0f", held, rotated)
	if held > 2048 {
		t.Errorf("a secret of 1 KiB takes %.0f bytes of heap, want 2048 at most", held)
	}
	if rotated > 3584 {
		t.Errorf("a secret of 1 KiB that was rotated once takes %.0f bytes of heap, want 3584 at most", rotated)
	}
}

// Each insertion into a full cache drives one entry out, and no read does.
func TestEviction(t *testing.T) {
	const entries, more = 1000, 5000
	f, err := newFull(entries)
	if err != nil {
		t.Fatal(err)
	}
	defer f.cache.Close()
	if err := f.insert(names(f.next, more)); err != nil {
		t.Fatal(err)
	}
	stats := f.cache.Stats()
	if stats.Entries != entries || stats.Evictions != more {
		t.Errorf("%d entries and %d evictions after %d insertions, want %d and %d", stats.Entries, stats.Evictions, entries+more, entries, more)
	}
	for range 10 {
		for id := range f.cache.Statuses() {
			if _, err := f.cache.Get(t.Context(), strings.Clone(id)); err != nil {
				t.Fatal(err)
			}
			if _, ok := f.cache.Handle(id).Peek(); !ok {
				t.Fatalf("%s is not held", id)
			}
		}
	}
	if after := f.cache.Stats(); after != stats {
		t.Errorf("reads of what is held changed %+v into %+v", stats, after)
	}
}

// What an insertion into a full cache allocates, its share of the tables that are
// made anew included, does not depend on how much is held.
func TestEvictionAllocatesTheSameWhateverIsHeld(t *testing.T) {
	const more = 20_000
	var bytes [2]uint64 // per insertion
	for i, entries := range []int{1000, 10_000} {
		f, err := newFull(entries)
		if err != nil {
			t.Fatal(err)
		}
		defer f.cache.Close()
		ids := names(f.next, more)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := f.insert(ids); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		bytes[i] = (after.TotalAlloc - before.TotalAlloc) / more
	}
	t.Logf("an insertion allocates %d bytes with 1,000 entries held, and %d with 10,000", bytes[0], bytes[1])
	if bytes[1] > bytes[0]*5/4 {
		t.Errorf("an insertion allocates %d bytes with 1,000 entries held, and %d with 10,000", bytes[0], bytes[1])
	}
}

// The client of the measurements answers like the service, as far as it goes: what
// is measured is not a cache that found fault with its answers.
func TestClient(t *testing.T) {
	c := &client{size: 1024}
	c.version.Add(1)
	id := names(7, 1)[0]
	if len(id) != 41 {
		t.Errorf("the secret ID %q has %d bytes, want 41", id, len(id))
	}
	out, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.Name) != id || !strings.HasPrefix(aws.ToString(out.ARN), arnPrefix+id+"-") ||
		len(aws.ToString(out.VersionId)) != 36 || len(aws.ToString(out.SecretString)) != 1024 {
		t.Errorf("the answer is %+v", out)
	}
}
