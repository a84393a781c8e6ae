package blobstore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// abandonedAfter is for how long nobody must have written a file that cannot be locked until it is taken
// for a leftover. It is far longer than any download waits for one byte, or hashes a blob.
const abandonedAfter = 24 * time.Hour

// findLeftovers reads the directory once, so that no claim has to.
func (d *Dir) findLeftovers() error {
	f, err := d.root.Open(".")
	if err != nil {
		return d.pathError("open", ".", err)
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			d.addLeftover(name)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return d.pathError("readdir", ".", err)
		}
	}
}

// addLeftover notes a file that is no finished blob, if its name says that it may be one's.
func (d *Dir) addLeftover(name string) {
	final, suffix, _ := strings.Cut(name, ".")
	suffix = "." + suffix
	if suffix != prefixSuffix && !strings.HasPrefix(suffix, partialSuffix) && !strings.HasPrefix(suffix, journalSuffix) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.left[final], name) {
		d.left[final] = append(d.left[final], name)
	}
}

// hasPrefix tells whether a writer from front to back has left the first bytes of a blob.
func (d *Dir) hasPrefix(final string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.left[final], final+prefixSuffix)
}

// sweep removes leftovers of a blob that no process holds: files that nobody can continue, and all others too
// once the blob is finished. What cannot be removed stays: it is in nobody's way.
func (d *Dir) sweep(final string, finished bool) {
	isUnique := func(name string) bool { return strings.HasPrefix(name, final+uniqueSuffix) }
	d.mu.Lock()
	names := slices.Clone(d.left[final])
	if finished {
		delete(d.left, final)
	} else if slices.ContainsFunc(names, isUnique) {
		d.left[final] = slices.DeleteFunc(d.left[final], isUnique)
	}
	d.mu.Unlock()

	for _, name := range names {
		if isUnique(name) {
			d.sweepData(name)
		}
	}
	if !finished || len(names) == 0 {
		return
	}
	d.sweepFile(final + prefixSuffix)
	for n := range sharedNames {
		if data := dataName(final, n); d.sweepData(data) {
			d.sweepFile(journalName(data))
		}
	}
}

// sweepData removes what has the name of a data file and returns true, unless a process may be writing it or
// it belongs to another user.
func (d *Dir) sweepData(name string) bool {
	f, err := d.openRegular(name, os.O_RDWR)
	if err == nil {
		defer f.Close()
		if !d.abandoned(f, name) {
			return false
		}
	} else if !unusable(err) && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	d.sweepFile(name)
	return true
}

// abandoned tells whether a data file is nobody's. Where files cannot be locked, one that is
// ours and that was not written for long is.
func (d *Dir) abandoned(f *os.File, name string) bool {
	err := d.lock(f)
	if err != nil && !errors.Is(err, filelock.ErrUnsupported) {
		return false
	}
	info, serr := d.stillNamed(f, name)
	return serr == nil && (err == nil || rootfile.IsOwn(info) && time.Since(info.ModTime()) > abandonedAfter)
}

// sweepFile removes a file, a link, which is not followed, or a pipe.
func (d *Dir) sweepFile(name string) {
	if fi, err := d.root.Lstat(name); err == nil && fi.Mode()&(fs.ModeDir|fs.ModeDevice) == 0 {
		_ = d.root.Remove(name)
	}
}
