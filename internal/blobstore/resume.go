package blobstore

import (
	"errors"
	"io/fs"
	"os"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/retry"
)

// resumption takes over what earlier runs have left of a blob whose data file is locked. It is done before
// anybody has the partial, so it needs none of the locks.
type resumption struct {
	final  string
	data   *dataFile
	record *recorder
	stale  *staleFiles
}

// run makes the data file and the recorder go on where earlier runs have ended.
func (r resumption) run() error {
	if !r.data.shared {
		return nil
	}
	if r.stale.hasPrefix(r.final) {
		if err := r.adoptPrefix(); err != nil {
			return err
		}
	}
	if !r.data.fresh && len(r.record.recorded) == 0 {
		if err := r.reuse(); err != nil {
			return err
		}
	}
	if r.record.journal != nil {
		return nil
	}
	return r.startJournal(r.record.recorded)
}

// adoptPrefix makes a file with prefixSuffix the data file, where the data file has no bytes of its own. A
// prefix that cannot be used, or that is in use, is left alone; one that is too long is removed.
//
// The journal comes before the rename: were there no space for it after that, the bytes would have no
// journal, and not be found again.
func (r resumption) adoptPrefix() error {
	own, err := r.data.Stat()
	if err != nil || own.Size() > 0 {
		return err
	}
	name, folder := r.final+prefixSuffix, r.data.folder
	f, err := folder.openOwn(name, os.O_RDWR)
	if err != nil {
		return nil
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() > r.record.size {
		return errors.Join(f.Close(), folder.remove(name))
	}
	// Locked before it gets the name: whoever waits for that name goes on waiting.
	if err != nil || folder.lock(f) != nil {
		return f.Close()
	}
	adopted := adoptedExtents(fi.Size())
	if err := r.startJournal(adopted); err != nil {
		return errors.Join(err, f.Close())
	}
	if rename(folder.root, name, r.data.name) != nil {
		return errors.Join(r.record.journal.reset(), f.Close())
	}
	_ = r.data.Close() // nothing was written to it
	r.data.File, r.data.info, r.data.fresh, r.record.recorded = f, fi, false, adopted
	return nil
}

// adoptedExtents takes the first bytes of a data file for complete until the digest shows otherwise.
func adoptedExtents(size int64) extents {
	if size == 0 {
		return nil
	}
	return extents{{Range: pieces.Range{End: size}, adopted: true}}
}

// reuse takes over the data file as far as its journal tells what is complete.
func (r resumption) reuse() error {
	fi, err := r.data.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	have, size := fi.Size(), r.record.size
	journal, recorded, err := openJournal(r.data.folder, journalName(r.data.name), size)
	switch {
	case err == nil:
		r.record.journal, r.record.recorded = journal, recorded.within(have)
		return r.data.Truncate(min(have, size))
	case errors.Is(err, fs.ErrNotExist) && have == size:
		r.record.recorded = adoptedExtents(size) // only its final name was lacking
		return nil
	case retry.NoDescriptor(err):
		return err
	}
	return r.data.Truncate(0)
}

// startJournal gives the recorder a journal of what is recorded. Its file is made now where a crash would
// lose much without it. Where something is in its way, the partial has no journal, and is not kept.
func (r resumption) startJournal(recorded extents) error {
	record := r.record
	if record.size < KeepThreshold {
		return nil
	}
	journal := &journal{
		folder: r.data.folder, name: journalName(r.data.name), size: record.size, waiting: recorded,
	}
	if record.large() || recorded.bytes() >= segmentOf(record.size) {
		err := journal.begin()
		if errors.Is(err, errInTheWay) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	record.journal = journal
	return nil
}
