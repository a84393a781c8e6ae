// Package sessions remembers, from one call or process to the next, where interrupted uploads go on.
package sessions

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/modeltransfer/transfer/internal/filelock"
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
	sum := sha256.Sum256([]byte(blob))
	f, err := os.OpenFile(filepath.Join(s.dir, hex.EncodeToString(sum[:])), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil
	}
	if filelock.Lock(f) != nil {
		_ = f.Close()
		return nil
	}
	e := &Entry{file: f, blob: blob}
	e.load()
	return e
}

func (e *Entry) load() {
	info, err := e.file.Stat()
	if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) > maxAge {
		return
	}
	var r record
	data, err := io.ReadAll(io.LimitReader(e.file, maxFile))
	if err == nil && json.Unmarshal(data, &r) == nil && r.Blob == e.blob {
		e.stored = r.Session
	}
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
	if !keep {
		_ = e.file.Truncate(0) // where an open file cannot be removed
		_ = os.Remove(e.file.Name())
	}
	_ = e.file.Close()
}
