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
	file   *os.File
	name   string
	blob   string
	stored string
}

// record is the content of a file.
type record struct {
	Blob    string `json:"blob"`
	Session string `json:"session"`
}

// Claim returns the entry of a blob, which must be closed. It is nil where another upload of the same blob has it: two
// must not use the same session. A link, a pipe or a file of another user in its place is removed, and never followed.
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
	if e.open() != nil {
		_ = dir.Close()
		return nil
	}
	e.load()
	return e
}

// open opens and locks the file of the entry, and creates it if it does not exist.
func (e *Entry) open() (err error) {
	if e.file, err = e.existing(); err != nil {
		if e.file, err = rootfile.Create(e.dir, e.name, 0o600); err != nil {
			return err
		}
	}
	if err = filelock.Lock(e.file); err == nil {
		_, err = rootfile.Named(e.dir, e.file, e.name)
	}
	if err != nil {
		_ = e.file.Close()
	}
	return err
}

// existing opens the file of the entry. What is no regular file of this user is removed.
func (e *Entry) existing() (*os.File, error) {
	f, err := rootfile.Open(e.dir, e.name, os.O_RDWR)
	if errors.Is(err, rootfile.ErrNotRegular) || errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(err, e.dir.Remove(e.name))
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !rootfile.IsOwn(info) {
		return nil, errors.Join(rootfile.ErrNotRegular, f.Close(), e.dir.Remove(e.name))
	}
	return f, nil
}

func (e *Entry) load() {
	info, err := e.file.Stat()
	if err != nil || time.Since(info.ModTime()) > maxAge {
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

// Close lets go of the entry, and forgets it unless it is to be kept. An open file cannot be removed everywhere, so it is
// closed first; who claims it in between finds it empty.
func (e *Entry) Close(keep bool) {
	if e == nil {
		return
	}
	if !keep {
		_ = e.file.Truncate(0)
	}
	_ = e.file.Close()
	if !keep {
		_ = e.dir.Remove(e.name)
	}
	_ = e.dir.Close()
}
