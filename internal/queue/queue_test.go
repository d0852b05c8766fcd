package queue_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/queue"
)

// In order, one at a time, on the goroutine that is given, and the one who posts
// does not wait.
func TestPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		var seen []int
		calling := false
		var q *queue.Queue[int]
		q = queue.New(func(v int) {
			if calling {
				t.Error("two calls at a time")
			}
			calling = true
			time.Sleep(time.Second)
			calling = false
			if seen = append(seen, v); v == 1 {
				q.Post(100) // calls back in
			}
		}, func(f func()) bool { wg.Go(f); return true })
		start := time.Now()
		for i := range 3 {
			q.Post(i)
		}
		if time.Since(start) != 0 {
			t.Errorf("posting took %v", time.Since(start))
		}
		wg.Wait()
		if fmt.Sprint(seen) != "[0 1 2 100]" {
			t.Errorf("called with %v", seen)
		}
	})
}

// Where nothing may run in the background, the one who posts calls.
func TestPostWithoutAGoroutine(t *testing.T) {
	for _, spawn := range []func(func()) bool{nil, func(func()) bool { return false }} {
		var seen []int
		q := queue.New(func(v int) { seen = append(seen, v) }, spawn)
		q.Post(1)
		q.Post(2)
		if fmt.Sprint(seen) != "[1 2]" {
			t.Errorf("called with %v by the time Post returned", seen)
		}
	}
}

func TestPanicLeavesTheRest(t *testing.T) {
	var seen []int
	q := queue.New(func(v int) {
		if v == 1 {
			panic("no")
		}
		seen = append(seen, v)
	}, nil)
	func() {
		defer func() { _ = recover() }()
		q.Post(1)
	}()
	q.Post(2)
	if fmt.Sprint(seen) != "[2]" {
		t.Errorf("called with %v after a panic", seen)
	}
}

// What does not keep up loses the oldest, and does not grow.
func TestLimit(t *testing.T) {
	var run func()
	var seen []int
	q := queue.New(func(v int) { seen = append(seen, v) }, func(f func()) bool { run = f; return true })
	for i := range 5000 {
		q.Post(i)
	}
	run()
	if len(seen) != 1024 || seen[1023] != 4999 {
		t.Errorf("%d calls, the last with %d", len(seen), seen[len(seen)-1])
	}
}
