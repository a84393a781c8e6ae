package blobstore

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// How many bytes of a large blob are written until they are recorded, and so the most that each writer
// loses in a crash: few, but no more than maxRecords for a blob, so that its journal stays small.
const (
	minSegment = 512 << 10 // 512 KiB
	maxRecords = 1 << 15
)

func (p *Partial) segment() int64 { return max(minSegment, p.size/maxRecords) }

// errTaken keeps bytes that were hashed, or will be, from being changed afterwards.
var errTaken = errors.New("range was written already or is being written")

var _ io.WriteCloser = (*Writer)(nil)

// Writer writes a range of a partial from its first byte on. Several may write at once, but each
// is for one goroutine.
type Writer struct {
	p   *Partial
	crc uint32

	// What was written but is not recorded, and by a Write that has not returned. Guarded by p.mu.
	start, end int64
	active     bool // among p.writers
}

// WriterAt returns a writer that begins at the offset. It must be closed, or what it wrote does
// not count and cannot be written by another.
func (p *Partial) WriterAt(off int64) *Writer { return &Writer{p: p, start: off, end: off} }

// Write writes all of b behind what was written before. An error of the file system, which
// is a *fs.PathError, ends all writing to the partial. Bytes beyond the blob's size
// are refused with an error that matches [ErrSize], and bytes that are not missing are refused too;
// then nothing is written.
func (w *Writer) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	off, err := w.reserve(int64(len(b)))
	if err != nil {
		return 0, err
	}
	n, err := w.p.writeAt(b, off)
	if !w.p.large() {
		w.p.hashWritten(off, b[:n])
		return n, err
	}
	w.crc = crc32.Update(w.crc, castagnoli, b[:n])
	w.p.hashFromHand(off, b[:n])
	if err != nil {
		w.cut(off + int64(n))
		return n, err
	}
	if w.end-w.start >= w.p.segment() {
		return n, w.record()
	}
	return n, nil
}

// writeAt writes to the data file. A failure ends all writing.
func (p *Partial) writeAt(b []byte, off int64) (n int, err error) {
	n, err = p.data.WriteAt(b, off)
	if errors.Is(err, io.ErrUnexpectedEOF) { // a write of no bytes
		err = p.dir.pathError("write", p.data.name, io.ErrShortWrite)
	}
	if err != nil {
		p.writeFailed(err)
	}
	return n, err
}

// cut gives back what was reserved from an offset on, because it was not written.
func (w *Writer) cut(end int64) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.end = end
}

// reserve makes the next n bytes this writer's, and returns where they begin.
func (w *Writer) reserve(n int64) (off int64, err error) {
	p := w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	off = w.end
	switch {
	case p.usable() != nil:
		return 0, p.usable()
	case off < 0 || n > p.size-off:
		return 0, fmt.Errorf("%s: %w: write of %d bytes at %d of %d", p.data.Name(), ErrSize, n, off, p.size)
	case p.recorded.covers(off, off+n) || w.meetsOther(off, off+n):
		return 0, p.dir.pathError("write", p.data.name, errTaken)
	}
	w.end += n
	if !w.active {
		w.active = true
		p.writers = append(p.writers, w)
	}
	return off, nil
}

// meetsOther tells whether another writer has bytes of the range. The caller holds p.mu.
func (w *Writer) meetsOther(start, end int64) bool {
	return slices.ContainsFunc(w.p.writers, func(o *Writer) bool {
		return o != w && o.start < end && start < o.end
	})
}

// hashWritten hashes the bytes of a small blob that follow those hashed before. The
// others are read back in the end.
func (p *Partial) hashWritten(off int64, b []byte) {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if off == p.hashed {
		_, _ = p.hash.Write(b)
		p.hashed += int64(len(b))
	}
}

// hashFromHand hashes the bytes of a large blob that follow those hashed before, so that they need not be
// read back. While the hasher runs, it is still behind them, and they are left to it.
func (p *Partial) hashFromHand(off int64, b []byte) {
	if !p.hashing.TryLock() {
		return
	}
	defer p.hashing.Unlock()
	p.mu.Lock()
	stopped := p.ctx == nil
	p.mu.Unlock()
	if !stopped && off == p.hashed {
		_, _ = p.hash.Write(b)
		p.hashed += int64(len(b))
	}
}

// Close records what was written. Only the first call counts. After a failed Write it returns that error.
func (w *Writer) Close() error {
	err := w.record()
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if err == nil && w.active {
		err = w.p.failed
	}
	w.active = false
	w.p.writers = slices.DeleteFunc(w.p.writers, func(o *Writer) bool { return o == w })
	return err
}

// record makes what was written count.
func (w *Writer) record() error {
	e := extent{Range: pieces.Range{Start: w.start, End: w.end}, crc: w.crc, written: true}
	if e.Len() == 0 {
		return nil
	}
	p := w.p
	p.mu.Lock()
	err := p.recordable()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if err := p.journal.add(e); err != nil {
		p.writeFailed(err)
		return err
	}
	p.mu.Lock()
	p.recorded = p.recorded.insert(e)
	w.start, w.crc = w.end, 0
	ctx := p.ctx
	p.mu.Unlock()
	if p.catchUp(ctx, e) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.startHasher()
	}
	return nil
}

// catchUp hashes what was just recorded where nothing is missing before it, so that the writer can hash from
// hand what it writes next: the hasher would always stay behind it. It returns whether there may be more to
// hash.
func (p *Partial) catchUp(ctx context.Context, e extent) (more bool) {
	if ctx == nil {
		return false
	}
	if !p.hashing.TryLock() {
		return true
	}
	defer p.hashing.Unlock()
	if e.Start <= p.hashed && p.hashed < e.End {
		e.Start = p.hashed
		_ = p.hashExtent(ctx, e) // Commit meets the error again
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, more = p.next()
	return more
}
