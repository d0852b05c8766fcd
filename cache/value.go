package cache

import (
	"context"
	"sync/atomic"
)

// A Value is something made from a secret, once for each of its versions. It is
// safe for concurrent use and valid as long as its Cache.
type Value[T any] struct {
	handle *Handle
	derive func(*Secret) (T, error)
	last   atomic.Pointer[derived[T]] // what was made last
	making atomic.Pointer[derived[T]] // what is being made
}

// derived is what was made from one version.
type derived[T any] struct {
	secret *Secret
	done   chan struct{} // closed when the fields below are set
	ok     bool          // false if derive panicked: it is to be made again
	value  T
	err    error
}

// of reports whether d will do for s. What was made of a later read will: a
// reader that was slow must not have the old version made again.
func (d *derived[T]) of(s *Secret) bool {
	return d.secret.versionID == s.versionID || d.secret.fetched.After(s.fetched)
}

// Derive returns a [Value] that f makes from the AWSCURRENT version: f is called
// when a read first sees a version, by one reader while the others wait, and its
// result or error stands as long as that version does. f may read other secrets.
// To keep a version that f cannot make anything of from being taken at all, see
// Options.Validate.
func Derive[T any](c *Cache, secretID string, f func(*Secret) (T, error)) *Value[T] {
	return &Value[T]{handle: c.Handle(secretID), derive: f}
}

// JSON returns a [Value] that is the secret decoded as JSON, by [Secret.Decode].
// The decoded T is shared by all readers, who must not change what it points to,
// and prints what it holds: give its fields the type [Redacted] where they are
// secret.
func JSON[T any](c *Cache, secretID string) *Value[T] {
	return Derive(c, secretID, func(s *Secret) (v T, err error) {
		err = s.Decode(&v)
		return v, err
	})
}

// Get returns what was made from the version that [Cache.Get] returns, and waits
// as that does. The error is that one's, or of the function that makes the value.
func (v *Value[T]) Get(ctx context.Context) (T, error) {
	s, err := v.handle.Get(ctx)
	if err != nil {
		var none T
		return none, err
	}
	if d := v.last.Load(); d != nil && d.of(s) {
		return d.value, d.err
	}
	return v.make(ctx, s)
}

// make has the value made, or waits for who does.
func (v *Value[T]) make(ctx context.Context, s *Secret) (T, error) {
	for {
		d := v.making.Load()
		if d == nil || !d.of(s) {
			next := &derived[T]{secret: s, done: make(chan struct{})}
			if v.making.CompareAndSwap(d, next) {
				return v.run(next)
			}
			continue
		}
		select {
		case <-d.done:
			if d.ok {
				return d.value, d.err
			}
			v.making.CompareAndSwap(d, nil)
		case <-ctx.Done():
			var none T
			return none, v.handle.entry.Load().gaveUp(ctx, opGet)
		}
	}
}

// run makes the value. A panic is the caller's, and leaves it to the next reader.
func (v *Value[T]) run(d *derived[T]) (T, error) {
	defer close(d.done)
	d.value, d.err = v.derive(d.secret)
	d.ok = true
	v.last.Store(d)
	return d.value, d.err
}
