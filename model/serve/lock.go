package serve

import (
	"errors"
	"fmt"
	"os"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// ErrBusy is a directory that another registry writes to.
var ErrBusy = errors.New("another registry serves it")

// acquire locks a directory: two that append to one upload, or forget it, would serve what is wrong. Alone
// says that the lock holds. Where the file system cannot lock, uploads are hashed again when they end.
func acquire(dir string) (lock *os.File, alone bool, err error) {
	root, err := rootfile.OpenDir(dir)
	if err != nil {
		return nil, false, err
	}
	defer root.Close()
	f, err := root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, false, err
	}
	err = filelock.Lock(f)
	if errors.Is(err, filelock.ErrBusy) {
		err = ErrBusy
	}
	if err != nil && !errors.Is(err, filelock.ErrUnsupported) {
		return nil, false, fmt.Errorf("%s: %w", dir, errors.Join(err, f.Close()))
	}
	return f, err == nil, nil
}

// Close unlocks the directory. Uploads that have not ended go on with the next registry. No request may be
// running.
func (r *Registry) Close() error {
	if r.lock == nil {
		return nil
	}
	return r.lock.Close()
}

// RemoveUploads forgets the uploads that have not ended. No request may be running.
func (r *Registry) RemoveUploads() error {
	if r.opts.ReadOnly {
		return nil
	}
	return r.uploads.removeAll()
}
