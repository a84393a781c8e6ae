package tensorfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

// A GGUF file, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, is a header, key-value pairs, the
// tensors' names, shapes, types and offsets, padding, and the tensors' bytes, each at a multiple of the
// alignment. Versions 2 and 3 differ in nothing that is read here. In version 1 counts had 32 bits; files
// that are big-endian are rare, and have their version swapped.
const (
	ggufMagic = 0x46554747 // "GGUF"

	// maxHead bounds how much of a file is read for its table. Vocabularies with their merges take 5 to 20
	// MB.
	maxHead = 128 << 20 // 128 MiB

	ggufAlignmentKey     = "general.alignment"
	ggufDefaultAlignment = 32
	ggufMaxAlignment     = 1 << 20

	// ggufMaxDepth is how deep arrays may be nested. In files that are in use they are not.
	ggufMaxDepth = 4
)

// The types of values that have no fixed size, and the one that the alignment has.
const (
	ggufUint32 = 4
	ggufString = 8
	ggufArray  = 9
)

// ggufSizes are the sizes of values by their types, zero where that is not fixed.
var ggufSizes = [...]uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

// readGGUF reads what follows the magic and the version.
func readGGUF(c *cursor, version uint32) (t table) {
	tensors, pairs := c.uint64(), c.uint64()
	if version != 2 && version != 3 || tensors > maxTensors {
		c.none()
	}
	alignment := ggufAlignment(c, pairs)
	var all []Tensor
	for range tensors {
		x := ggufTensor(c, alignment)
		if c.err != nil {
			return t
		}
		all = append(all, x)
	}
	ggufPlace(c, &t, all, (c.at+alignment-1)/alignment*alignment)
	return t
}

// Architecture returns the architecture that a GGUF file of that size names. It is empty where the file names
// none before its first array: the arrays are vocabularies of many MB. The error matches [ErrNone] where it
// is no such file; any other is of r.
func Architecture(r io.ReaderAt, size int64) (string, error) {
	c := newCursor(r, size, size)
	if magic, version := c.uint32(), c.uint32(); magic != ggufMagic || version < 2 {
		c.none()
	}
	_, pairs := c.uint64(), c.uint64()
	if c.err != nil {
		return "", c.err
	}
	for i := uint64(0); i < pairs && c.err == nil; i++ {
		key := string(c.bytes(c.uint64()))
		switch kind := c.uint32(); {
		case key == "general.architecture" && kind == ggufString:
			name := string(c.bytes(c.uint64()))
			return name, c.err
		case kind == ggufArray:
			return "", nil
		default:
			ggufSkip(c, kind, 0)
		}
	}
	if errors.Is(c.err, ErrNone) {
		return "", nil // it is a GGUF file all the same
	}
	return "", c.err
}

// ggufPlace moves tensors from offsets to where the data begins, and gives each the bytes up to the next one.
func ggufPlace(c *cursor, t *table, all []Tensor, data int64) {
	slices.SortFunc(all, func(a, b Tensor) int { return cmp.Compare(a.Start, b.Start) })
	for i, x := range all {
		x.End = c.size
		if i+1 < len(all) {
			x.End = data + all[i+1].Start
		}
		x.Start += data
		if x.Start >= x.End || x.End > c.size || !t.add(x) {
			c.none()
			return
		}
	}
}

// ggufAlignment reads the key-value pairs for the alignment.
func ggufAlignment(c *cursor, pairs uint64) int64 {
	alignment, known := uint32(ggufDefaultAlignment), false
	for i := uint64(0); i < pairs && c.err == nil; i++ {
		length := c.uint64()
		if length != uint64(len(ggufAlignmentKey)) {
			c.skip(length)
			ggufSkip(c, c.uint32(), 0)
			continue
		}
		is := string(c.bytes(length)) == ggufAlignmentKey
		kind := c.uint32()
		if !is {
			ggufSkip(c, kind, 0)
			continue
		}
		alignment = c.uint32()
		if known || kind != ggufUint32 || bits.OnesCount32(alignment) != 1 || alignment > ggufMaxAlignment {
			c.none()
		}
		known = true
	}
	if c.err != nil {
		return ggufDefaultAlignment
	}
	return int64(alignment)
}

// ggufSkip skips a value.
func ggufSkip(c *cursor, kind uint32, depth int) {
	switch {
	case kind == ggufString:
		c.skip(c.uint64())
	case kind == ggufArray:
		ggufSkipArray(c, depth+1)
	case kind < uint32(len(ggufSizes)):
		c.skip(ggufSizes[kind])
	default:
		c.none()
	}
}

// ggufSkipArray skips what follows the type of an array. Each of its values takes at least a byte, so that a
// count takes no longer than the bytes that are there.
func ggufSkipArray(c *cursor, depth int) {
	kind, count := c.uint32(), c.uint64()
	if depth > ggufMaxDepth || count > maxHead {
		c.none()
		return
	}
	if kind < uint32(len(ggufSizes)) && ggufSizes[kind] > 0 {
		c.skip(count * ggufSizes[kind])
		return
	}
	for i := uint64(0); i < count && c.err == nil; i++ {
		ggufSkip(c, kind, depth)
	}
}

// ggufTensor reads what is told of one tensor. It begins at its offset, which is behind the head.
func ggufTensor(c *cursor, alignment int64) (t Tensor) {
	t.Name = string(c.bytes(c.uint64()))
	dimensions := c.uint32()
	if dimensions > maxDimensions {
		c.none()
		return t
	}
	shape := make([]uint64, dimensions)
	for i := range shape {
		shape[i] = c.uint64()
		t.Longest = max(t.Longest, shape[i])
	}
	t.Kind = fmt.Sprint(c.uint32(), shape)
	offset := c.uint64()
	if offset > uint64(c.size) || offset%uint64(alignment) != 0 {
		c.none()
	}
	t.Start = int64(min(offset, uint64(c.size)))
	return t
}
