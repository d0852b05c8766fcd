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
		defer e.tellChange()
		return f(e)
	}
	defer leader.tellChange()
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
	if leader := c.readerLocked(k); leader != nil && k.version == "" && leader.leader.Load() == nil {
		leader.followers = append(leader.followers, e)
		e.leader.Store(leader)
		e.last.Store(leader.last.Load())
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
		c.disownLocked(e, "")
		c.counters.evictions.Add(1)
		return true
	}
	c.hand = (c.hand + looks) % len(c.ring)
	return false
}

// found takes note of what the entry's secret ID was found to mean, and tells
// those that it answers for what is known now. It returns what has changed for
// them, if it has. The caller holds e.mu.
func (c *Cache) found(e *entry, arn string) (ch *change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if arn != "" && arn != e.arn {
		c.disownLocked(e, arn)
		e.arn = arn
	}
	if e.arn != "" && e.key.version == "" {
		ch = c.linkLocked(e)
	}
	if e.leader.Load() == nil {
		o := e.last.Load()
		for _, f := range e.followers {
			f.last.Store(o)
		}
	}
	return ch
}

// linkLocked has one entry read for all that were found to mean the same secret:
// the one of its name, if there is one. What cannot be linked now, because it is
// at a read, is when that has ended.
func (c *Cache) linkLocked(e *entry) (ch *change) {
	reader := c.readerLocked(key{id: e.arn, stage: e.key.stage})
	switch {
	case reader == nil && e.key.id != e.arn && e.key.stage == "":
		c.arns[e.arn] = e
	case reader != nil && reader != e && !isARN(e.key.id) && e.key.stage == "" && reader.mu.TryLock():
		// Until now an ARN without its end has read for the whole one.
		c.arns[e.arn] = e
		for _, f := range reader.followers {
			f.leader.Store(e)
		}
		e.followers, reader.followers = append(e.followers, reader.followers...), nil
		ch = c.followLocked(reader, e)
		reader.mu.Unlock()
	case reader != nil && reader != e && isARN(e.key.id) && reader.mu.TryLock():
		ch = c.followLocked(e, reader)
		reader.mu.Unlock()
	}
	// What was read by the ARN alone until now.
	if f := c.table.Load().find(key{id: e.arn, stage: e.key.stage}); f != nil && f != e && e.leader.Load() == nil && f.mu.TryLock() {
		if other := c.followLocked(f, e); other != nil {
			ch = other
		}
		f.mu.Unlock()
	}
	return ch
}

// readerLocked returns the entry that reads for the full ARN in k, or nil.
func (c *Cache) readerLocked(k key) *entry {
	reader := c.arns[k.id]
	if reader != nil && k.stage != "" {
		reader = c.table.Load().find(key{id: reader.key.id, stage: k.stage})
	}
	if reader == nil || reader.arn != k.id {
		return nil
	}
	return reader
}

// followLocked makes leader read for f, if f is not at a read. Both know the same
// secret: the later word counts. It returns what that changes for one of them, if
// it does. The caller holds the mu of both.
func (c *Cache) followLocked(f, leader *entry) (ch *change) {
	if f.flight != nil || f.gone || leader.gone || f.leader.Load() != nil || leader.leader.Load() != nil {
		return nil
	}
	own, theirs := f.last.Load(), leader.last.Load()
	switch {
	case own == nil || own.flight <= leader.floor:
	case theirs != nil && theirs.flight >= own.flight:
		ch = changed(f.key, own, theirs)
	case own.fail == nil || theirs == nil:
		ch = changed(leader.key, theirs, own)
		leader.last.Store(own)
	default: // a failure, which may be a denial, of what the leader holds
		merged := *theirs
		merged.flight, merged.began, merged.fail, merged.quiet = own.flight, own.began, own.fail, 0
		leader.last.Store(&merged)
	}
	leader.followers = append(append(leader.followers, f), f.followers...)
	for _, other := range leader.followers {
		other.leader.Store(leader)
		other.last.Store(leader.last.Load())
	}
	f.followers = nil
	return ch
}

// knownARN returns what the entry's secret ID was last found to mean, by whoever
// reads for it. The caller holds the Cache's mu.
func (e *entry) knownARN() string {
	if leader := e.leader.Load(); leader != nil {
		return leader.arn
	}
	return e.arn
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

// disownLocked makes all that an entry answers for answer for themselves, but for
// those that may mean the ARN: one without its end does not say which secret.
func (c *Cache) disownLocked(e *entry, arn string) {
	var kept []*entry
	for _, f := range e.followers {
		if arn != "" && means(f.key.id, arn) {
			kept = append(kept, f)
		} else {
			f.leader.Store(nil)
		}
	}
	e.followers = kept
	if c.arns[e.arn] == e {
		delete(c.arns, e.arn)
	}
	e.arn = ""
}
