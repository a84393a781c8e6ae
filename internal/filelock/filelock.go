// Package filelock locks open files against other descriptors, of this process and of others.
package filelock

import (
	"errors"
	"os"
)

var (
	// ErrBusy is a file that is locked through another descriptor.
	ErrBusy = errors.New("locked by another")

	// ErrUnsupported is a file system or an operating system that cannot lock.
	ErrUnsupported = errors.New("file system cannot lock")
)

// Lock locks an open file until its last descriptor is closed. It does not wait: the error matches [ErrBusy] where
// another has the lock, and [ErrUnsupported] where there are no locks.
func Lock(f *os.File) error { return lock(f) }

// Keep returns what keeps the lock of f when f is closed, until it is called. The error is one of having no descriptor;
// then nothing is kept.
func Keep(f *os.File) (release func(), err error) { return keep(f) }
