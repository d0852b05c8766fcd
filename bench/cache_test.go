package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/keyturn/keyturn/cache"
)

// The names are for benchstat -col=/impl: floor is the least that the read could
// cost, aws is AWS's own client.

func newBenchmark(b *testing.B, keys int) *subjects {
	b.Helper()
	s, err := newSubjects(keys)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// keyed runs f, with a read by each implementation that is asked by secret ID.
func keyed(b *testing.B, f func(b *testing.B, s *subjects, read func(ctx context.Context, id string) error)) {
	for _, keys := range []int{1, 1000} {
		s := newBenchmark(b, keys)
		for _, impl := range []struct {
			name string
			read func(ctx context.Context, id string) error
		}{
			{"floor", func(ctx context.Context, id string) error { _, err := s.floor.Get(ctx, id); return err }},
			{"keyturn", func(ctx context.Context, id string) error { _, err := s.cache.Get(ctx, id); return err }},
			{"aws", func(ctx context.Context, id string) error {
				_, err := s.aws.GetSecretStringWithContext(ctx, id)
				return err
			}},
		} {
			b.Run(fmt.Sprintf("keys=%d/impl=%s", keys, impl.name), func(b *testing.B) {
				b.ReportAllocs()
				f(b, s, impl.read)
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	keyed(b, func(b *testing.B, s *subjects, read func(context.Context, string) error) {
		ctx, at := b.Context(), 0
		for b.Loop() {
			if err := read(ctx, s.ids[at]); err != nil {
				b.Fatal(err)
			}
			if at++; at == len(s.ids) {
				at = 0
			}
		}
	})
}

// One goroutine on each processor: see -cpu.
func BenchmarkGetParallel(b *testing.B) {
	keyed(b, func(b *testing.B, s *subjects, read func(context.Context, string) error) {
		b.RunParallel(func(pb *testing.PB) {
			ctx, at := b.Context(), 0
			for pb.Next() {
				if err := read(ctx, s.ids[at]); err != nil {
					b.Error(err)
					return
				}
				if at++; at == len(s.ids) {
					at = 0
				}
			}
		})
	})
}

// The floor under a Handle is the clock.
func since(s *subjects) func(b *testing.B) {
	return func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if time.Since(s.start) < 0 {
				b.Fatal("the clock went back")
			}
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	s := newBenchmark(b, 1)
	b.Run("impl=floor", since(s))
	b.Run("impl=keyturn", func(b *testing.B) {
		b.ReportAllocs()
		ctx := b.Context()
		for b.Loop() {
			if _, err := s.handle.Get(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPeek(b *testing.B) {
	s := newBenchmark(b, 1)
	b.Run("impl=floor", since(s))
	b.Run("impl=keyturn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := s.handle.Peek(); !ok {
				b.Fatal("nothing is held")
			}
		}
	})
}

func BenchmarkValue(b *testing.B) {
	s := newBenchmark(b, 1)
	b.Run("impl=floor", since(s))
	b.Run("impl=keyturn", func(b *testing.B) {
		b.ReportAllocs()
		ctx := b.Context()
		for b.Loop() {
			if _, err := s.value.Get(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkInsert reads secrets of 1 KiB into an empty cache.
func BenchmarkInsert(b *testing.B) {
	const count = 10_000
	ids := names(0, count)
	for _, how := range []struct {
		name string
		read func(ctx context.Context, c *cache.Cache) error
	}{
		{"get", func(ctx context.Context, c *cache.Cache) error {
			for _, id := range ids {
				if _, err := c.Get(ctx, id); err != nil {
					return err
				}
			}
			return nil
		}},
		{"prefetch", func(ctx context.Context, c *cache.Cache) error { return c.Prefetch(ctx, ids...) }},
	} {
		b.Run(fmt.Sprintf("secrets=%d/by=%s", count, how.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, err := cache.New(&client{size: 1024}, &cache.Options{MaxEntries: count})
				if err != nil {
					b.Fatal(err)
				}
				if err := how.read(b.Context(), c); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkEvict reads one secret more into a full cache.
func BenchmarkEvict(b *testing.B) {
	for _, entries := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", entries), func(b *testing.B) {
			f, err := newFull(entries)
			if err != nil {
				b.Fatal(err)
			}
			defer f.cache.Close()
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				ids := names(f.next, 1000)
				b.StartTimer()
				if err := f.insert(ids); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/1000, "ns/insert")
		})
	}
}
