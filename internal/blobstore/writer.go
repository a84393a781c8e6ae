package blobstore

import (
	"hash/crc32"
	"io"
)

var _ io.WriteCloser = (*Writer)(nil)

// writebackSize is how many bytes of a large blob a writer records before it tells the kernel to write them
// to the disk. Otherwise the sync at the end would wait for the whole blob.
const writebackSize = 8 << 20 // 8 MiB

// Writer writes a range of a partial from its first byte on. Several may write at once, but each is for one
// goroutine.
type Writer struct {
	data   *dataFile
	record *recorder
	hasher *hasher

	mine reservation
	crc  uint32 // of the bytes of mine
	back int64  // up to here writeback was started
}

// Write writes all of b behind what was written before. An error of the file system, which is a
// [*fs.PathError], ends all writing to the partial.
//
// It refuses, and writes nothing of, bytes that another writer has written or is writing, and bytes beyond
// the end of the blob. The latter error matches [errSize].
func (w *Writer) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	off, err := w.record.reserve(&w.mine, int64(len(b)))
	if err != nil {
		return 0, err
	}
	n, err := w.data.writeAt(b, off)
	if err != nil {
		w.record.state.failWrite(err)
		w.record.shorten(&w.mine, off+int64(n))
	}
	w.crc = crc32.Update(w.crc, castagnoli, b[:n])
	w.hasher.take(off, b[:n])
	if err != nil || w.mine.len() < segmentOf(w.record.size) || w.mine.end == w.record.size {
		return n, err
	}
	_ = w.record.journal.begin() // of a small blob: there may be more space the next time
	return n, w.flush()
}

// Close records what was written. Only the first call counts. After a failed Write it returns that error.
func (w *Writer) Close() error {
	err := w.flush()
	w.writeBack(1)
	if active := w.record.release(&w.mine); active && err == nil {
		err = w.record.state.failure()
	}
	return err
}

// Move records what was written, and goes on at another offset.
func (w *Writer) Move(off int64) error {
	err := w.Close()
	w.mine, w.crc, w.back = reservation{start: off, end: off}, 0, off
	return err
}

// flush records what was written.
func (w *Writer) flush() error {
	e, err := w.record.add(&w.mine, w.crc)
	if err != nil || e.Len() == 0 {
		return err
	}
	w.crc = 0
	w.hasher.recorded(e.Range)
	w.writeBack(writebackSize)
	return nil
}

// writeBack starts the writeback of what was recorded of a large blob, where that is at least so much.
func (w *Writer) writeBack(least int64) {
	if n := w.mine.start - w.back; w.record.large() && n >= least {
		startWriteback(w.data.File, w.back, n)
		w.back = w.mine.start
	}
}
