// Package blobstore is a directory of content-addressed blobs that goroutines and
// processes share: what is there, what is half there, and how a blob gets its name.
package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	_ "crypto/sha256" // the algorithms that go-digest knows
	_ "crypto/sha512"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/opencontainers/go-digest"
)

// readSize is how much of a file is read at once to be hashed.
const readSize = 256 << 10 // 256 KiB

var (
	// ErrSize is a file or a write that is longer or shorter than the blob.
	ErrSize = errors.New("wrong size")

	// ErrNotRegular is a pipe or a device where a file should be, or a symbolic link where none is followed.
	ErrNotRegular = rootfile.ErrNotRegular
)

// Dir is a directory of blobs, each a file "sha256-<hex>" or a symbolic link to one, since people keep
// their blobs on another disk. Nothing is ever written through a link, and nothing but a final name is read
// through one. Its methods are safe for concurrent use.
type Dir struct {
	root    *os.Root
	path    string
	lock    func(*os.File) error // filelock.Lock, but for tests
	buffers sync.Pool            // of *[]byte, readSize long

	// mu guards the fields that follow.
	mu      sync.Mutex
	left    map[string][]string // by final name: the names of leftovers, when the directory was opened
	bad     map[string]version  // by final name: what Check found to be wrong
	unnamed bool                // a name was given since the directory was synced
}

// version tells one content of a file from another.
type version struct {
	size     int64
	modified time.Time
}

func versionOf(fi fs.FileInfo) version { return version{fi.Size(), fi.ModTime()} }

// Open opens a directory for reading and writing, and creates it and its parents where
// they are missing. The path itself may be a link. Errors are *fs.PathError: syscall.ENOTDIR
// where a file is in the way.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, err
	}
	d, err := OpenSource(path)
	if err != nil {
		return nil, err
	}
	d.left = make(map[string][]string)
	if err := d.findLeftovers(); err != nil {
		_ = d.root.Close()
		return nil, err
	}
	return d, nil
}

// OpenSource opens a directory for reading. It must exist.
func OpenSource(path string) (*Dir, error) {
	fi, err := os.Stat(path) // first, because opening a pipe would wait for its other end
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root, path: path, lock: filelock.Lock, bad: make(map[string]version)}
	d.buffers.New = func() any { b := make([]byte, readSize); return &b }
	return d, nil
}

// Close makes the names that were given since it was opened durable, and closes the
// directory. Partials must have been closed before. A file system that cannot sync a directory is
// no error.
func (d *Dir) Close() error {
	d.mu.Lock()
	unnamed := d.unnamed
	d.unnamed = false
	d.mu.Unlock()

	var err error
	if unnamed {
		err = d.pathError("sync", ".", syncDir(d.root))
	}
	return errors.Join(err, d.root.Close())
}

// Has tells whether the blob's final name is that of a regular file of that size, or of a link to one. A
// directory in its place is an error, because nothing could replace it.
//
// In a directory that was opened for writing, what earlier runs have left of a blob that is there is removed.
func (d *Dir) Has(dg digest.Digest, size int64) (bool, error) {
	ok, err := d.has(dg, size)
	if ok {
		d.sweep(nameOf(dg), true)
	}
	return ok, err
}

func (d *Dir) has(dg digest.Digest, size int64) (bool, error) {
	fi, err := d.final(nameOf(dg))
	return err == nil && fi != nil && fi.Size() == size, err
}

// final returns the regular file that has the final name, or that a link of that name leads to. It is nil
// when there is none, so that a blob may take the name.
func (d *Dir) final(name string) (fs.FileInfo, error) {
	fi, err := d.root.Lstat(name)
	if err == nil && fi.IsDir() {
		return nil, d.pathError("open", name, syscall.EISDIR)
	}
	if err == nil && isLink(fi) {
		fi, err = os.Stat(d.full(name))
	}
	switch {
	case leadsNowhere(err):
		return nil, nil
	case err != nil:
		return nil, d.pathError("stat", name, err)
	case !fi.Mode().IsRegular():
		return nil, nil
	}
	return fi, nil
}

func isLink(fi fs.FileInfo) bool { return fi.Mode().Type() == fs.ModeSymlink }

// leadsNowhere tells whether there can be no file at the end of a path. Where access is denied, or a disk
// does not answer, there may be one.
func leadsNowhere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) ||
		errors.Is(err, syscall.ENAMETOOLONG) || platformLeadsNowhere(err)
}

// Check is Has, and hashes the file. What it finds wrong may then be claimed and replaced.
func (d *Dir) Check(ctx context.Context, dg digest.Digest, size int64) (bool, error) {
	if ok, err := d.has(dg, size); !ok {
		return false, err
	}
	f, err := d.Source(dg, size)
	if leadsNowhere(err) || errors.Is(err, ErrSize) || errors.Is(err, ErrNotRegular) ||
		errors.Is(err, rootfile.ErrReplaced) {
		return false, nil // replaced since
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	fi, err := f.Stat() // before the hash, so that a later change makes it another version
	if err != nil {
		return false, err
	}
	h := dg.Algorithm().Hash()
	if err := d.readAll(ctx, f, h); err != nil {
		return false, err
	}
	if digest.NewDigest(dg.Algorithm(), h) == dg {
		d.sweep(nameOf(dg), true)
		return true, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad[nameOf(dg)] = versionOf(fi)
	return false, nil
}

func (d *Dir) readAll(ctx context.Context, f *os.File, to io.Writer) error {
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

// Source opens a blob for reading, also through a link at its final name. The error matches [ErrNotRegular]
// for what is no regular file, and [ErrSize] for one of another size.
func (d *Dir) Source(dg digest.Digest, size int64) (*os.File, error) {
	name := nameOf(dg)
	f, err := d.openFinal(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != size {
		err = fmt.Errorf("%s: %w: %d bytes, not %d", d.full(name), ErrSize, fi.Size(), size)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// openRegular opens an existing file, never through a link.
func (d *Dir) openRegular(name string, flag int) (*os.File, error) {
	f, err := rootfile.Open(d.root, name, flag)
	return f, d.pathError("open", name, err)
}

// openFinal opens what has a final name for reading.
func (d *Dir) openFinal(name string) (*os.File, error) {
	f, err := rootfile.Open(d.root, name, os.O_RDONLY)
	if errors.Is(err, ErrNotRegular) {
		if fi, lerr := d.root.Lstat(name); lerr == nil && isLink(fi) {
			f, err = rootfile.OpenLinked(d.full(name))
		}
	}
	return f, d.pathError("open", name, err)
}

// Path returns the path that the directory was opened with.
func (d *Dir) Path() string { return d.path }

// Free returns how many bytes this user can still write, and whether that is known.
func (d *Dir) Free() (n int64, known bool) { return freeSpace(d.root) }

func (d *Dir) full(name string) string { return filepath.Join(d.path, name) }

// pathError says which file an error is about. The errors of os.Root name it only
// within its directory, and that of a rename is of another type.
func (d *Dir) pathError(op, name string, err error) error {
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
