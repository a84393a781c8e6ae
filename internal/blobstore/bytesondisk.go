package blobstore

import (
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
)

// BytesOnDisk returns how many bytes an earlier run has left of a blob without a final name. It trusts the
// journal and reads none of them. It is 0 when nothing can be continued.
func (d *Dir) BytesOnDisk(dg digest.Digest, size int64) int64 {
	final := nameOf(dg)
	if size < LargeThreshold && !d.stale.hasAny(final) { // there may be very many
		return 0
	}
	for n := range sharedNames {
		name := dataName(final, n)
		have, err := d.folder.sizeOf(name)
		switch {
		case unusable(err) || errors.Is(err, fs.ErrPermission):
			continue
		case errors.Is(err, fs.ErrNotExist), err == nil && have == 0:
			return d.stale.prefixSize(final, size)
		case err != nil:
			return 0
		}
		return journaled(d.folder, name, have, size).bytes()
	}
	return 0
}

// journaled returns what of a data file, which has so many bytes, is complete according to its journal.
func journaled(d *folder, data string, have, size int64) extents {
	f, err := d.openOwn(journalName(data), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) && have == size {
		return adoptedExtents(size)
	}
	if err != nil {
		return nil
	}
	defer f.Close()
	recorded, _, err := readJournal(f, size)
	if err != nil {
		return nil
	}
	return recorded.within(have)
}

// Reclaim removes what earlier runs have left of a blob and a claim could only copy from. It returns how much
// space the file already takes that a claim would write to.
func (d *Dir) Reclaim(dg digest.Digest) (taken int64) {
	final := nameOf(dg)
	d.stale.sweep(final, false)
	var used string
	for n := range sharedNames {
		name := dataName(final, n)
		if used != "" {
			d.stale.removeData(name)
		} else if fi := d.folder.ours(name); fi != nil && fi.Size() > 0 {
			used, taken = name, allocated(fi)
		}
	}
	if !d.stale.hasPrefix(final) {
		return taken
	}
	if used != "" {
		d.stale.removeData(final + prefixSuffix)
	} else if fi := d.folder.ours(final + prefixSuffix); fi != nil {
		taken = allocated(fi)
	}
	return taken
}
