package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/smtest"
)

// minCompact is the size of a data file below which it is not written anew.
const minCompact = 1 << 20

// A dataFile keeps the state of a server in a file: what Save wrote, and after that
// what came to it as the server's journal. Save writes to a file beside it, which then
// takes its name, so that under the name there is a whole state at any instant.
type dataFile struct {
	path string
	lock io.Closer

	// turn is a lock that protects following. It is a channel, as it is held while the
	// disk is waited for.
	turn chan struct{}

	srv     *smtest.Server // nil until start
	file    *os.File
	size    int64
	compact int64 // the size at which it is written anew
	err     error // the first failure

	failed chan struct{} // closed when err is set
}

// openData takes the file for this process. It need not be there yet. Without a path
// the dataFile does nothing.
func openData(path string) (*dataFile, error) {
	if path == "" {
		return &dataFile{turn: make(chan struct{}, 1), lock: io.NopCloser(nil)}, nil
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // The rename is to replace the file, not a link to it.
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("-data: %w", err)
	}
	return &dataFile{path: path, lock: lock, turn: make(chan struct{}, 1), failed: make(chan struct{})}, nil
}

// load brings the state into a server. It changes nothing on disk.
func (d *dataFile) load(srv *smtest.Server) error {
	if d.path == "" {
		return nil
	}
	err := d.read(srv)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("-data %s is left as it is: %w", d.path, err)
	}
	return nil
}

func (d *dataFile) read(srv *smtest.Server) error {
	info, err := os.Stat(d.path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Size() == 0:
		return nil // A file as mktemp makes it has nothing to lose.
	}
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return srv.Load(f)
}

// start writes the state of a server, and its journal from now on. What came to the
// journal before, when the state was loaded and seeded, is in the state.
func (d *dataFile) start(srv *smtest.Server) error {
	if d.path == "" {
		return nil
	}
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	d.srv = srv
	if err := d.rewrite(); err != nil {
		return fmt.Errorf("-data: %w", err)
	}
	return nil
}

// Write adds to the journal, and returns when that is on disk.
func (d *dataFile) Write(records []byte) (int, error) {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	if d.srv == nil {
		return len(records), nil
	}
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.append(records)
	if err != nil {
		d.err = err
		close(d.failed)
	}
	return n, err
}

func (d *dataFile) append(records []byte) (int, error) {
	if d.size >= d.compact {
		// If the disk has no room for it, there may yet be some for the records.
		if err := d.rewrite(); err != nil {
			d.compact *= 2
		}
	}
	if d.file == nil {
		return 0, errors.New("the file cannot be opened any more")
	}
	n, err := d.file.Write(records)
	d.size += int64(n)
	if err != nil {
		return n, err
	}
	return n, d.file.Sync()
}

// rewrite replaces the file by the present state. What the journal brings of changes
// that are in the state already does no harm there.
func (d *dataFile) rewrite() error {
	temporary := d.path + ".tmp"
	size, err := d.save(temporary)
	if err != nil {
		_ = os.Remove(temporary)
		return err
	}
	if d.file != nil {
		_ = d.file.Close() // Windows renames nothing to a file that is open.
		d.file = nil
	}
	renamed := os.Rename(temporary, d.path)
	if renamed == nil {
		renamed = syncFolder(filepath.Dir(d.path))
	}
	if d.file, err = os.OpenFile(d.path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	if renamed != nil {
		return renamed
	}
	d.size, d.compact = size, max(minCompact, 2*size)
	return nil
}

// save writes the state to a new file, on disk.
func (d *dataFile) save(path string) (size int64, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	err = d.srv.Save(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	return size, errors.Join(err, f.Close())
}

// failure returns why the journal cannot be written any more.
func (d *dataFile) failure() error {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	return fmt.Errorf("-data %s: %w", d.path, d.err)
}

// close gives the file back. The server must be closed.
func (d *dataFile) close() error {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	var err error
	if d.file != nil {
		err = d.file.Close()
		d.file = nil
	}
	return errors.Join(err, d.lock.Close())
}
