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

// leftovers are the files that the directory had of unfinished blobs when it was opened for writing. Some are
// continued by a claim. The others are removed here, unless a process holds them.
type leftovers struct {
	folder *folder

	// mu guards the names. It is never held during I/O.
	mu    sync.Mutex
	names map[string][]string // by final name; empty when the directory was opened for reading
}

// find reads the directory once, so that no claim has to.
func (l *leftovers) find() error {
	f, err := l.folder.root.Open(".")
	if err != nil {
		return l.folder.pathError("open", ".", err)
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			l.add(name)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return l.folder.pathError("readdir", ".", err)
		}
	}
}

// add notes a name, if it has the form of a leftover's.
func (l *leftovers) add(name string) {
	final, suffix, _ := strings.Cut(name, ".")
	suffix = "." + suffix
	if suffix != prefixSuffix && !strings.HasPrefix(suffix, partialSuffix) &&
		!strings.HasPrefix(suffix, journalSuffix) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.names[final], name) {
		l.names[final] = append(l.names[final], name)
	}
}

// hasAny tells whether anything was left of a blob.
func (l *leftovers) hasAny(final string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.names[final]) > 0
}

// hasPrefix tells whether a program that writes from front to back has left the first bytes of a blob.
func (l *leftovers) hasPrefix(final string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := l.names[final] // of most blobs there are none
	return len(names) > 0 && slices.Contains(names, final+prefixSuffix)
}

// prefixSize returns how many bytes of a blob such a program has left, 0 when they cannot be used.
func (l *leftovers) prefixSize(final string, size int64) int64 {
	if !l.hasPrefix(final) {
		return 0
	}
	fi := l.folder.ours(final + prefixSuffix)
	if fi == nil || fi.Size() > size {
		return 0
	}
	return fi.Size()
}

// sweep removes those leftovers of a blob that no process holds: data files of unique names, which nobody can
// continue, and all others too once the blob is finished. What cannot be removed stays, and does no harm.
func (l *leftovers) sweep(final string, finished bool) {
	isUnique := func(name string) bool { return strings.HasPrefix(name, final+uniqueSuffix) }
	l.mu.Lock()
	names := slices.Clone(l.names[final])
	if finished {
		delete(l.names, final)
	} else if slices.ContainsFunc(names, isUnique) {
		l.names[final] = slices.DeleteFunc(l.names[final], isUnique)
	}
	l.mu.Unlock()

	for _, name := range names {
		if isUnique(name) {
			l.removeData(name)
		}
	}
	if !finished || len(names) == 0 {
		return
	}
	l.removeData(final + prefixSuffix)
	for n := range sharedNames {
		l.removeData(dataName(final, n))
	}
}

// removeData removes what has the name of a data file, and its journal, unless a process may be writing it or
// it belongs to another user.
//
// Whoever has locked the file has its journal too. So the lock is held until both are gone, and a journal
// without a file goes with a file that was made to be locked: another process may be about to make one.
func (l *leftovers) removeData(name string) {
	f, err := l.folder.openOwn(name, os.O_RDWR)
	if errors.Is(err, errLinked) { // only this name of it goes
		f, err = l.folder.open(name, os.O_RDWR)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := l.folder.root.Lstat(journalName(name)); lerr != nil {
			return
		}
		var made dataFile
		made, err = openLocked(l.folder, name)
		f = made.File
	}
	if err == nil {
		defer f.Close()
		if !l.abandoned(f, name) {
			return
		}
	} else if errors.Is(err, errForeign) || !unusable(err) && !errors.Is(err, filelock.ErrUnsupported) {
		return
	}
	l.remove(journalName(name))
	l.remove(name)
}

// abandoned tells whether no process holds a data file. Where files cannot be locked, it goes by the age of
// those that are ours.
func (l *leftovers) abandoned(f *os.File, name string) bool {
	err := l.folder.lock(f)
	if err != nil && !errors.Is(err, filelock.ErrUnsupported) {
		return false
	}
	info, serr := l.folder.stillNamed(f, name)
	return serr == nil && (err == nil || rootfile.IsOwn(info) && time.Since(info.ModTime()) > abandonedAfter)
}

// remove removes a file, a link, which is not followed, or a pipe.
func (l *leftovers) remove(name string) {
	if fi, err := l.folder.root.Lstat(name); err == nil && fi.Mode()&(fs.ModeDir|fs.ModeDevice) == 0 {
		_ = l.folder.root.Remove(name)
	}
}
