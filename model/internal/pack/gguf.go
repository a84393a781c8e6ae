package pack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

// ErrNotGGUF is a file that is not in the format of llama.cpp.
var ErrNotGGUF = errors.New("not a GGUF file")

// Bounds of what is read of a header, which may be anybody's.
const (
	maxGGUFString = 1 << 20 // 1 MiB
	maxGGUFPairs  = 1 << 12
)

// Types of values in the header of a GGUF file (version 3).
const (
	ggufString = 8
)

// ggufSizes are the sizes of the types that have one.
var ggufSizes = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// ggufArchitecture returns the architecture that a GGUF file names, empty where it names none
// before its first array: tables of tokens are as long as they are of no use here.
func ggufArchitecture(path string) (string, error) {
	f, err := rootfile.OpenLinked(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r := &ggufReader{r: bufio.NewReader(f)}
	if r.text(4) != "GGUF" {
		return "", ErrNotGGUF
	}
	version, _, pairs := r.uint32(), r.uint64(), r.uint64()
	if r.err != nil || version < 2 {
		return "", ErrNotGGUF
	}
	for range min(pairs, maxGGUFPairs) {
		key, kind := r.string(), r.uint32()
		if key == "general.architecture" && kind == ggufString {
			return r.string(), r.err
		}
		if !r.skip(kind) {
			break
		}
	}
	return "", nil
}

// ggufReader reads numbers and strings until the first error.
type ggufReader struct {
	r   *bufio.Reader
	err error
}

func (g *ggufReader) read(b []byte) {
	if g.err == nil {
		_, g.err = io.ReadFull(g.r, b)
	}
}

func (g *ggufReader) uint32() uint32 {
	var b [4]byte
	g.read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (g *ggufReader) uint64() uint64 {
	var b [8]byte
	g.read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

func (g *ggufReader) text(n uint64) string {
	if n > maxGGUFString {
		g.err = ErrNotGGUF
	}
	if g.err != nil {
		return ""
	}
	b := make([]byte, n)
	g.read(b)
	return string(b)
}

func (g *ggufReader) string() string { return g.text(g.uint64()) }

// skip passes over a value and reports whether it could.
func (g *ggufReader) skip(kind uint32) bool {
	if kind == ggufString {
		g.string()
		return g.err == nil
	}
	size, ok := ggufSizes[kind]
	if !ok || g.err != nil {
		return false
	}
	g.read(make([]byte, size))
	return g.err == nil
}
