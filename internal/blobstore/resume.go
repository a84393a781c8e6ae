package blobstore

import (
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/retry"
)

// resume takes over what earlier runs have left of the blob.
func (p *Partial) resume() error {
	if !p.data.shared {
		return nil
	}
	if p.dir.hasPrefix(p.name) {
		if err := p.adoptPrefix(); err != nil {
			return err
		}
	}
	if p.large() {
		return p.resumeJournal()
	}
	if p.data.fresh || len(p.recorded) > 0 {
		return nil
	}
	return p.data.Truncate(0)
}

// adoptPrefix makes a file with prefixSuffix the data file, where the data file has no bytes of its own.
// A prefix that cannot be used, or that is in use, is left alone; one that is too long is removed.
//
// The journal comes before the rename: without a journal the bytes would not be found again, should there
// be no room for it.
func (p *Partial) adoptPrefix() error {
	own, err := p.data.Stat()
	if err != nil || own.Size() > 0 {
		return err
	}
	name := p.name + prefixSuffix
	f, err := p.dir.openRegular(name, os.O_RDWR)
	if err != nil {
		return nil
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() > p.size {
		return errors.Join(f.Close(), p.dir.remove(name))
	}
	// Locked before it gets the name: whoever waits for that name goes on waiting.
	if err != nil || p.dir.lock(f) != nil {
		return f.Close()
	}
	adopted := adoptedExtents(fi.Size())
	if p.large() {
		if err := p.beginJournal(journalName(p.data.name), adopted); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if rename(p.dir.root, name, p.data.name) != nil {
		return errors.Join(p.journal.reset(), f.Close())
	}
	_ = p.data.Close() // nothing was written to it
	p.data.File, p.data.info, p.data.fresh, p.recorded = f, fi, false, adopted
	return nil
}

// adoptedExtents takes the first bytes of a data file for complete, until the digest tells.
func adoptedExtents(size int64) extents {
	if size == 0 {
		return nil
	}
	return extents{{Range: pieces.Range{End: size}, adopted: true}}
}

// resumeJournal continues the journal of a large blob, or begins one.
func (p *Partial) resumeJournal() error {
	fi, err := p.data.Stat()
	if err != nil {
		return err
	}
	name := journalName(p.data.name)
	if len(p.recorded) == 0 && fi.Size() > 0 {
		if err := p.reuse(name, fi.Size()); err != nil {
			return err
		}
	}
	if p.journal != nil {
		return nil
	}
	return p.beginJournal(name, p.recorded)
}

// reuse takes over a data file of that size as far as its journal tells what is complete.
func (p *Partial) reuse(name string, have int64) error {
	journal, recorded, err := p.dir.openJournal(name, p.size)
	switch {
	case err == nil:
		p.journal, p.recorded = journal, recorded.within(have)
		return p.data.Truncate(min(have, p.size))
	case errors.Is(err, fs.ErrNotExist) && have == p.size:
		p.recorded = adoptedExtents(p.size) // killed between the end of the journal and the final name
		return nil
	case retry.NoDescriptor(err):
		return err
	}
	return p.data.Truncate(0)
}

// beginJournal begins a journal of what is recorded. What else has its name goes, but for a directory:
// beside one the partial has no journal, and is not kept.
func (p *Partial) beginJournal(name string, recorded extents) error {
	fi, err := p.dir.root.Lstat(name)
	if err == nil && fi.IsDir() {
		return nil
	}
	if err := p.dir.remove(name); err != nil {
		return err
	}
	if p.journal, err = p.dir.newJournal(name, p.size); err != nil {
		return err
	}
	return p.journal.addAll(recorded)
}

// Half returns how many bytes of a blob that has no final name yet an earlier run has left, as far
// as that can be told without reading them: 0 when nothing can be continued.
func (d *Dir) Half(dg digest.Digest, size int64) int64 {
	final := nameOf(dg)
	if size < KeepThreshold {
		return d.halfPrefix(final, size)
	}
	for n := range sharedNames {
		f, err := d.openRegular(dataName(final, n), os.O_RDWR)
		switch {
		case unusable(err) || errors.Is(err, fs.ErrPermission):
			continue
		case errors.Is(err, fs.ErrNotExist):
			return d.halfPrefix(final, size)
		case err != nil:
			return 0
		}
		fi, err := f.Stat()
		_ = f.Close()
		switch {
		case err != nil:
			return 0
		case fi.Size() == 0:
			return d.halfPrefix(final, size)
		}
		return d.halfJournal(journalName(dataName(final, n)), fi.Size(), size)
	}
	return 0
}

// halfJournal returns how many bytes of a data file are complete according to its journal.
func (d *Dir) halfJournal(name string, have, size int64) int64 {
	f, err := d.openRegular(name, os.O_RDONLY)
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

func (d *Dir) halfPrefix(final string, size int64) int64 {
	if !d.hasPrefix(final) {
		return 0
	}
	fi, err := d.root.Lstat(final + prefixSuffix)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > size {
		return 0
	}
	return fi.Size()
}
