package smtest

import (
	"bytes"
	"fmt"
	"io"
)

// A journal writes what changes to the Writer of [Options.Journal]. What has changed
// it finds out by comparison, of the secrets that were looked up, with what it wrote
// of them last: no operation has to say that it changed something, so none can
// forget to. All methods may be called on nil, the journal of a server without one.
type journal struct {
	s *Server
	w io.Writer

	// turn is a lock of one who writes. It is a channel because Write may take long.
	turn chan struct{}

	// The server's mu protects following.

	seen    map[*secret]struct{} // looked up since the last commit
	written map[*secret]*written
	next    *batch // what nobody writes yet, nil if there is nothing
	writing *batch // what is being written, nil if nothing is
	err     error  // the first failure; nothing is written after it
}

// written is what the journal has of a secret.
type written struct {
	secret   []byte // without its versions
	versions map[string]versionMark
}

// A batch is what one Write gets: the changes of all calls that came while the last
// one went on, so that a hundred writers do not wait for a hundred disk flushes.
type batch struct {
	records []byte // written by the one who has the turn, once it is no longer next
	done    chan struct{}
	err     error // written before done is closed, read after that
}

func newJournal(s *Server, w io.Writer) *journal {
	if w == nil {
		return nil
	}
	return &journal{
		s: s, w: w, turn: make(chan struct{}, 1),
		seen: make(map[*secret]struct{}), written: make(map[*secret]*written),
	}
}

// commit unlocks mu where something may have been changed, and returns when that is
// in the journal, or with the error for which it is not.
func (s *Server) commit() error {
	b := s.journal.commitLocked()
	s.mu.Unlock()
	return s.journal.flush(b)
}

// release is commit for those who have nobody to tell of an error. The calls that
// follow do: the journal stays broken.
func (s *Server) release() { _ = s.commit() }

// sawLocked notes that a secret may be changed by who holds mu.
func (j *journal) sawLocked(sec *secret) {
	if j == nil {
		return
	}
	j.seen[sec] = struct{}{}
}

// commitLocked puts what has changed into the next batch. It returns the batch to wait
// for, nil if there is none. That is the latest one also if nothing has changed: a
// write that was asked for twice, or a read, is not to tell of what may yet be lost.
func (j *journal) commitLocked() *batch {
	if j == nil {
		return nil
	}
	var r record
	for sec := range j.seen {
		j.addLocked(&r, sec)
	}
	clear(j.seen)
	if len(r.Removed) > 0 || len(r.Secrets) > 0 {
		if j.next == nil {
			j.next = &batch{done: make(chan struct{})}
		}
		j.next.records = append(j.next.records, line(r)...)
	}
	if j.next != nil {
		return j.next
	}
	return j.writing
}

// addLocked adds to a record what has changed of a secret.
func (j *journal) addLocked(r *record, sec *secret) {
	was := j.written[sec]
	if sec.store.byName[sec.name] != sec {
		r.Removed = append(r.Removed, sec.arn)
		delete(j.written, sec)
		return
	}
	if was == nil {
		was = &written{versions: make(map[string]versionMark)}
		j.written[sec] = was
	}
	saved := sec.save()
	head := line(saved)
	saved.Versions, saved.Gone = was.compare(sec)
	if bytes.Equal(head, was.secret) && len(saved.Versions) == 0 && len(saved.Gone) == 0 {
		return
	}
	was.secret = head
	r.Secrets = append(r.Secrets, saved)
}

// compare returns the versions that are not written as they are, and the ids of those
// that are gone, and notes both as written.
func (w *written) compare(sec *secret) (changed []savedVersion, gone []string) {
	if sec.primary != "" {
		return nil, nil // They are its primary's.
	}
	for id, v := range sec.versions {
		mark, was := v.mark(), w.versions[id]
		if mark == was {
			continue
		}
		w.versions[id] = mark
		saved := v.save()
		if was.filled {
			saved.Text, saved.Binary = nil, nil // They never change.
		}
		changed = append(changed, saved)
	}
	if len(w.versions) > len(sec.versions) {
		for id := range w.versions {
			if sec.versions[id] == nil {
				delete(w.versions, id)
				gone = append(gone, id)
			}
		}
	}
	return changed, gone
}

// flush returns when the batch is written, with Write's error.
func (j *journal) flush(b *batch) error {
	if b == nil {
		return nil
	}
	select {
	case <-b.done:
		return b.err
	case j.turn <- struct{}{}:
	}
	defer func() { <-j.turn }()
	select {
	case <-b.done:
		return b.err
	default: // Nobody writes it, and nobody else will: it is the next one.
	}
	err := j.take(b)
	if err == nil {
		if _, err = j.w.Write(b.records); err != nil {
			err = fmt.Errorf("smtest: write journal: %w", err)
		}
	}
	j.finish(b, err)
	return err
}

func (j *journal) take(b *batch) error {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	j.next, j.writing = nil, b
	return j.err
}

func (j *journal) finish(b *batch, err error) {
	j.s.mu.Lock()
	j.writing, j.err = nil, err
	j.s.mu.Unlock()
	b.err = err
	close(b.done)
}
