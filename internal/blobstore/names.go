package blobstore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
)

// What is not a blob yet has the blob's final name and one of these.
const (
	partialSuffix = ".partial"  // the data, which is also what is locked
	journalSuffix = ".journal"  // which of it is complete
	uniqueSuffix  = ".partial-" // and random letters: data that nobody continues
	prefixSuffix  = ".tmp"      // the first bytes, left by a writer from front to back
)

// nameOf returns the final name of a blob.
func nameOf(dg digest.Digest) string {
	return dg.Algorithm().String() + "-" + dg.Encoded()
}

// leftovers are the files of one blob that a claim has to look at.
type leftovers struct {
	prefix  bool     // there is a file with prefixSuffix
	journal bool     // there is one with journalSuffix, perhaps of a partial that is gone
	unique  []string // names with uniqueSuffix
}

// findLeftovers reads the directory once, so that no claim has to.
func (d *Dir) findLeftovers() error {
	f, err := d.root.Open(".")
	if err != nil {
		return d.pathError("open", ".", err)
	}
	defer f.Close()
	d.left = make(map[string]leftovers)
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

func (d *Dir) addLeftover(name string) {
	if final, ok := strings.CutSuffix(name, prefixSuffix); ok {
		l := d.left[final]
		l.prefix = true
		d.left[final] = l
	} else if final, ok := strings.CutSuffix(name, journalSuffix); ok {
		l := d.left[final]
		l.journal = true
		d.left[final] = l
	} else if i := strings.LastIndex(name, uniqueSuffix); i > 0 {
		l := d.left[name[:i]]
		l.unique = append(l.unique, name)
		d.left[name[:i]] = l
	}
}

// leftoversOf returns the leftovers of a blob.
func (d *Dir) leftoversOf(final string) leftovers {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left[final]
}

// sweep removes the leftovers of a blob that no process holds, and all that are of no use once it is
// finished. What cannot be removed stays: it is in nobody's way.
func (d *Dir) sweep(final string, finished bool) {
	d.mu.Lock()
	l := d.left[final]
	if finished {
		delete(d.left, final)
	} else if len(l.unique) > 0 {
		d.left[final] = leftovers{prefix: l.prefix, journal: l.journal}
	}
	d.mu.Unlock()

	for _, name := range l.unique {
		if f, err := d.openRegular(name, os.O_RDWR); err == nil {
			if d.lock(f) == nil {
				_ = d.root.Remove(name)
			}
			_ = f.Close()
		}
	}
	if finished && l.prefix {
		d.sweepFile(final + prefixSuffix)
	}
	if finished && l.journal {
		d.sweepFile(final + journalSuffix)
	}
}

func (d *Dir) sweepFile(name string) {
	if fi, err := d.root.Lstat(name); err == nil && fi.Mode().IsRegular() {
		_ = d.root.Remove(name)
	}
}

// remove deletes a file, which may be gone already.
func (d *Dir) remove(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.pathError("remove", name, err)
	}
	return nil
}
