package blobstore

import (
	"io/fs"
	"sync"
)

// writeState tells whether the writing of a partial has ended, and whether what is recorded survives that.
type writeState struct {
	path string // of the data file

	// mu guards the fields that follow.
	mu     sync.Mutex
	failed error // the first error that ended writing
	ruined bool  // an error was such that nothing recorded can be trusted
	closed bool
}

// fail ends all writing, and nothing is kept.
func (w *writeState) fail(err error) { w.end(err, true) }

// stop ends all writing. What is recorded survives that.
func (w *writeState) stop(err error) { w.end(err, false) }

// failWrite ends all writing after a failed write. What is recorded survives where merely the space was used
// up. After a failed sync call fail, even for want of space: the kernel may have dropped bytes that it still
// shows to readers.
func (w *writeState) failWrite(err error) { w.end(err, !NoSpace(err)) }

func (w *writeState) end(err error, ruined bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ruined = w.ruined || ruined
	if w.failed == nil {
		w.failed = err
	}
}

// close ends all writing. It returns false when it was called before, and whether nothing can be kept.
func (w *writeState) close() (first, ruined bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first = !w.closed
	w.closed = true
	return first, w.ruined
}

// failure returns the error that ended writing.
func (w *writeState) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// usable returns why the partial cannot be written or committed any more.
func (w *writeState) usable() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.refuse(fs.ErrClosed)
	}
	return w.failed
}

// recordable returns why nothing more can be recorded. After a write failed for want of space, what was
// written before it still can be.
func (w *writeState) recordable() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return w.refuse(fs.ErrClosed)
	case w.ruined:
		return w.failed
	}
	return nil
}

// refuse makes the error of a write that is refused before it is tried.
func (w *writeState) refuse(err error) error {
	return &fs.PathError{Op: "write", Path: w.path, Err: err}
}
