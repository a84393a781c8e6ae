package blobstore

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// dataFile is the open data file of a partial. It is locked where the file system can lock.
type dataFile struct {
	*os.File
	name   string
	info   fs.FileInfo // tells it from another file of the same name
	fresh  bool        // it did not exist before
	shared bool        // every process finds it by its name
}

// errForeign means that a file belongs to another user and must not be written.
var errForeign = errors.New("file of another user")

// openData opens and locks the data file of a blob.
//
// All processes try the same names in the same order and so agree on one file, also where somebody has put
// a link, a pipe or a directory under the first of them. Where none can be used, or none can be locked, the
// file gets a name that nobody else knows; of several such files the rename decides.
func (d *Dir) openData(final string) (dataFile, error) {
	for n := range sharedNames {
		name := dataName(final, n)
		f, err := d.openLocked(name)
		if errors.Is(err, filelock.ErrUnsupported) {
			break
		}
		if !unusable(err) {
			f.shared = true
			return f, err
		}
		d.addLeftover(name)
	}
	return d.openUnique(final)
}

// unusable tells whether what has a name can be no data file of ours, now or later.
func unusable(err error) bool {
	return errors.Is(err, ErrNotRegular) || errors.Is(err, syscall.EISDIR) || errors.Is(err, errForeign)
}

// openLocked opens and locks a file, and creates it if it does not exist. The error
// matches [filelock.ErrBusy] where another holds it, and [rootfile.ErrReplaced] where it has lost its name.
func (d *Dir) openLocked(name string) (dataFile, error) {
	f, err := d.create(name)
	fresh := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = d.openRegular(name, os.O_RDWR)
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
	data := dataFile{File: f, name: name, fresh: fresh}
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
func (d *Dir) openUnique(final string) (dataFile, error) {
	name := final + uniqueSuffix + strings.ToLower(rand.Text())
	f, err := d.create(name)
	if err != nil {
		return dataFile{}, err
	}
	data := dataFile{File: f, name: name, fresh: true}
	if err = d.lock(f); err == nil || errors.Is(err, filelock.ErrUnsupported) { // else it would be swept
		data.info, err = d.stillNamed(f, name)
	}
	if err != nil {
		return dataFile{}, errors.Join(err, f.Close(), d.remove(name))
	}
	return data, nil
}

func (d *Dir) create(name string) (*os.File, error) {
	f, err := rootfile.Create(d.root, name, 0o666)
	return f, d.pathError("open", name, err)
}

// stillNamed makes sure that a file has kept its name until it was locked: the
// holder before us may have given it its final name, or removed it.
func (d *Dir) stillNamed(f *os.File, name string) (fs.FileInfo, error) {
	info, err := rootfile.Named(d.root, f, name)
	return info, d.pathError("lstat", name, err)
}

// keepsName makes sure that the data file has its name. What another has put in its place must neither become
// the blob nor be removed.
func (d *Dir) keepsName(f *dataFile) error {
	named, err := d.root.Lstat(f.name)
	if err == nil && !os.SameFile(f.info, named) {
		err = rootfile.ErrReplaced
	}
	return d.pathError("lstat", f.name, err)
}
