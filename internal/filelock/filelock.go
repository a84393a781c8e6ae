// Package filelock locks open files against other descriptors, of this process and of others.
package filelock

import "errors"

var (
	// ErrBusy is a file that is locked through another descriptor.
	ErrBusy = errors.New("locked by another")

	// ErrUnsupported is a file system or an operating system that cannot lock.
	ErrUnsupported = errors.New("file system cannot lock")
)
