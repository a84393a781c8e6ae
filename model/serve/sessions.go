package serve

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/opencontainers/go-digest"
)

const (
	// maxUploads is how many uploads may be open at once.
	maxUploads = 1024

	// maxUploadAge is how long an upload that nobody continues is kept. A laptop may sleep over a weekend.
	maxUploadAge = 7 * 24 * time.Hour

	// uploadGrace is how long it is kept in any case, where others need its place.
	uploadGrace = time.Hour
)

// errFull is too many open uploads.
var errFull = errors.New("too many uploads are open")

// uploads are those that have not ended. Their directory has one file of each.
type uploads struct {
	dir string

	mu    sync.Mutex // guards the fields that follow
	known map[string]*upload
	swept time.Time // when those that nobody continues were removed
}

func newUploads(dir string) *uploads { return &uploads{dir: dir, known: map[string]*upload{}} }

// open opens an upload. The error is errFull where too many are open.
func (s *uploads) open() (*upload, error) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	u := &upload{path: filepath.Join(s.dir, id), sum: digest.Canonical.Hash()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.makeRoom(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(u.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, err
	}
	s.known[id] = u
	return u, nil
}

// find returns an upload, also one of an earlier run.
func (s *uploads) find(id string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.known[id]; u != nil {
		return u, nil
	}
	path := filepath.Join(s.dir, id)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !rootfile.IsOwn(info) { // its owner may write to it at any time
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	u := &upload{path: path, size: info.Size(), sum: digest.Canonical.Hash()}
	s.known[id] = u
	return u, nil
}

func (s *uploads) forget(u *upload) {
	s.mu.Lock()
	delete(s.known, u.id())
	s.mu.Unlock()
	_ = os.Remove(u.path) // a start after a week tries again
}

// makeRoom removes uploads that nobody continues, the sooner the more there are.
func (s *uploads) makeRoom() error {
	open, err := s.count()
	switch {
	case err != nil:
		return err
	case open < maxUploads && time.Since(s.swept) < uploadGrace:
		return nil
	case open < maxUploads:
		return s.sweep(maxUploadAge)
	}
	if err := s.sweep(uploadGrace); err != nil {
		return err
	}
	if open, err = s.count(); err == nil && open >= maxUploads {
		err = errFull
	}
	return err
}

func (s *uploads) count() (int, error) {
	entries, err := os.ReadDir(s.dir)
	return len(entries), err
}

// isUpload tells the files of this registry from others, which stay.
var isUpload = regexp.MustCompile(`^([0-9a-f]{32}|small-[0-9]+)$`).MatchString

// sweep removes uploads that nobody has continued for so long.
func (s *uploads) sweep(age time.Duration) error {
	s.swept = time.Now()
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil || !isUpload(e.Name()) || time.Since(info.ModTime()) < age {
			continue
		}
		u := s.known[e.Name()]
		if u != nil && !u.TryLock() {
			continue // a request is at it
		}
		_ = os.Remove(filepath.Join(s.dir, e.Name())) // the next sweep tries again
		delete(s.known, e.Name())
		if u != nil {
			u.Unlock()
		}
	}
	return err
}

// removeAll removes all that no request is at.
func (s *uploads) removeAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sweep(0)
}
