package blobstore

import (
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
)

// Half returns how many bytes of a blob that has no final name yet an earlier run has left, as far as that
// can be told without reading them: 0 when nothing can be continued.
func (d *Dir) Half(dg digest.Digest, size int64) int64 {
	final := nameOf(dg)
	if size < LargeThreshold && !d.left.hasAny(final) { // there may be very many
		return 0
	}
	for n := range sharedNames {
		name := dataName(final, n)
		have, err := d.folder.sizeOf(name)
		switch {
		case unusable(err) || errors.Is(err, fs.ErrPermission):
			continue
		case errors.Is(err, fs.ErrNotExist), err == nil && have == 0:
			return d.left.prefixSize(final, size)
		case err != nil:
			return 0
		}
		return journaled(d.folder, journalName(name), have, size)
	}
	return 0
}

// journaled returns how many bytes of a data file, which has so many, are complete according to its journal.
func journaled(d *folder, name string, have, size int64) int64 {
	f, err := d.openOwn(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) && have == size {
		return size
	}
	if err != nil {
		return 0
	}
	defer f.Close()
	recorded, _, err := readJournal(f, size)
	if err != nil {
		return 0
	}
	return recorded.within(have).bytes()
}

// Reclaim removes what earlier runs have left of a blob that no claim goes on with, and returns how many bytes
// a claim needs not: those that the file takes on the disk that it writes to.
func (d *Dir) Reclaim(dg digest.Digest) (taken int64) {
	final := nameOf(dg)
	d.left.sweep(final, false)
	var used string
	for n := range sharedNames {
		name := dataName(final, n)
		if used != "" {
			d.left.removeData(name)
		} else if fi := d.folder.ours(name); fi != nil && fi.Size() > 0 {
			used, taken = name, allocated(fi)
		}
	}
	if !d.left.hasPrefix(final) {
		return taken
	}
	if used != "" {
		d.left.removeData(final + prefixSuffix)
	} else if fi := d.folder.ours(final + prefixSuffix); fi != nil {
		taken = allocated(fi)
	}
	return taken
}
