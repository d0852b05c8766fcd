package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// heap returns the bytes of the heap that are in use.
func heap() uint64 {
	// The second one frees what the first one found behind a finalizer or in a
	// sync.Pool.
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// heapPerSecret returns how many bytes of heap a secret with a value of 1 KiB costs
// in a cache of n, and how many when each was rotated once: then the version before
// is held too. The strings of the caller are not counted.
func heapPerSecret(n int) (held, rotated float64, err error) {
	ctx := context.Background()
	ids, service := names(0, n), &client{size: 1024}
	before := heap()
	c, err := cache.New(service, &cache.Options{MaxEntries: n, MinRefresh: -1})
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	for _, id := range ids {
		if _, err := c.Get(ctx, id); err != nil {
			return 0, 0, err
		}
	}
	held = float64(heap()-before) / float64(n)
	service.version.Add(1)
	for _, id := range ids {
		if _, err := c.Refresh(ctx, id); err != nil {
			return 0, 0, err
		}
	}
	rotated = float64(heap()-before) / float64(n)
	if stats := c.Stats(); stats.Entries != n || stats.Changes != uint64(n) {
		err = fmt.Errorf("the cache holds %d secrets, of which %d have changed, not %d", stats.Entries, stats.Changes, n)
	}
	runtime.KeepAlive(ids)
	return held, rotated, err
}

// insertion returns how long it takes to read that many secrets of 1 KiB into an
// empty cache, one after the other and by one call of Prefetch, and what the client
// alone takes for it.
func insertion(ids []string) (gets, prefetch, service time.Duration, err error) {
	ctx := context.Background()
	opts := &cache.Options{MaxEntries: len(ids)}
	one, err1 := cache.New(&client{size: 1024}, opts)
	all, err2 := cache.New(&client{size: 1024}, opts)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, 0, err
	}
	defer one.Close()
	defer all.Close()

	runtime.GC()
	start := time.Now()
	for _, id := range ids {
		if _, err := one.Get(ctx, id); err != nil {
			return 0, 0, 0, err
		}
	}
	gets = time.Since(start)

	runtime.GC()
	start = time.Now()
	if err := all.Prefetch(ctx, ids...); err != nil {
		return 0, 0, 0, err
	}
	prefetch = time.Since(start)

	runtime.GC()
	alone := &client{size: 1024}
	start = time.Now()
	for _, id := range ids {
		_ = alone.value(id)
	}
	service = time.Since(start)
	return gets, prefetch, service, nil
}

// A full cache holds as much as it may: what is put into it drives something out.
type full struct {
	cache *cache.Cache
	next  int // the number of the next secret that it has not seen
}

func newFull(entries int) (*full, error) {
	c, err := cache.New(&client{size: 16}, &cache.Options{MaxEntries: entries})
	if err != nil {
		return nil, err
	}
	f := &full{cache: c}
	return f, f.insert(names(f.next, entries))
}

// insert reads secrets that the cache has not seen.
func (f *full) insert(ids []string) error {
	for _, id := range ids {
		if _, err := f.cache.Get(context.Background(), id); err != nil {
			return err
		}
	}
	f.next += len(ids)
	return nil
}

// insertions has the full caches take turns, and returns what an insertion took in
// each turn, in nanoseconds. Each sees so many insertions that its table is made
// anew, the largest one's once or twice.
func insertions(caches []*full, turns, perTurn int) ([]series, error) {
	times := make([]series, len(caches))
	for range turns {
		for i, f := range caches {
			ids := names(f.next, perTurn)
			start := time.Now()
			if err := f.insert(ids); err != nil {
				return nil, err
			}
			times[i] = append(times[i], float64(time.Since(start))/float64(perTurn))
		}
	}
	return times, nil
}
