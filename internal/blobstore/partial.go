package blobstore

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/retry"
)

// KeepThreshold is the size from which on what is half there is worth keeping. Below it a partial
// has no journal, and is hashed as it is written.
const KeepThreshold = 32 << 20 // 32 MiB

// ErrIncomplete is a commit of a blob of which ranges are missing that were never written.
var ErrIncomplete = errors.New("blob is incomplete")

// MismatchError is a blob whose content is not what its digest says. What
// must be fetched again is missing now.
type MismatchError struct {
	Got, Want digest.Digest // Got is empty with Disk

	// Disk are the ranges that came over the network as one thing and are another on
	// the disk. When there are none, the bytes came wrong.
	Disk []pieces.Range
}

func (e *MismatchError) Error() string {
	if len(e.Disk) > 0 {
		return fmt.Sprintf("%d ranges of %s are not on disk what was written", len(e.Disk), e.Want)
	}
	return fmt.Sprintf("content has digest %s, not %s", e.Got, e.Want)
}

// Partial is a claimed blob that has no final name yet. Its methods are safe for concurrent
// use, except that Commit and Close come after all writers were closed.
type Partial struct {
	dir    *Dir
	digest digest.Digest
	name   string // the final one
	size   int64
	begun  bool // what earlier runs left was looked at

	data    dataFile
	journal *journal // nil when the partial is not worth keeping, or cannot be kept
	release func()   // gives up the lock once the file was closed

	// hashing guards the fields that follow. It is held for as long as bytes are read back.
	hashing sync.Mutex
	hash    hash.Hash
	hashed  int64 // how many bytes, from the first on, the hash has seen

	// mu guards the fields that follow. It is never held during I/O.
	mu       sync.Mutex
	recorded extents
	writers  []*Writer // those with bytes that are not recorded yet
	damaged  bool      // a recorded extent was found damaged on disk and is missing now
	failed   error     // the first error that ended writing
	ruined   bool      // an error was such that nothing recorded can be trusted
	closed   bool
	running  bool
	ctx      context.Context // of the hasher; nil when it must not run
	stop     context.CancelFunc
	hasher   sync.WaitGroup
}

func (p *Partial) large() bool { return p.size >= KeepThreshold }

// Missing returns what must be fetched, in order. It grows when bytes are found to
// be wrong: before or in Commit.
func (p *Partial) Missing() []pieces.Range {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recorded.missing(p.size)
}

// fail ends all writing and has Close remove the partial.
func (p *Partial) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ruined = true
	if p.failed == nil {
		p.failed = err
	}
}

// writeFailed ends all writing. What is recorded survives when there was merely no room for more.
// A failed sync must not end here, even for want of room: the kernel may have dropped bytes that it still
// shows to readers.
func (p *Partial) writeFailed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ruined = p.ruined || !NoSpace(err)
	if p.failed == nil {
		p.failed = err
	}
}

// usable returns why the partial cannot be written or committed any more. The caller holds mu.
func (p *Partial) usable() error {
	if p.closed {
		return p.dir.pathError("write", p.data.name, fs.ErrClosed)
	}
	return p.failed
}

// recordable returns why nothing more can be recorded. After a failed write the bytes written before it still
// can be. The caller holds mu.
func (p *Partial) recordable() error {
	if p.closed || p.ruined {
		return p.usable()
	}
	return nil
}

// Commit checks the digest of what was written, syncs it and gives it the final name, which is durable
// once the directory is closed.
//
// The error is a [*MismatchError] when the content is wrong: the partial stays claimed and Missing
// says what to write before the next Commit. It matches [ErrIncomplete] when Missing was not
// written yet. It may be called again after [syscall.EMFILE] and [syscall.ENFILE]; after any other error of
// the file system nothing can be kept. The caller calls Close in any case.
func (p *Partial) Commit(ctx context.Context) error {
	p.mu.Lock()
	err := p.usable()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	p.stopHashing()
	if err := p.verify(ctx); err != nil {
		p.startHashing()
		return err
	}
	err = p.publish()
	if err != nil && !retry.NoDescriptor(err) {
		p.fail(err)
	}
	return err
}

// publish gives the data file the final name.
func (p *Partial) publish() error {
	fi, err := p.data.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != p.size {
		return fmt.Errorf("%s: %w: %d bytes, not %d", p.data.Name(), ErrSize, fi.Size(), p.size)
	}
	if err := syncFile(p.data.File); err != nil {
		return err
	}
	if p.release, err = filelock.Keep(p.data.File); err != nil {
		return p.dir.pathError("lock", p.data.name, err)
	}
	// Before the rename, so that no crash leaves the journal of a finished blob behind.
	if err := p.removeJournal(); err != nil {
		return err
	}
	if err := p.data.Close(); err != nil {
		return err
	}
	if err := p.dir.keepsName(&p.data); err != nil {
		return err
	}
	if err := rename(p.dir.root, p.data.name, p.name); err != nil {
		return p.dir.pathError("rename", p.name, notExist(err))
	}
	p.dir.named(p.name)
	p.end()
	return nil
}

// syncFile syncs once: after a failure a second try may succeed, with the bytes lost. Some network
// file systems cannot sync, and are taken at their word for the rest.
func syncFile(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}

// notExist keeps the error of a directory at the final name from looking like a finished blob.
func notExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return syscall.EISDIR
	}
	return err
}

// named notes that a blob got its final name.
func (d *Dir) named(name string) {
	d.mu.Lock()
	d.unnamed = true
	delete(d.bad, name)
	d.mu.Unlock()
	d.sweep(name, true)
}

func (p *Partial) removeJournal() error {
	if p.journal == nil {
		return nil
	}
	_ = p.journal.close() // it goes anyway
	return p.dir.remove(journalName(p.data.name))
}

// Close gives up the claim. With keep, what is recorded of a large partial stays for the next claim to
// continue, also after a write that failed for want of room ([NoSpace]). Nothing stays without keep, or
// after any other failure. After a successful Commit, and when it was called before, Close does nothing.
func (p *Partial) Close(keep bool) error {
	p.stopHashing()
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	keep = keep && !p.ruined && p.worthKeeping()
	p.mu.Unlock()
	switch {
	case closed:
		return nil
	case keep:
		return errors.Join(p.journal.close(), p.data.Close())
	}
	err := errors.Join(p.removeJournal(), p.removeData())
	_ = p.data.Close() // what it held is gone
	p.end()
	return err
}

func (p *Partial) removeData() error {
	if p.dir.keepsName(&p.data) != nil {
		return nil // it is gone
	}
	return p.dir.remove(p.data.name)
}

// worthKeeping tells whether another claim could go on from the partial. The caller holds mu.
func (p *Partial) worthKeeping() bool {
	if !p.begun {
		return !p.data.fresh
	}
	return p.journal != nil && len(p.recorded) > 0
}

// end marks the partial as closed and lets go of the lock.
func (p *Partial) end() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if p.release != nil {
		p.release()
	}
}
