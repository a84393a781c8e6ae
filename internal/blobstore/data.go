package blobstore

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// dataFile is the open file of a partial's bytes. It is locked where the file system can lock. Its fields
// change only while the claim is made.
type dataFile struct {
	*os.File
	folder *folder
	name   string
	info   fs.FileInfo // tells it from another file of the same name
	fresh  bool        // it did not exist before
	shared bool        // every process finds it by its name
}

// unusable tells whether what has a name can be no data file of ours, now or later.
func unusable(err error) bool {
	return errors.Is(err, rootfile.ErrNotRegular) || errors.Is(err, syscall.EISDIR) ||
		errors.Is(err, errForeign) || errors.Is(err, errLinked)
}

// openLocked opens and locks a data file, and creates it if it does not exist. The error matches
// [filelock.ErrBusy] where another has it, and [rootfile.ErrReplaced] where it has lost its name.
func openLocked(d *folder, name string) (dataFile, error) {
	f, err := d.create(name)
	fresh := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = d.openOwn(name, os.O_RDWR)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = rootfile.ErrReplaced
		case errors.Is(err, fs.ErrPermission):
			err = errForeign
		}
	}
	if err != nil {
		return dataFile{}, err
	}
	data := dataFile{File: f, folder: d, name: name, fresh: fresh, shared: true}
	if err = d.pathError("lock", name, d.lock(f)); err == nil {
		data.info, err = d.stillNamed(f, name)
	}
	if err == nil {
		return data, nil
	}
	if fresh && errors.Is(err, filelock.ErrUnsupported) {
		err = errors.Join(err, d.remove(name))
	}
	_ = f.Close()
	return dataFile{}, err
}

// openUnique creates a data file under a name that nobody else knows.
func openUnique(d *folder, final string) (dataFile, error) {
	name := final + uniqueSuffix + strings.ToLower(rand.Text())
	f, err := d.create(name)
	if err != nil {
		return dataFile{}, err
	}
	data := dataFile{File: f, folder: d, name: name, fresh: true}
	if err = d.lock(f); err == nil || errors.Is(err, filelock.ErrUnsupported) { // else it would be swept
		data.info, err = d.stillNamed(f, name)
	}
	if err != nil {
		return dataFile{}, errors.Join(err, f.Close(), d.remove(name))
	}
	return data, nil
}

// writeAt writes all of b, or fails.
func (f *dataFile) writeAt(b []byte, off int64) (n int, err error) {
	n, err = f.WriteAt(b, off)
	if errors.Is(err, io.ErrUnexpectedEOF) { // a write of no bytes
		err = f.folder.pathError("write", f.name, io.ErrShortWrite)
	}
	return n, err
}

// read feeds a range to a hash. The error is [io.ErrUnexpectedEOF] when the file is shorter.
func (f *dataFile) read(ctx context.Context, r pieces.Range, to io.Writer) error {
	buf := f.folder.buffers.Get().(*[]byte)
	defer f.folder.buffers.Put(buf)
	for off := r.Start; off < r.End; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := (*buf)[:min(r.End-off, int64(len(*buf)))]
		n, err := f.ReadAt(b, off)
		if n < len(b) && (err == nil || err == io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
		_, _ = to.Write(b)
		off += int64(n)
	}
	return nil
}

// keepsName makes sure that the file has its name. What another has put in its place must neither become the
// blob nor be removed.
func (f *dataFile) keepsName() error {
	named, err := f.folder.root.Lstat(f.name)
	if err == nil && !os.SameFile(f.info, named) {
		err = rootfile.ErrReplaced
	}
	return f.folder.pathError("lstat", f.name, err)
}

// renameTo gives the file, which was closed, the final name.
func (f *dataFile) renameTo(final string) error {
	if err := f.keepsName(); err != nil {
		return err
	}
	if err := rename(f.folder.root, f.name, final); err != nil {
		return f.folder.pathError("rename", final, notExist(err))
	}
	return nil
}

// notExist keeps the error of a directory at the final name from looking like a finished blob.
func notExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return syscall.EISDIR
	}
	return err
}

// remove removes the file, unless it has lost its name, and closes it.
func (f *dataFile) remove() (err error) {
	if f.keepsName() == nil {
		err = f.folder.remove(f.name)
	}
	_ = f.Close() // what it had is gone
	return err
}

// syncFile syncs a file, and never tries again: after a failure the next try may succeed though the bytes are
// lost. Some network file systems cannot sync; what they were given counts as stored.
func syncFile(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}
