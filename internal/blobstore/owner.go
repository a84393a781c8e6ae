package blobstore

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

var (
	// errForeign means that a file belongs to another user, who may write to it whenever he likes.
	errForeign = errors.New("file of another user")

	// errLinked means that a file has other names, and may be needed under those.
	errLinked = errors.New("file with several names")
)

// owner knows which files of a directory are ours: those of this user. A file system may give them to another
// user, as NFS does with those of root: then they are that user's.
type owner struct {
	once  sync.Once
	probe fs.FileInfo // of a file that was created to find out; nil where that was not possible
}

// check returns errForeign or errLinked for a file that must be neither written nor continued, because
// somebody else may have put it there.
func (d *folder) check(name string, fi fs.FileInfo) error {
	if !rootfile.IsOwn(fi) {
		d.owner.once.Do(func() { d.owner.probe = d.createProbe(name) })
		if d.owner.probe == nil || !rootfile.SameOwner(fi, d.owner.probe) {
			return errForeign
		}
	}
	if !rootfile.OneName(fi) {
		return errLinked
	}
	return nil
}

// createProbe creates a file, which is swept like the others of that blob should it stay.
func (d *folder) createProbe(name string) fs.FileInfo {
	final, _, _ := strings.Cut(name, ".")
	probe := final + uniqueSuffix + strings.ToLower(rand.Text())
	f, err := d.create(probe)
	if err != nil {
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if d.remove(probe) != nil || err != nil {
		return nil
	}
	return fi
}

// openOwn opens an existing regular file that is ours alone.
func (d *folder) openOwn(name string, flag int) (*os.File, error) {
	f, err := d.open(name, flag)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		err = d.check(name, fi)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// ours describes a regular file that is ours alone, nil where there is none of that name.
func (d *folder) ours(name string) fs.FileInfo {
	fi, err := d.root.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() || d.check(name, fi) != nil {
		return nil
	}
	return fi
}
