package tensorfile

import (
	"bufio"
	"encoding/binary"
	"io"
)

// bufferSize is how much of a head is read at once.
const bufferSize = 64 << 10 // 64 KiB

// cursor reads the head of a file. After its first error, all that it reads is zero.
type cursor struct {
	r          *bufio.Reader
	at         int64
	have, size int64
	scratch    [maxName]byte
	err        error
}

func newCursor(r io.ReaderAt, have, size int64) *cursor {
	head := io.NewSectionReader(r, 0, have)
	return &cursor{r: bufio.NewReaderSize(head, bufferSize), have: have, size: size}
}

// none notes that there is no table.
func (c *cursor) none() {
	if c.err == nil {
		c.err = ErrNone
	}
}

// within tells whether the next n bytes can be read.
func (c *cursor) within(n uint64) bool {
	switch {
	case c.err != nil:
	case n > uint64(c.size-c.at) || n > uint64(maxHead-c.at):
		c.none()
	case n > uint64(c.have-c.at):
		c.err = &ShortError{Need: c.at + int64(n)}
	}
	return c.err == nil
}

// bytes returns the next n bytes, at most maxName, until the next call.
func (c *cursor) bytes(n uint64) []byte {
	if n > maxName {
		c.none()
	}
	if !c.within(n) {
		return nil
	}
	if _, err := io.ReadFull(c.r, c.scratch[:n]); err != nil {
		c.err = err
		return nil
	}
	c.at += int64(n)
	return c.scratch[:n]
}

func (c *cursor) skip(n uint64) {
	if !c.within(n) {
		return
	}
	if _, err := c.r.Discard(int(n)); err != nil {
		c.err = err
	}
	c.at += int64(n)
}

func (c *cursor) uint32() uint32 {
	b := c.bytes(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func (c *cursor) uint64() uint64 {
	b := c.bytes(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}
