// Package queue calls a user's function for one thing after the other: in order,
// one call at a time, and with no lock held, so that it may call back in.
package queue

import "sync"

// limit bounds what waits for a function that does not keep up. The oldest go.
const limit = 1024

// A Queue hands what is posted to a function. It is safe for concurrent use.
type Queue[T any] struct {
	call  func(T)
	spawn func(func()) bool

	mu      sync.Mutex // protects following; not held during a call
	waiting []T
	running bool // somebody is calling
}

// New returns a Queue that calls call. It does so on the goroutine that spawn
// starts or, if spawn is nil or reports that it starts none, on that of whoever
// posts. spawn is called with no lock held.
func New[T any](call func(T), spawn func(func()) bool) *Queue[T] {
	return &Queue[T]{call: call, spawn: spawn}
}

// Post has v handed to the function. If somebody is at that already, it is left
// to them.
func (q *Queue[T]) Post(v T) {
	q.mu.Lock()
	if len(q.waiting) == limit {
		q.waiting = q.waiting[1:]
	}
	q.waiting = append(q.waiting, v)
	if q.running {
		q.mu.Unlock()
		return
	}
	q.running = true
	q.mu.Unlock()
	if q.spawn == nil || !q.spawn(q.run) {
		q.run()
	}
}

// run calls until nothing waits. A function that panics leaves the rest to the
// next who posts.
func (q *Queue[T]) run() {
	ended := false
	defer func() {
		if !ended {
			q.mu.Lock()
			q.running = false
			q.mu.Unlock()
		}
	}()
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.waiting = nil
			q.running, ended = false, true
			q.mu.Unlock()
			return
		}
		v := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		q.call(v)
	}
}
