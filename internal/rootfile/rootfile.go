// Package rootfile opens the regular files of a directory. It never follows a symbolic link and never waits
// for the other end of a pipe, whatever others put into the directory meanwhile.
package rootfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

var (
	// ErrNotRegular means that a symbolic link, a pipe or a device has the name.
	ErrNotRegular = errors.New("not a regular file")

	// ErrReplaced means that the name was given to another file, or removed, meanwhile.
	ErrReplaced = errors.New("replaced while it was opened")
)

// OpenDir opens the directory that a path leads to. Links are followed. A pipe in its place would have
// [os.OpenRoot] wait for the other end; here it is [syscall.ENOTDIR].
func OpenDir(path string) (*os.Root, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	return os.OpenRoot(path)
}

// Create creates a file for reading and writing, with the permissions that the umask leaves of perm. The
// error matches [fs.ErrExist] when anything has the name.
func Create(root *os.Root, name string, perm fs.FileMode) (*os.File, error) {
	return root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|nonblock, perm)
}

// Open opens an existing regular file, where flag is [os.O_RDONLY] or [os.O_RDWR]. The error matches
// [fs.ErrNotExist], [syscall.EISDIR] or [ErrNotRegular] when there is no such file.
func Open(root *os.Root, name string, flag int) (*os.File, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if err := regular(before); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, flag|nonblock, 0)
	return same(f, before, err)
}

// OpenLinked opens the regular file that a path leads to, for reading. Links are followed, also out of the
// directory. The errors are those of [Open].
func OpenLinked(path string) (*os.File, error) {
	before, err := os.Stat(path) // first: opening a device can have side effects
	if err != nil {
		return nil, err
	}
	if err := regular(before); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	return same(f, before, err)
}

func regular(fi fs.FileInfo) error {
	switch {
	case fi.IsDir():
		return syscall.EISDIR
	case !fi.Mode().IsRegular():
		return ErrNotRegular
	}
	return nil
}

// same makes sure that what was opened is what was looked at before.
func same(f *os.File, before fs.FileInfo, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = ErrReplaced
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Named describes an open file, and returns [ErrReplaced] when the name is no longer the file's.
func Named(root *os.Root, f *os.File, name string) (fs.FileInfo, error) {
	open, err := f.Stat()
	if err != nil {
		return nil, err
	}
	named, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(open, named) {
		return nil, ErrReplaced
	}
	return open, err
}
