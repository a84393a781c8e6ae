// Package tensortest makes model files for tests.
package tensortest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// Tensor is a tensor of a file that is made.
type Tensor struct {
	Name  string
	Type  uint32 // of GGUF; safetensors writes it as T with the number
	Shape []uint64
	Size  int64 // in bytes
}

// File is a file that is made.
type File struct {
	Metadata  []string // keys and values in turn
	Vocab     []string // an array of GGUF
	Alignment uint32   // of GGUF; zero: 32, and not told
	Tensors   []Tensor // in the order of their bytes
}

// Layout is where a file has what.
type Layout struct {
	Head []byte  // padding included
	At   []int64 // where the tensors begin
	Size int64   // of the file
}

// GGUF lays a file out as GGUF version 3.
func (f File) GGUF() Layout {
	alignment := int64(32)
	var pairs []byte
	count := len(f.Metadata) / 2
	for i := 0; i+1 < len(f.Metadata); i += 2 {
		pairs = appendString(pairs, f.Metadata[i])
		pairs = binary.LittleEndian.AppendUint32(pairs, 8)
		pairs = appendString(pairs, f.Metadata[i+1])
	}
	if f.Alignment > 0 {
		count, alignment = count+1, int64(f.Alignment)
		pairs = appendString(pairs, "general.alignment")
		pairs = binary.LittleEndian.AppendUint32(pairs, 4)
		pairs = binary.LittleEndian.AppendUint32(pairs, f.Alignment)
	}
	if f.Vocab != nil {
		count++
		pairs = appendString(pairs, "tokenizer.ggml.tokens")
		pairs = binary.LittleEndian.AppendUint32(pairs, 9)
		pairs = binary.LittleEndian.AppendUint32(pairs, 8)
		pairs = binary.LittleEndian.AppendUint64(pairs, uint64(len(f.Vocab)))
		for _, token := range f.Vocab {
			pairs = appendString(pairs, token)
		}
	}
	head := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(f.Tensors)))
	head = append(binary.LittleEndian.AppendUint64(head, uint64(count)), pairs...)
	offsets, size := f.offsets(alignment)
	for i, t := range f.Tensors {
		head = binary.LittleEndian.AppendUint32(appendString(head, t.Name), uint32(len(t.Shape)))
		for _, n := range t.Shape {
			head = binary.LittleEndian.AppendUint64(head, n)
		}
		head = binary.LittleEndian.AppendUint32(head, t.Type)
		head = binary.LittleEndian.AppendUint64(head, uint64(offsets[i]))
	}
	head = append(head, make([]byte, aligned(int64(len(head)), alignment)-int64(len(head)))...)
	return layout(head, offsets, size)
}

// Safetensors lays a file out as safetensors.
func (f File) Safetensors() Layout {
	offsets, size := f.offsets(1)
	var entries []string
	if len(f.Metadata) > 0 {
		metadata := make(map[string]string)
		for i := 0; i+1 < len(f.Metadata); i += 2 {
			metadata[f.Metadata[i]] = f.Metadata[i+1]
		}
		entries = append(entries, `"__metadata__":`+marshal(metadata))
	}
	for i, t := range f.Tensors {
		shape := make([]uint64, 0, len(t.Shape)) // never null
		entries = append(entries, marshal(t.Name)+":"+marshal(map[string]any{
			"dtype": fmt.Sprintf("T%d", t.Type), "shape": append(shape, t.Shape...),
			"data_offsets": []int64{offsets[i], offsets[i] + t.Size},
		}))
	}
	text := "{" + strings.Join(entries, ",") + "}"
	text += strings.Repeat(" ", int(aligned(int64(len(text)), 8))-len(text))
	return layout(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), offsets, size)
}

// offsets returns where the tensors begin, from the end of the head on, and how many bytes follow the head.
func (f File) offsets(alignment int64) (offsets []int64, size int64) {
	for _, t := range f.Tensors {
		offsets = append(offsets, size)
		size = aligned(size+t.Size, alignment)
	}
	return offsets, size
}

func layout(head []byte, offsets []int64, size int64) Layout {
	l := Layout{Head: head, Size: int64(len(head)) + size}
	for _, offset := range offsets {
		l.At = append(l.At, int64(len(head))+offset)
	}
	return l
}

func aligned(n, alignment int64) int64 { return (n + alignment - 1) / alignment * alignment }

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Write writes a whole file of that layout. The bytes of each tensor are made from its seed.
func (f File) Write(w io.Writer, l Layout, seeds []uint64) error {
	at := int64(len(l.Head))
	if _, err := w.Write(l.Head); err != nil {
		return err
	}
	for i, t := range f.Tensors {
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], seeds[i])
		tensor := io.LimitReader(rand.NewChaCha8(seed), t.Size)
		padding := bytes.NewReader(make([]byte, l.At[i]-at))
		if _, err := io.Copy(w, io.MultiReader(padding, tensor)); err != nil {
			return err
		}
		at = l.At[i] + t.Size
	}
	_, err := w.Write(make([]byte, l.Size-at))
	return err
}

// Bytes returns what Write writes.
func (f File) Bytes(l Layout, seeds []uint64) []byte {
	var b bytes.Buffer
	b.Grow(int(l.Size))
	_ = f.Write(&b, l, seeds) // to memory
	return b.Bytes()
}
