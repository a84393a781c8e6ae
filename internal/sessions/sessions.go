// Package sessions remembers, from one call or process to the next, where interrupted uploads go on.
package sessions

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

const (
	// maxAge is how long a session is remembered; registries purge theirs after a week.
	maxAge = 7 * 24 * time.Hour

	maxFile = 16 << 10 // bytes: a URL and what it is for
)

// Store is a directory with a small file for each session, in the user's cache. All of it
// may be deleted at any time. It is best effort: what cannot be read or written is
// not remembered. The zero Store remembers nothing.
type Store struct{ dir string }

// Open returns the store of the current user.
func Open() Store {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Store{}
	}
	return Store{dir: filepath.Join(cache, "modeltransfer", "uploads")}
}

// Entry is what is remembered of one blob's upload. A nil Entry remembers nothing.
type Entry struct {
	dir    *os.Root
	name   string
	file   *os.File
	blob   string
	stored string
}

// record is the content of a file.
type record struct {
	Blob    string `json:"blob"`
	Session string `json:"session"`
}

// Claim returns the entry of a blob, which must be closed. It is nil where another upload of
// the same blob has it: two must not use the same session.
func (s Store) Claim(blob string) *Entry {
	if s.dir == "" || os.MkdirAll(s.dir, 0o700) != nil {
		return nil
	}
	dir, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256([]byte(blob))
	e := &Entry{dir: dir, name: hex.EncodeToString(sum[:]), blob: blob}
	if !e.open() {
		_ = dir.Close()
		return nil
	}
	return e
}

// open opens and locks the file, and reads it. Whatever else has its name is removed, and never written: it
// may be a link to another file, or another name of one.
func (e *Entry) open() bool {
	for range 3 {
		if f, err := rootfile.Open(e.dir, e.name, os.O_RDWR); err == nil {
			if filelock.Lock(f) != nil {
				_ = f.Close()
				return false
			}
			if e.file = f; e.load() {
				return true
			}
			_ = f.Close()
		}
		if fi, err := e.dir.Lstat(e.name); err == nil && !fi.IsDir() {
			_ = e.dir.Remove(e.name)
		}
		f, err := rootfile.Create(e.dir, e.name, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue // another process was faster
		}
		if err != nil {
			return false
		}
		if e.file = f; filelock.Lock(f) == nil {
			return true
		}
		_ = f.Close()
		return false
	}
	return false
}

// load reads the file, and tells whether it is one that this package may write: of this user, still of that
// name, and either empty or with what Save writes.
func (e *Entry) load() bool {
	info, err := rootfile.Named(e.dir, e.file, e.name)
	if err != nil || info.Size() >= maxFile || !rootfile.IsOwn(info) {
		return false
	}
	if info.Size() == 0 {
		return true
	}
	var r record
	data, err := io.ReadAll(io.LimitReader(e.file, maxFile))
	if err != nil || json.Unmarshal(data, &r) != nil || r.Blob != e.blob {
		return false
	}
	if time.Since(info.ModTime()) <= maxAge {
		e.stored = r.Session
	}
	return true
}

// Session returns the URL where the upload goes on, "" when none is remembered.
func (e *Entry) Session() string {
	if e == nil {
		return ""
	}
	return e.stored
}

// Save remembers where the upload goes on. A crash in the middle leaves what cannot be
// parsed, which is nothing.
func (e *Entry) Save(session string) {
	if e == nil {
		return
	}
	data, err := json.Marshal(record{e.blob, session})
	if err != nil || e.file.Truncate(0) != nil {
		return
	}
	_, _ = e.file.WriteAt(data, 0)
}

// Close lets go of the entry, and forgets it unless it is to be kept.
func (e *Entry) Close(keep bool) {
	if e == nil {
		return
	}
	var err error
	if !keep {
		_ = e.file.Truncate(0) // should it not be possible to remove it
		err = e.dir.Remove(e.name)
	}
	_ = e.file.Close()
	if err != nil {
		_ = e.dir.Remove(e.name) // some systems do not remove a file that is open
	}
	_ = e.dir.Close()
}
