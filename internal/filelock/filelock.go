// Package filelock locks open files against other descriptors, of this process and of others.
package filelock

import (
	"errors"
	"os"
)

var (
	// ErrBusy means that the file is locked through another descriptor.
	ErrBusy = errors.New("locked by another")

	// ErrUnsupported means that the file system or the operating system cannot lock.
	ErrUnsupported = errors.New("file system cannot lock")
)

// Lock locks an open file for this descriptor alone, until the descriptor and all that were duplicated from
// it are closed. It does not wait: the error is [ErrBusy] where another descriptor has the lock.
func Lock(f *os.File) error { return lock(f) }

// Keep duplicates the descriptor of a locked file, so that the file stays locked after f is closed. The
// caller must call release to unlock it.
func Keep(f *os.File) (release func(), err error) { return keep(f) }
