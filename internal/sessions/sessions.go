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
	"regexp"
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

// Entry is what is remembered of one blob's upload. It has a file, and so takes a descriptor, only once there
// is a session. A nil Entry remembers nothing.
type Entry struct {
	store  Store
	name   string
	file   *os.File // nil before there is a session
	blob   string
	stored string
}

// record is the content of a file.
type record struct {
	Blob    string `json:"blob"`
	Session string `json:"session"`
}

// Claim returns the entry of a blob, which must be closed. It is nil where another upload of the same blob
// has it: two must not use the same session.
func (s Store) Claim(blob string) *Entry {
	if s.dir == "" || os.MkdirAll(s.dir, 0o700) != nil {
		return nil
	}
	sum := sha256.Sum256([]byte(blob))
	e := &Entry{store: s, name: hex.EncodeToString(sum[:]), blob: blob}
	dir, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil
	}
	defer dir.Close()
	if _, err := dir.Lstat(e.name); err == nil && !e.open(dir) {
		return nil
	}
	return e
}

// begin makes the file of an entry that has none.
func (e *Entry) begin() bool {
	if e.file != nil {
		return true
	}
	dir, err := os.OpenRoot(e.store.dir)
	if err != nil {
		return false
	}
	defer dir.Close()
	return e.open(dir)
}

// fileName is the form of the names of the files.
var fileName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Sweep removes what was not written for longer than a session is remembered, unless an upload has it.
func (s Store) Sweep() {
	dir, err := os.OpenRoot(s.dir)
	if s.dir == "" || err != nil {
		return
	}
	defer dir.Close()
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && fileName.MatchString(e.Name()) && time.Since(info.ModTime()) > maxAge {
			sweep(dir, e.Name())
		}
	}
}

// sweep removes a file of this package that nobody has locked.
func sweep(dir *os.Root, name string) {
	f, err := rootfile.Open(dir, name, os.O_RDWR)
	if err != nil {
		return
	}
	defer f.Close()
	if filelock.Lock(f) != nil {
		return
	}
	if info, err := rootfile.Named(dir, f, name); err == nil && rootfile.IsOwn(info) {
		_ = dir.Remove(name)
	}
}

// open opens the file or makes it, locks it, and reads it. Whatever else has its name is removed, and never
// written: it may be a link to another file, or another name of one.
func (e *Entry) open(dir *os.Root) bool {
	for range 3 {
		f, err := rootfile.Open(dir, e.name, os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = rootfile.Create(dir, e.name, 0o600)
		}
		if err == nil {
			if filelock.Lock(f) != nil {
				_ = f.Close()
				return false
			}
			var info fs.FileInfo
			if info, err = rootfile.Named(dir, f, e.name); err == nil && e.load(f, info) {
				e.file = f
				return true
			}
			_ = f.Close()
		}
		if errors.Is(err, fs.ErrExist) || errors.Is(err, rootfile.ErrReplaced) {
			continue // what has the name now is another upload's
		}
		if fi, err := dir.Lstat(e.name); err == nil && !fi.IsDir() {
			_ = dir.Remove(e.name)
		}
	}
	return false
}

// load reads the file, and tells whether it is one that this package may write: of this user, and either
// empty or with what Save writes.
func (e *Entry) load(f *os.File, info fs.FileInfo) bool {
	if info.Size() >= maxFile || !rootfile.IsOwn(info) {
		return false
	}
	if info.Size() == 0 {
		return true
	}
	var r record
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
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

// Holds tells whether the entry can remember a session, and no other upload has one of the same blob.
func (e *Entry) Holds() bool { return e != nil && e.file != nil }

// Save remembers where the upload goes on. A crash in the middle leaves what cannot be
// parsed, which is nothing.
func (e *Entry) Save(session string) {
	if e == nil || !e.begin() {
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
	if !e.Holds() {
		return
	}
	defer e.file.Close()
	if keep {
		return
	}
	_ = e.file.Truncate(0) // should it not be possible to remove it
	dir, err := os.OpenRoot(e.store.dir)
	if err != nil {
		return
	}
	defer dir.Close()
	if dir.Remove(e.name) != nil {
		_ = e.file.Close()
		_ = dir.Remove(e.name) // some systems do not remove a file that is open
	}
}
