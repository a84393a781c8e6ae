// Package tensorfile reads which tensors a model file has, and where, from the head of the file: GGUF and
// safetensors. What it tells is for guesses only: it believes a file's names and offsets as far as they are
// possible, and reads no tensor.
package tensorfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/modeltransfer/transfer/internal/pieces"
)

const (
	// maxTensors bounds the memory that a table takes. The largest models have 100,000 tensors in all their
	// files.
	maxTensors = 1 << 17

	// maxName and maxDimensions are far beyond what the formats allow today: 64 bytes and 4 dimensions in
	// GGUF.
	maxName       = 1 << 8
	maxDimensions = 16
)

// ErrNone means that a file has no table of tensors that can be relied on.
var ErrNone = errors.New("no table of tensors")

// ShortError means that the table may go on behind the bytes that are there.
type ShortError struct {
	Need int64 // so many bytes of the file at least, which it has
}

func (e *ShortError) Error() string {
	return fmt.Sprintf("the first %d bytes are needed for the table of tensors", e.Need)
}

// Tensor is where a file has the bytes of one tensor.
type Tensor struct {
	Name string

	// Kind is the type and the shape. Tensors of the same kind have the same size.
	Kind string

	// Longest is the largest dimension.
	Longest uint64

	// Range is not empty. In GGUF it goes on up to the next tensor: how many bytes a type takes is not known
	// here, and the padding belongs to the file too.
	pieces.Range
}

// Read returns the tensors of a file of that size, of which the first have bytes can be read. There is at
// least one; they are disjoint and in the order of their bytes. Of the head only the table is kept in
// memory.
//
// The error is a [*ShortError] where more of the file is needed, and matches [ErrNone] where that would not
// help. Any other is of r.
func Read(r io.ReaderAt, have, size int64) ([]Tensor, error) {
	c := newCursor(r, min(have, size), size)
	var t table
	switch magic := c.uint64(); {
	case c.err != nil:
		return nil, c.err
	case uint32(magic) == ggufMagic:
		t = readGGUF(c, uint32(magic>>32))
	default:
		t = readSafetensors(c, magic)
	}
	if c.err != nil {
		return nil, c.err
	}
	return t.ordered()
}

// table is what was read of a table of tensors.
type table struct {
	tensors []Tensor
	names   map[string]struct{}
}

// add adds a tensor, and tells whether it may be there.
func (t *table) add(x Tensor) bool {
	if t.names == nil {
		t.names = make(map[string]struct{})
	}
	if _, twice := t.names[x.Name]; twice || len(t.tensors) == maxTensors {
		return false
	}
	t.names[x.Name] = struct{}{}
	if x.Len() > 0 {
		t.tensors = append(t.tensors, x)
	}
	return true
}

// ordered returns the tensors in the order of their bytes.
func (t *table) ordered() ([]Tensor, error) {
	slices.SortFunc(t.tensors, func(a, b Tensor) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(t.tensors); i++ {
		if t.tensors[i].Start < t.tensors[i-1].End {
			return nil, ErrNone
		}
	}
	if len(t.tensors) == 0 {
		return nil, ErrNone
	}
	return t.tensors, nil
}
