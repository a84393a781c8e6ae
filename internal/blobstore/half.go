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
	if size < KeepThreshold {
		return d.left.prefixSize(final, size)
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
	f, err := d.open(name, os.O_RDONLY)
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
