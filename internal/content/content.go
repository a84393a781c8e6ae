// Package content reads the file of a blob for request bodies. A body only ends well if the file is the blob.
package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/prefixhash"
)

// readSize is how much is read at once of what is only hashed.
const readSize = 256 << 10 // 256 KiB

var (
	// ErrSize is a file that is longer or shorter than its blob.
	ErrSize = errors.New("file changed its size while it was sent")

	// ErrDigest is a file that is not what its digest says.
	ErrDigest = errors.New("file is not what its digest says")
)

// File is the file of a blob. One body of it can be read at a time. The bytes are hashed as they are read,
// and the last of them are given out only when the digest of all is right, so that no request is completed
// with a wrong file.
type File struct {
	file   *os.File
	digest digest.Digest
	size   int64
	chunk  int64

	mu      sync.Mutex // guards the fields that follow: a transport may read on after its request has failed
	current *body      // the only one that may be read
	hash    prefixhash.Hash
	began   prefixhash.Snapshot // of the hash, where the current body began
	err     error               // why the file is not the blob
}

// New reads a blob from a file, which it closes in the end. A Read gives out at most chunk bytes.
func New(f *os.File, dg digest.Digest, size, chunk int64) *File {
	c := &File{file: f, digest: dg, size: size, chunk: chunk, hash: prefixhash.New(dg.Algorithm())}
	if size == 0 {
		c.err = c.check() // nobody will read it
	}
	return c
}

// Body returns the bytes [start, end), after it has hashed those before start that were not hashed yet,
// which ends with the context. The body that was returned before ends: its request has failed or was sent
// elsewhere.
//
// It calls use with the number of bytes before it gives them out.
func (c *File) Body(ctx context.Context, start, end int64, use func(n int)) (io.ReadCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = nil
	if c.err != nil {
		return nil, c.err
	}
	if err := c.seek(ctx, start); err != nil {
		return nil, err
	}
	c.began = c.hash.Snapshot()
	c.current = &body{File: c, pos: start, end: end, use: use}
	return c.current, nil
}

// seek brings the hash to an offset: back to where the last body began, or to the first byte, and from there
// on by reading.
func (c *File) seek(ctx context.Context, to int64) error {
	switch {
	case c.hash.Len() <= to:
	case c.began.Len() <= to:
		c.hash.Restore(c.began)
	default:
		c.hash.Reset()
	}
	buffer := make([]byte, min(readSize, to-c.hash.Len()))
	for c.hash.Len() < to {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.err = c.read(buffer[:min(int64(len(buffer)), to-c.hash.Len())], c.hash.Len()); c.err != nil {
			return c.err
		}
	}
	return nil
}

// read reads and hashes the bytes at an offset, which is that of the next byte to be hashed.
func (c *File) read(p []byte, at int64) error {
	_, err := c.file.ReadAt(p, at)
	if err == io.EOF {
		return fmt.Errorf("%s: %w: it is shorter now", c.file.Name(), ErrSize)
	}
	if err != nil {
		return err
	}
	_, _ = c.hash.Write(p)
	if c.hash.Len() == c.size {
		return c.check()
	}
	return nil
}

// check compares the digest, and looks whether the file goes on.
func (c *File) check() error {
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != c.size {
		return fmt.Errorf("%s: %w: %d bytes instead of %d", c.file.Name(), ErrSize, info.Size(), c.size)
	}
	if got := c.hash.Digest(); got != c.digest {
		return fmt.Errorf("%s: %w: it has %s", c.file.Name(), ErrDigest, got)
	}
	return nil
}

// Err returns why the file is not the blob, as far as it was read.
func (c *File) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends all bodies and closes the file. It waits for a Read that is under way.
func (c *File) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = nil
	return c.file.Close()
}

// body is one request body.
type body struct {
	*File
	pos, end int64
	use      func(n int)
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.current != b:
		return 0, os.ErrClosed
	case b.err != nil:
		return 0, b.err
	case b.pos == b.end:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	p = p[:min(int64(len(p)), b.end-b.pos, b.chunk)]
	if b.err = b.read(p, b.pos); b.err != nil {
		return 0, b.err
	}
	b.pos += int64(len(p))
	b.use(len(p))
	return len(p), nil
}

// Close does nothing: File.Close ends the body.
func (b *body) Close() error { return nil }
