package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/retry"
)

const (
	// KeepThreshold is the size of the smallest blob that is kept unfinished, for the next call to go on
	// with.
	KeepThreshold = 64 << 10 // 64 KiB

	// LargeThreshold is the size of the smallest blob that has a journal from its first byte on, and is
	// hashed in the background. A smaller one is hashed as it is written, and has a journal only where its
	// body is long or is cut short: most are whole before a journal would be of use.
	LargeThreshold = 32 << 20 // 32 MiB
)

// errIncomplete refuses to commit a blob of which some ranges were never written.
var errIncomplete = errors.New("blob is incomplete")

// Partial is a claimed blob that has no final name yet. Its methods are safe for concurrent use, except that
// Commit and Close come after all writers were closed.
//
// It has no lock: what changes while bytes are written is in its parts, and its own fields change in Claim,
// Commit and Close only.
type Partial struct {
	finalNames *finalNames
	stale      *staleFiles
	name       string // the final one

	data    dataFile
	record  recorder
	hasher  hasher
	resumed bool   // what earlier runs left was taken over
	right   bool   // all of it was verified and synced
	release func() // gives up the lock once the file was closed; nil before
}

// Missing returns what must be fetched, in order. It grows when bytes are found to be wrong: before or in
// Commit.
func (p *Partial) Missing() []pieces.Range { return p.record.missing() }

// ReadAt reads bytes that are not missing.
func (p *Partial) ReadAt(b []byte, off int64) (int, error) { return p.data.ReadAt(b, off) }

// WriterAt returns a writer that begins at the offset. It must be closed, or what it wrote does not count and
// cannot be written by another.
func (p *Partial) WriterAt(off int64) *Writer {
	return &Writer{
		data: &p.data, record: &p.record, hasher: &p.hasher,
		mine: reservation{start: off, end: off}, back: off,
	}
}

// Commit checks the digest of what was written, syncs it and gives it the final name, which is durable once
// the directory is closed.
//
// All that Missing returns must have been written. The error is a [*MismatchError] when the content is
// wrong: the partial stays claimed and Missing says what to write before the next Commit. Commit may be
// called again after [syscall.EMFILE] and [syscall.ENFILE]. After any other error of the file system nothing
// is kept, except where only the final name could not be given. The caller calls Close in any case.
func (p *Partial) Commit(ctx context.Context) error {
	if err := p.record.state.usable(); err != nil {
		return err
	}
	p.hasher.stop()
	if err := p.hasher.verify(ctx); err != nil {
		p.hasher.start()
		return err
	}
	err := p.publish()
	switch {
	case err == nil || retry.NoDescriptor(err):
	case p.right:
		p.record.state.stop(err)
	default:
		p.record.state.fail(err)
	}
	return err
}

// publish gives the data file the final name.
func (p *Partial) publish() error {
	fi, err := p.data.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != p.record.size {
		return fmt.Errorf("%s: %w: %d bytes, not %d", p.data.Name(), errSize, fi.Size(), p.record.size)
	}
	if err := p.sync(); err != nil {
		return err
	}
	// Before the rename, so that no crash leaves the journal of a finished blob behind, and before the lock
	// is kept, which takes the descriptor that it has had: there may be no other.
	if err := p.record.journal.remove(); err != nil {
		return err
	}
	if p.release, err = filelock.Keep(p.data.File); err != nil {
		return p.data.folder.pathError("lock", p.data.name, err)
	}
	if err := p.data.Close(); err != nil {
		return err
	}
	p.right = true
	if err := p.data.renameTo(p.name); err != nil {
		return err
	}
	p.finalNames.added(p.name)
	p.stale.sweep(p.name, true)
	p.record.state.close()
	p.release()
	return nil
}

// sync syncs the data file, which may take long for a large one.
func (p *Partial) sync() error {
	if p.record.large() {
		defer p.data.beating()()
	}
	return syncFile(p.data.File)
}

// Close gives up the claim. With keep, what is recorded of a blob of [KeepThreshold] bytes or more stays for
// the next claim to continue, also after a write for which there was no space ([NoSpace]), and so does a
// blob that is right and only could not get its name. Nothing stays without keep, or after any other
// failure. After a successful Commit, and when it was called before, Close does nothing.
func (p *Partial) Close(keep bool) error {
	p.hasher.stop()
	first, ruined := p.record.state.close()
	switch {
	case !first:
		return nil
	case keep && p.right:
		p.stale.add(p.data.name)
		p.release()
		return nil
	case keep && !ruined && !p.done() && p.resumable():
		p.stale.add(p.data.name)
		return errors.Join(p.record.journal.close(), p.data.Close())
	}
	err := errors.Join(p.record.journal.remove(), p.data.remove())
	if p.release != nil {
		p.release()
	}
	return err
}

// done tells whether another has finished the blob, who did not wait.
func (p *Partial) done() bool {
	done, err := p.finalNames.finished(p.name, p.record.size)
	return err == nil && done
}

// resumable tells whether the next claim can go on from the partial. A small blob gets its journal here.
func (p *Partial) resumable() bool {
	if !p.resumed {
		return !p.data.fresh // then all is as it was found
	}
	return p.record.resumable() && p.record.journal.begin() == nil
}
