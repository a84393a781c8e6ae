package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

// adoptStep is how much of another file is copied before it is recorded: so much is lost by a crash, and a
// cancel waits for it.
const adoptStep = 8 << 20 // 8 MiB

// errSameFile refuses to copy a partial to itself.
var errSameFile = errors.New("it is the file that is written")

// SourceError is a failure of a file from which bytes were to be adopted. The partial is as good as before.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return fmt.Sprintf("reading what may be adopted: %v", e.Err) }
func (e *SourceError) Unwrap() error { return e.Err }

// Adopt copies n bytes of another file, such as an earlier version of a model, to an offset of the blob, and
// returns how many it has copied, also on failure. They must be missing. They are taken for complete until
// the digest is wrong: then they are missing again, before anything that came over the network is.
//
// The file may change or be cut meanwhile. It is only read, and nothing of it is shared but, where the file
// system does that, its blocks. An error of it is a [*SourceError]; any other is as that of [Writer.Write].
func (p *Partial) Adopt(ctx context.Context, src *os.File, from, at, n int64) (copied int64, err error) {
	if err := adoptable(src, p.data.info); err != nil {
		return 0, &SourceError{err}
	}
	mine := reservation{start: at, end: at}
	defer p.record.release(&mine)
	for copied < n && err == nil {
		if ctx.Err() != nil {
			return copied, context.Cause(ctx)
		}
		var step int64
		step, err = p.adoptSome(&mine, src, from+copied, min(n-copied, adoptStep))
		copied += step
	}
	return copied, err
}

// adoptable makes sure that a file can be read without waiting for anybody, and is not the one that is
// written.
func adoptable(src *os.File, written os.FileInfo) error {
	fi, err := src.Stat()
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return rootfile.ErrNotRegular
	case os.SameFile(fi, written):
		return errSameFile
	}
	return nil
}

// adoptSome copies some bytes and records them.
func (p *Partial) adoptSome(mine *reservation, src *os.File, from, n int64) (copied int64, err error) {
	off, err := p.record.reserve(mine, n)
	if err != nil {
		return 0, err
	}
	copied, err = p.data.copyFrom(src, from, off, n)
	p.record.shorten(mine, off+copied)
	if source := (*SourceError)(nil); err != nil && !errors.As(err, &source) {
		p.record.state.failWrite(err)
	}
	_ = p.record.journal.begin()
	if failed := p.record.adopt(mine); failed != nil {
		return 0, failed
	}
	p.hasher.background.wake() // and the next bytes are copied meanwhile
	startWriteback(p.data.File, off, copied)
	return copied, err
}

// copyFrom copies a range of another file: in the kernel, which may share the blocks, or by reading and
// writing where that is refused, and from then on.
func (f *dataFile) copyFrom(src *os.File, from, at, n int64) (copied int64, err error) {
	for copied < n && !f.folder.noCopy.Load() {
		some, err := f.folder.copy(f.File, src, at+copied, from+copied, n-copied)
		if err != nil || some <= 0 { // what is wrong, and with which file, reading and writing tell
			f.folder.noCopy.Store(err != nil)
			break
		}
		copied += some
	}
	buf := f.folder.buffers.Get().(*[]byte)
	defer f.folder.buffers.Put(buf)
	for copied < n {
		b := (*buf)[:min(n-copied, int64(len(*buf)))]
		read, err := src.ReadAt(b, from+copied)
		wrote, werr := f.writeAt(b[:read], at+copied)
		copied += int64(wrote)
		switch {
		case werr != nil:
			return copied, werr
		case err == io.EOF && read < len(b):
			return copied, &SourceError{io.ErrUnexpectedEOF}
		case err != nil && err != io.EOF:
			return copied, &SourceError{err}
		}
	}
	return copied, nil
}
