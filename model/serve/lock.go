package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/modeltransfer/transfer/internal/filelock"
)

const (
	// maxUploads is how many uploads may be open at once.
	maxUploads = 1024

	// maxUploadAge is how long an upload that nobody continues is kept. A laptop may sleep over a weekend.
	maxUploadAge = 7 * 24 * time.Hour

	// uploadGrace is how long it is kept in any case, where others need the room.
	uploadGrace = time.Hour
)

// ErrBusy is a directory that another registry writes to.
var ErrBusy = errors.New("another registry serves it")

// errFull is too many open uploads.
var errFull = errors.New("too many uploads are open")

// acquire locks the directory: two that append to one upload, or forget it, would serve what is wrong. Where
// the file system cannot lock, uploads are hashed again when they end.
func (r *Registry) acquire() error {
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	err = filelock.Lock(f)
	if errors.Is(err, filelock.ErrBusy) {
		err = ErrBusy
	}
	if err != nil && !errors.Is(err, filelock.ErrUnsupported) {
		return fmt.Errorf("%s: %w", r.dir, errors.Join(err, f.Close()))
	}
	r.lock, r.alone = f, err == nil
	return nil
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
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sweep(0)
}

// makeRoom removes uploads that nobody continues, the sooner the more there are.
func (r *Registry) makeRoom() error {
	open, err := r.countUploads()
	switch {
	case err != nil:
		return err
	case open < maxUploads && time.Since(r.swept) < uploadGrace:
		return nil
	case open < maxUploads:
		return r.sweep(maxUploadAge)
	}
	if err := r.sweep(uploadGrace); err != nil {
		return err
	}
	if open, err = r.countUploads(); err == nil && open >= maxUploads {
		err = errFull
	}
	return err
}

func (r *Registry) countUploads() (int, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, "uploads"))
	return len(entries), err
}

// isUpload tells the files of this registry from others, which stay.
var isUpload = regexp.MustCompile(`^([0-9a-f]{32}|small-[0-9]+)$`).MatchString

// sweep removes uploads that nobody has continued for so long.
func (r *Registry) sweep(age time.Duration) error {
	r.swept = time.Now()
	entries, err := os.ReadDir(filepath.Join(r.dir, "uploads"))
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil || !isUpload(e.Name()) || time.Since(info.ModTime()) < age {
			continue
		}
		u := r.uploads[e.Name()]
		if u != nil && !u.TryLock() {
			continue // a request is at it
		}
		_ = os.Remove(filepath.Join(r.dir, "uploads", e.Name())) // the next sweep tries again
		delete(r.uploads, e.Name())
		if u != nil {
			u.Unlock()
		}
	}
	return err
}
