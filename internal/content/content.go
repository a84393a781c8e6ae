// Package content reads the file of a blob for request bodies, and lets none of them end well that
// is not the blob's.
package content

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
)

// readSize is how much is read at once of what is only hashed.
const readSize = 256 << 10 // 256 KiB

var (
	// ErrSize is a file that is longer or shorter than its blob.
	ErrSize = errors.New("file changed its size while it was sent")

	// ErrDigest is a file that is not what its digest says.
	ErrDigest = errors.New("file is not what its digest says")
)

// File is the file of a blob. One body of it can be read at a time. The bytes are
// hashed as they are read, and the blob's last bytes are given out only when the digest of all is
// right, so that no request is completed with a wrong file.
type File struct {
	file   *os.File
	digest digest.Digest
	size   int64
	chunk  int64

	mu      sync.Mutex // guards the fields that follow: a transport may read on after its request has failed
	current *body      // the only one that may be read
	hash    hash.Hash  // of the first hashed bytes
	hashed  int64
	mark    hash.Hash // of the first marked bytes, where the current body began
	marked  int64
	err     error // why the file is not the blob
}

// New reads a blob from a file, which it closes in the end. A Read gives out at most chunk bytes.
func New(f *os.File, dg digest.Digest, size, chunk int64) *File {
	c := &File{file: f, digest: dg, size: size, chunk: chunk, hash: dg.Algorithm().Hash()}
	c.mark = clone(c.hash)
	if size == 0 {
		c.err = c.check() // nobody will read it
	}
	return c
}

// Body returns the bytes [start, end). The body that was returned before ends: its request has failed
// or was sent elsewhere. Before some bytes are given out, use is told how many. When it returns
// an error, the body ends with that.
//
// What lies before start is hashed first, where it was not before.
func (c *File) Body(start, end int64, use func(n int) error) (io.ReadCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = nil
	if c.err != nil {
		return nil, c.err
	}
	if c.err = c.rewind(start); c.err != nil {
		return nil, c.err
	}
	c.mark, c.marked = clone(c.hash), c.hashed
	c.current = &body{File: c, pos: start, end: end, use: use}
	return c.current, nil
}

// rewind brings the hash to an offset.
func (c *File) rewind(to int64) error {
	switch {
	case c.hashed <= to:
	case c.marked <= to:
		c.hash, c.hashed = clone(c.mark), c.marked
	default:
		c.hash, c.hashed = c.digest.Algorithm().Hash(), 0
	}
	buffer := make([]byte, min(readSize, to-c.hashed))
	for c.hashed < to {
		if err := c.read(buffer[:min(int64(len(buffer)), to-c.hashed)], c.hashed); err != nil {
			return err
		}
	}
	return nil
}

// read reads and hashes what follows the bytes that were hashed before.
func (c *File) read(p []byte, at int64) error {
	_, err := c.file.ReadAt(p, at)
	if err == io.EOF {
		return fmt.Errorf("%s: %w: it is shorter now", c.file.Name(), ErrSize)
	}
	if err != nil {
		return err
	}
	_, _ = c.hash.Write(p)
	if c.hashed += int64(len(p)); c.hashed == c.size {
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
	if got := digest.NewDigest(c.digest.Algorithm(), c.hash); got != c.digest {
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
	use      func(n int) error
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
	return len(p), b.use(len(p))
}

// Close does nothing: File.Close ends the body.
func (b *body) Close() error { return nil }

// clone copies the state of a hash; all of the standard library's can be copied.
func clone(h hash.Hash) hash.Hash {
	c, err := h.(hash.Cloner).Clone()
	if err != nil {
		panic(err)
	}
	return c
}
