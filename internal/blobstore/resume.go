package blobstore

import (
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// resume takes over what earlier runs have left of the blob.
func (p *Partial) resume() error {
	if p.unique {
		return nil
	}
	if p.dir.leftoversOf(p.name).prefix {
		if err := p.adoptPrefix(); err != nil {
			return err
		}
	}
	if p.large() {
		return p.resumeJournal()
	}
	if p.fresh || len(p.recorded) > 0 {
		return nil
	}
	return p.file.Truncate(0)
}

// adoptPrefix makes a file with prefixSuffix the data file, where the data file has no bytes of its own.
// A prefix that cannot be used, or that is in use, is left alone; one that is too long is removed.
//
// The journal comes before the rename: without a journal the bytes would not be found again, should there
// be no room for it.
func (p *Partial) adoptPrefix() error {
	own, err := p.file.Stat()
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
		if err := p.beginJournal(p.name+journalSuffix, adopted); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if rename(p.dir.root, name, p.data) != nil {
		return errors.Join(p.journal.reset(), f.Close())
	}
	_ = p.file.Close() // nothing was written to it
	p.file, p.fresh, p.recorded = f, false, adopted
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
	fi, err := p.file.Stat()
	if err != nil {
		return err
	}
	name := p.name + journalSuffix
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
		return p.file.Truncate(min(have, p.size))
	case errors.Is(err, fs.ErrNotExist) && have == p.size:
		p.recorded = adoptedExtents(p.size) // killed between the end of the journal and the final name
		return nil
	case NoDescriptor(err):
		return err
	}
	return p.file.Truncate(0)
}

// beginJournal begins a journal of what is recorded. Where something other than a file has its name, the partial
// goes without one, and is not kept.
func (p *Partial) beginJournal(name string, recorded extents) error {
	fi, err := p.dir.root.Lstat(name)
	if err == nil && !fi.Mode().IsRegular() {
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
	name := nameOf(dg)
	if size < KeepThreshold {
		return d.halfPrefix(name, size)
	}
	data, err := d.root.Lstat(name + partialSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return d.halfPrefix(name, size)
	}
	if err != nil || !data.Mode().IsRegular() {
		return 0
	}
	f, err := d.openRegular(name+journalSuffix, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) && data.Size() == size {
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
	return recorded.within(data.Size()).bytes()
}

func (d *Dir) halfPrefix(name string, size int64) int64 {
	if !d.leftoversOf(name).prefix {
		return 0
	}
	fi, err := d.root.Lstat(name + prefixSuffix)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > size {
		return 0
	}
	return fi.Size()
}
