package blobstore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// abandonedAfter is how long ago a file that cannot be locked was last written when it counts as abandoned.
// It is far longer than any download waits for one byte, or takes to hash a blob.
const abandonedAfter = 24 * time.Hour

// staleFiles are the files of unfinished blobs that the directory had when it was opened for writing. Some
// are continued by a claim. The others are removed here, unless a process has locked them.
type staleFiles struct {
	folder *folder

	// mu guards the names. It is never held during I/O.
	mu    sync.Mutex
	names map[string][]string // by final name; empty when the directory was opened for reading
}

// find reads the directory once, so that no claim has to.
func (s *staleFiles) find() error {
	f, err := s.folder.root.Open(".")
	if err != nil {
		return s.folder.pathError("open", ".", err)
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			s.add(name)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return s.folder.pathError("readdir", ".", err)
		}
	}
}

// add notes a name that has the form of an unfinished blob's.
func (s *staleFiles) add(name string) {
	final, suffix, _ := strings.Cut(name, ".")
	suffix = "." + suffix
	if suffix != prefixSuffix && !strings.HasPrefix(suffix, partialSuffix) &&
		!strings.HasPrefix(suffix, journalSuffix) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.names[final], name) {
		s.names[final] = append(s.names[final], name)
	}
}

// hasAny tells whether anything was left of a blob.
func (s *staleFiles) hasAny(final string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.names[final]) > 0
}

// has tells whether a file of a blob was left under a name.
func (s *staleFiles) has(final, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.names[final], name)
}

// hasPrefix tells whether a program that writes from front to back has left the first bytes of a blob.
func (s *staleFiles) hasPrefix(final string) bool { return s.has(final, final+prefixSuffix) }

// prefixSize returns how many bytes of a blob such a program has left, 0 when they cannot be used.
func (s *staleFiles) prefixSize(final string, size int64) int64 {
	if !s.hasPrefix(final) {
		return 0
	}
	fi := s.folder.ours(final + prefixSuffix)
	if fi == nil || fi.Size() > size {
		return 0
	}
	return fi.Size()
}

// sweep removes those files of a blob that no process has locked: data files of unique names, which nobody
// can continue, and all others too once the blob is finished. What cannot be removed stays, and does no
// harm.
func (s *staleFiles) sweep(final string, finished bool) {
	isUnique := func(name string) bool { return strings.HasPrefix(name, final+uniqueSuffix) }
	s.mu.Lock()
	names := slices.Clone(s.names[final])
	if finished {
		delete(s.names, final)
	} else if slices.ContainsFunc(names, isUnique) {
		s.names[final] = slices.DeleteFunc(s.names[final], isUnique)
	}
	s.mu.Unlock()

	for _, name := range names {
		if isUnique(name) {
			s.removeData(name)
		}
	}
	if !finished || len(names) == 0 {
		return
	}
	s.removeData(final + prefixSuffix)
	for n := range sharedNames {
		s.removeData(dataName(final, n))
	}
}

// removeData removes what has the name of a data file, and its journal, unless a process may be writing it or
// it belongs to another user.
//
// Whoever has locked the file has its journal too. So the lock is held until both are gone, and a journal
// without a file goes with a file that was made to be locked: another process may be about to make one.
func (s *staleFiles) removeData(name string) {
	f, err := s.folder.openOwn(name, os.O_RDWR)
	if errors.Is(err, errLinked) { // only this name of it goes
		f, err = s.folder.open(name, os.O_RDWR)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := s.folder.root.Lstat(journalName(name)); lerr != nil {
			return
		}
		var made dataFile
		made, err = openLocked(s.folder, name)
		f = made.File
	}
	if err == nil {
		defer f.Close()
		if !s.abandoned(f, name) {
			return
		}
	} else if errors.Is(err, errForeign) || !unusable(err) && !errors.Is(err, filelock.ErrUnsupported) {
		return
	}
	s.remove(journalName(name))
	s.remove(name)
}

// abandoned tells whether no process has locked a data file. Where files cannot be locked, it goes by the
// age of those that are ours.
func (s *staleFiles) abandoned(f *os.File, name string) bool {
	err := s.folder.lock(f)
	if err != nil && !errors.Is(err, filelock.ErrUnsupported) {
		return false
	}
	info, serr := s.folder.stillNamed(f, name)
	return serr == nil && (err == nil || rootfile.IsOwn(info) && time.Since(info.ModTime()) > abandonedAfter)
}

// remove removes a file, a link, which is not followed, or a pipe.
func (s *staleFiles) remove(name string) {
	if fi, err := s.folder.root.Lstat(name); err == nil && fi.Mode()&(fs.ModeDir|fs.ModeDevice) == 0 {
		_ = s.folder.root.Remove(name)
	}
}
