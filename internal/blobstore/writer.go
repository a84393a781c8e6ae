package blobstore

import (
	"hash/crc32"
	"io"
)

var _ io.WriteCloser = (*Writer)(nil)

// Writer writes a range of a partial from its first byte on. Several may write at once, but each is for one
// goroutine.
type Writer struct {
	p *Partial
	reservation
	crc uint32 // of what is not recorded
}

// Write writes all of b behind what was written before. An error of the file system, which is a
// [*fs.PathError], ends all writing to the partial. Bytes beyond the blob's size are refused with an error
// that matches [ErrSize], and bytes that are not missing are refused too; then nothing is written.
func (w *Writer) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	record, hasher := &w.p.record, &w.p.hasher
	off, err := record.reserve(&w.reservation, int64(len(b)))
	if err != nil {
		return 0, err
	}
	n, err := w.p.data.writeAt(b, off)
	if err != nil {
		record.ending.failWrite(err)
	}
	if !record.large() {
		hasher.take(off, b[:n])
		return n, err
	}
	w.crc = crc32.Update(w.crc, castagnoli, b[:n])
	hasher.tryTake(off, b[:n])
	if err != nil {
		record.shorten(&w.reservation, off+int64(n))
		return n, err
	}
	if w.end-w.start >= record.segment() {
		return n, w.record()
	}
	return n, nil
}

// Close records what was written. Only the first call counts. After a failed Write it returns that error.
func (w *Writer) Close() error {
	err := w.record()
	if active := w.p.record.release(&w.reservation); active && err == nil {
		err = w.p.record.ending.failure()
	}
	return err
}

// record makes what was written count.
func (w *Writer) record() error {
	e, err := w.p.record.add(&w.reservation, w.crc)
	if err != nil || e.Len() == 0 {
		return err
	}
	w.crc = 0
	w.p.hasher.recorded(e.Range)
	return nil
}
