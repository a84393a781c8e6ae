package blobstore

import (
	"io/fs"
	"sync"
)

// ending tells whether the writing of a partial has ended, and whether what is recorded survives that.
type ending struct {
	path string // of the data file

	// mu guards the fields that follow.
	mu     sync.Mutex
	failed error // the first error that ended writing
	ruined bool  // an error was such that nothing recorded can be trusted
	closed bool
}

// fail ends all writing, and nothing is kept.
func (e *ending) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ruined = true
	if e.failed == nil {
		e.failed = err
	}
}

// stop ends all writing. What is recorded survives that.
func (e *ending) stop(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed == nil {
		e.failed = err
	}
}

// failWrite ends all writing after a failed write. What is recorded survives where there was merely no room
// for more. A failed sync is not for here, even for want of room: the kernel may have dropped bytes that it
// still shows to readers.
func (e *ending) failWrite(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ruined = e.ruined || !NoSpace(err)
	if e.failed == nil {
		e.failed = err
	}
}

// close ends all writing. It returns false when it was called before, and whether nothing can be kept.
func (e *ending) close() (first, ruined bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first = !e.closed
	e.closed = true
	return first, e.ruined
}

// failure returns the error that ended writing.
func (e *ending) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// usable returns why the partial cannot be written or committed any more.
func (e *ending) usable() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return e.refuse(fs.ErrClosed)
	}
	return e.failed
}

// recordable returns why nothing more can be recorded. After a write failed for want of room, what was
// written before it still can be.
func (e *ending) recordable() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return e.refuse(fs.ErrClosed)
	case e.ruined:
		return e.failed
	}
	return nil
}

// refuse makes the error of a write that is not even tried.
func (e *ending) refuse(err error) error { return &fs.PathError{Op: "write", Path: e.path, Err: err} }
