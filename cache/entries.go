package cache

import (
	"errors"
	"slices"
)

// errMoved says that an entry does not answer for its key any more: it was
// evicted, or another one answers for it. The key is to be looked up again.
var errMoved = errors.New("cache: entry moved")

// read has f ask the entry for k.
func (c *Cache) read(k key, f func(*entry) (*Secret, error)) (*Secret, error) {
	for {
		e := c.entry(k)
		s, err := e.do(f)
		if err != errMoved { //nolint:errorlint // It is never wrapped.
			return s, err
		}
	}
}

// do has f ask the entry, or the one that answers for it.
func (e *entry) do(f func(*entry) (*Secret, error)) (*Secret, error) {
	leader := e.leader.Load()
	if leader == nil {
		return f(e)
	}
	s, err := f(leader)
	// The name may mean another secret by now, of the same name but another ARN.
	if err == errMoved || err == nil && !e.cache.same(s.arn, e.key.id) { //nolint:errorlint // As above.
		e.cache.part(e)
		return nil, errMoved
	}
	return s, e.named(err)
}

// entry returns the entry for k, which is made if there is none.
func (c *Cache) entry(k key) *entry {
	if e := c.table.Load().find(k); e != nil {
		return e
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.table.Load()
	if e := t.find(k); e != nil {
		return e
	}
	for c.opts.MaxEntries > 0 && len(c.ring) >= c.opts.MaxEntries && c.evictLocked() {
	}
	e := &entry{cache: c, key: k}
	c.ring = append(c.ring, e)
	if !t.put(e) {
		t = newTable(2 * len(c.ring))
		for _, e := range c.ring {
			t.put(e)
		}
		c.table.Store(t)
	}
	// What was read by the secret's name answers for its ARN.
	if leader := c.arns[k.id]; leader != nil && k.version == "" {
		if k.stage != "" {
			leader = t.find(key{id: leader.key.id, stage: k.stage})
		}
		if leader != nil && leader.arn == k.id {
			leader.followers = append(leader.followers, e)
			e.leader.Store(leader)
			e.last.Store(leader.last.Load())
		}
	}
	return e
}

// evictionLooks bounds how many entries an insertion looks at.
const evictionLooks = 16

// evictLocked removes an entry that was not read since it was last looked at, or
// if there is none among the next few any one of those: what an insertion costs
// must not depend on how many are held. An entry with a call under way stays. It
// reports whether it removed one.
func (c *Cache) evictLocked() bool {
	looks := min(evictionLooks, len(c.ring))
	for i := range 2 * looks {
		at := (c.hand + i%looks) % len(c.ring)
		e := c.ring[at]
		if i < looks && e.used.Swap(false) || !e.retire() {
			continue
		}
		c.table.Load().remove(e)
		last := len(c.ring) - 1
		c.ring[at] = c.ring[last]
		c.ring[last] = nil
		c.ring = c.ring[:last]
		c.hand = at
		c.partLocked(e)
		c.disownLocked(e)
		c.counters.evictions.Add(1)
		return true
	}
	c.hand = (c.hand + looks) % len(c.ring)
	return false
}

// found takes note of what the entry's secret ID was found to mean, and tells
// those that it answers for what is known now.
func (c *Cache) found(e *entry, arn string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if arn != "" && arn != e.arn {
		c.disownLocked(e)
		e.arn = arn
	}
	if e.arn != "" && e.arn != e.key.id && e.key.version == "" {
		if e.key.stage == "" && c.arns[e.arn] == nil {
			c.arns[e.arn] = e
		}
		// What was read by the ARN alone until now.
		if f := c.table.Load().find(key{id: e.arn, stage: e.key.stage}); f != nil && f.leader.Load() == nil && f.follow(e) {
			e.followers = append(e.followers, f)
		}
	}
	o := e.last.Load()
	for _, f := range e.followers {
		f.last.Store(o)
	}
}

// part makes an entry answer for itself.
func (c *Cache) part(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partLocked(e)
}

func (c *Cache) partLocked(e *entry) {
	if leader := e.leader.Load(); leader != nil {
		leader.followers = slices.DeleteFunc(leader.followers, func(f *entry) bool { return f == e })
		e.leader.Store(nil)
	}
}

// disownLocked makes all that an entry answers for answer for themselves.
func (c *Cache) disownLocked(e *entry) {
	for _, f := range e.followers {
		f.leader.Store(nil)
	}
	e.followers = nil
	if c.arns[e.arn] == e {
		delete(c.arns, e.arn)
	}
	e.arn = ""
}
