package blobstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

// finalNames are the files that have the final name of a blob, or to which a link of that name leads. Nothing
// else reads through a link.
type finalNames struct {
	folder *folder

	// mu guards the fields that follow. It is never held during I/O.
	mu       sync.Mutex
	bad      map[string]version // by final name: what Check found to be wrong
	unsynced bool               // a name was given that is not durable yet
}

// version tells one content of a file from another.
type version struct {
	size     int64
	modified time.Time
}

func versionOf(fi fs.FileInfo) version { return version{fi.Size(), fi.ModTime()} }

// stat describes the regular file that has the final name, or that a link of that name leads to. It is nil
// when there is none, so that a blob may take the name. A directory is an error: nothing could replace it.
func (n *finalNames) stat(name string) (fs.FileInfo, error) {
	fi, err := n.folder.root.Lstat(name)
	if err == nil && fi.IsDir() {
		return nil, n.folder.pathError("open", name, syscall.EISDIR)
	}
	if err == nil && isLink(fi) {
		fi, err = os.Stat(n.folder.full(name))
	}
	switch {
	case leadsNowhere(err):
		return nil, nil
	case err != nil:
		return nil, n.folder.pathError("stat", name, err)
	case !fi.Mode().IsRegular():
		return nil, nil
	}
	return fi, nil
}

// has tells whether a file of the right size has the final name.
func (n *finalNames) has(name string, size int64) (bool, error) {
	fi, err := n.stat(name)
	return err == nil && fi != nil && fi.Size() == size, err
}

// finished is has, but false for a file that was found to be wrong.
func (n *finalNames) finished(name string, size int64) (bool, error) {
	fi, err := n.stat(name)
	if err != nil || fi == nil || fi.Size() != size {
		return false, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	bad, known := n.bad[name]
	return !known || bad != versionOf(fi), nil
}

// open opens a blob of that size for reading. See [Dir.Source] for the errors.
func (n *finalNames) open(name string, size int64) (*os.File, error) {
	f, err := rootfile.Open(n.folder.root, name, os.O_RDONLY)
	if errors.Is(err, rootfile.ErrNotRegular) {
		if fi, lerr := n.folder.root.Lstat(name); lerr == nil && isLink(fi) {
			f, err = rootfile.OpenLinked(n.folder.full(name))
		}
	}
	if err != nil {
		return nil, n.folder.pathError("open", name, err)
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != size {
		err = fmt.Errorf("%s: %w: %d bytes, not %d", n.folder.full(name), errSize, fi.Size(), size)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// distrust notes that a file is not the blob, for as long as it does not change.
func (n *finalNames) distrust(name string, fi fs.FileInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bad[name] = versionOf(fi)
}

// added notes that a blob got its final name.
func (n *finalNames) added(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unsynced = true
	delete(n.bad, name)
}

// sync makes the names durable that were added.
func (n *finalNames) sync() error {
	n.mu.Lock()
	unsynced := n.unsynced
	n.unsynced = false
	n.mu.Unlock()
	if !unsynced {
		return nil
	}
	return n.folder.pathError("sync", ".", syncDir(n.folder.root))
}

func isLink(fi fs.FileInfo) bool { return fi.Mode().Type() == fs.ModeSymlink }

// leadsNowhere tells whether there can be no file at the end of a path. Where access is denied, or a disk
// does not answer, there may be one.
func leadsNowhere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) ||
		errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENAMETOOLONG) || platformLeadsNowhere(err)
}
