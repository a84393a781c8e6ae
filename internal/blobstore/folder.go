package blobstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

// readSize is how much of a file is read at once to be hashed.
const readSize = 256 << 10 // 256 KiB

// folder is the directory as the file system shows it: files by their names in it, which are never opened
// through a link, and errors with their full paths. It knows nothing of blobs. It changes only by what it
// finds out about the owner and the copying of ranges.
type folder struct {
	root    *os.Root
	path    string               // that the root was opened with
	lock    func(*os.File) error // filelock.Lock, but for tests
	buffers sync.Pool            // of *[]byte, readSize long
	owner   owner
	copy    copier      // copyRange, but for tests
	noCopy  atomic.Bool // it was refused
}

// copier copies a range of a file to another, without the bytes passing through this process.
type copier func(dst, src *os.File, to, from, n int64) (int64, error)

// create creates a file for reading and writing. The error matches [fs.ErrExist] when anything has the name.
func (d *folder) create(name string) (*os.File, error) {
	f, err := rootfile.Create(d.root, name, 0o666)
	return f, d.pathError("open", name, err)
}

// open opens an existing regular file.
func (d *folder) open(name string, flag int) (*os.File, error) {
	f, err := rootfile.Open(d.root, name, flag)
	return f, d.pathError("open", name, err)
}

// remove removes a file, which may be gone already.
func (d *folder) remove(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.pathError("remove", name, err)
	}
	return nil
}

// sizeOf returns the size of a regular file that is ours alone.
func (d *folder) sizeOf(name string) (int64, error) {
	f, err := d.openOwn(name, os.O_RDWR)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// stillNamed describes an open file. The error matches [rootfile.ErrReplaced] when the name is not the file's
// any more: between its opening and its locking, the previous holder may have renamed or removed it.
func (d *folder) stillNamed(f *os.File, name string) (fs.FileInfo, error) {
	info, err := rootfile.Named(d.root, f, name)
	return info, d.pathError("lstat", name, err)
}

// readAll feeds the rest of an open file to a hash.
func (d *folder) readAll(ctx context.Context, f *os.File, to io.Writer) error {
	buf := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buf)
	for ctx.Err() == nil {
		n, err := f.Read(*buf)
		_, _ = to.Write((*buf)[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (d *folder) full(name string) string { return filepath.Join(d.path, name) }

// pathError names the file that an error is about by its full path: the errors of os.Root name it only within
// the directory, and that of a rename is of another type.
func (d *folder) pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return &fs.PathError{Op: op, Path: d.full(name), Err: err}
}

func newBuffer() any {
	b := make([]byte, readSize)
	return &b
}
