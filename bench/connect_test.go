package main

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/retire"
)

// servers are those of the tests, started when the first of them wants them.
var servers = sync.OnceValues(func() (*arena, error) {
	started = true
	return newArena(context.Background())
})

var started bool

func TestMain(m *testing.M) {
	code := m.Run()
	if started {
		if a, _ := servers(); a.close() != nil {
			code = 1
		}
	}
	os.Exit(code)
}

func contests(tb testing.TB) []contest {
	tb.Helper()
	a, err := servers()
	if err != nil {
		tb.Fatal(err)
	}
	return a.contests
}

func BenchmarkConnect(b *testing.B) {
	for _, c := range contests(b) {
		for impl, open := range map[string]opener{"bare": c.bare, "keyturn": c.keyturn} {
			b.Run(strings.ReplaceAll(c.name, ", ", "/")+"/impl="+impl, func(b *testing.B) {
				b.ReportAllocs()
				cpu := processorTime()
				for b.Loop() {
					if err := open(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(processorTime()-cpu)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// A connect through Keyturn allocates little more than the driver's own.
func TestConnectAllocations(t *testing.T) {
	for _, c := range contests(t) {
		var n [2]float64
		for i, open := range []opener{c.bare, c.keyturn} {
			n[i] = testing.AllocsPerRun(50, func() {
				if err := open(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		}
		t.Logf("%s: %v allocations, the driver alone %v", c.name, n[1], n[0])
		if n[1] > n[0]+c.allocations {
			t.Errorf("%s: %v allocations more than the driver's, want %v at most", c.name, n[1]-n[0], c.allocations)
		}
	}
}

// What Keyturn costs a query on an open connection: the question at checkout
// whether it is to make room.
func BenchmarkCheckout(b *testing.B) {
	c, err := cache.New(cache.Static(map[string]string{"prod/db": "{}"}), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	h := c.Handle("prod/db")
	s, err := h.Get(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	conn := retire.New(retire.Options{Cache: c, Handle: h}).Open(s)
	b.ReportAllocs()
	for b.Loop() {
		if conn.Retired() {
			b.Fatal("retired")
		}
	}
}
