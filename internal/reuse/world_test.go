//go:build !race

// See reuse_test.go.

package reuse_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/reuse"
	"github.com/modeltransfer/transfer/internal/tensorfile"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

// weights are the bytes of a tensor, made from a seed as they are read.
type weights struct {
	seed    uint64
	changed pieces.Range // bytes that are others
}

// block returns eight bytes of the weights.
func (w weights) block(n int64) uint64 {
	x := w.seed*0x9e3779b97f4a7c15 + uint64(n)
	if w.changed.Start <= n*8 && n*8 < w.changed.End {
		x ^= 1 << 60
	}
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (w weights) read(b []byte, off int64) {
	if made := w.made(off + int64(len(b))); made != nil {
		copy(b, made[off:])
		return
	}
	var block [8]byte
	for n := off / 8; len(b) > 0; n++ {
		binary.LittleEndian.PutUint64(block[:], w.block(n))
		done := copy(b, block[off%8:])
		b, off = b[done:], off+int64(done)
	}
}

// mostMade is how much of the bytes that were made is kept, because to make them takes longer than the tests.
const mostMade = 256 << 20

var (
	made    = make(map[weights][]byte)
	madeAll int64
)

// made returns the first n bytes or more, nil where so much is not kept.
func (w weights) made(n int64) []byte {
	have := made[w]
	if int64(len(have)) >= n {
		return have
	}
	n = (n + 7) / 8 * 8
	if madeAll+n > mostMade {
		return nil
	}
	madeAll += n - int64(len(have))
	for i := int64(len(have)) / 8; i < n/8; i++ {
		have = binary.LittleEndian.AppendUint64(have, w.block(i))
	}
	made[w] = have
	return have
}

// model is a file of tensors.
type model struct {
	tensortest.File
	weights []weights
}

// file is a model in one of the formats.
type file struct {
	tensortest.Layout
	model
	tensors []tensorfile.Tensor
}

type format func(tensortest.File) tensortest.Layout

var formats = map[string]format{"GGUF": tensortest.File.GGUF, "safetensors": tensortest.File.Safetensors}

func (m model) in(t *testing.T, f format) *file {
	t.Helper()
	x := &file{Layout: f(m.File), model: m}
	var err error
	x.tensors, err = tensorfile.Read(x, x.Size, x.Size)
	require.NoError(t, err)
	return x
}

func (f *file) Tensors() []tensorfile.Tensor { return f.tensors }

// ReadAt reads padding as zeros.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.Size {
		return 0, errors.New("behind the end")
	}
	clear(b)
	if off < int64(len(f.Head)) {
		copy(b, f.Head[off:])
	}
	i, found := slices.BinarySearch(f.At, off)
	if !found {
		i = max(0, i-1)
	}
	for ; i < len(f.At) && f.At[i] < off+int64(len(b)); i++ {
		start, end := max(off, f.At[i]), min(off+int64(len(b)), f.At[i]+f.File.Tensors[i].Size)
		if start < end {
			f.weights[i].read(b[start-off:end-off], start-f.At[i])
		}
	}
	return len(b), nil
}

// pull is a file that is put together.
type pull struct {
	t       *testing.T
	remote  *file
	sources []reuse.Source
	there   []pieces.Range // disjoint
	copied  []pieces.Range
	wrong   bool

	fetched, reused int64
	mismatches      int
	steps           int
}

// ReadAt reads what is there, and nothing else may be read.
func (p *pull) ReadAt(b []byte, off int64) (int, error) {
	for r := (pieces.Range{Start: off, End: off + int64(len(b))}); r.Len() > 0; {
		has := func(x pieces.Range) bool { return x.Start <= r.Start && r.Start < x.End }
		i := slices.IndexFunc(p.there, has)
		require.GreaterOrEqual(p.t, i, 0, "byte %d is read and not there", r.Start)
		r.Start = p.there[i].End
	}
	return p.remote.ReadAt(b, off)
}

func (p *pull) missing() (gaps []pieces.Range) {
	slices.SortFunc(p.there, func(a, b pieces.Range) int { return int(a.Start - b.Start) })
	at := int64(0)
	for _, r := range p.there {
		require.GreaterOrEqual(p.t, r.Start, at, "a byte is there twice")
		if at < r.Start {
			gaps = append(gaps, pieces.Range{Start: at, End: r.Start})
		}
		at = r.End
	}
	if at < p.remote.Size {
		gaps = append(gaps, pieces.Range{Start: at, End: p.remote.Size})
	}
	return gaps
}

func (p *pull) fetch(ranges []pieces.Range) {
	for _, r := range ranges {
		p.fetched += r.Len()
		p.there = append(p.there, r)
	}
}

// copy copies what a source can be read of.
func (p *pull) copy(c reuse.Copy) {
	have, want := make([]byte, c.Len()), make([]byte, c.Len())
	if _, err := p.sources[c.Source].ReadAt(have, c.From); err != nil {
		p.fetch([]pieces.Range{c.Range})
		return
	}
	_, err := p.remote.ReadAt(want, c.Start)
	require.NoError(p.t, err)
	p.wrong = p.wrong || !bytes.Equal(have, want)
	p.reused += c.Len()
	p.there = append(p.there, c.Range)
	p.copied = append(p.copied, c.Range)
}

// run goes through the procedure until the file is right.
func (p *pull) run() {
	procedure := reuse.New(p.remote.Size, p.sources, 17)
	step := procedure.Begin(p.missing())
	for {
		require.Less(p.t, p.steps, 100)
		p.steps++
		p.fetch(step.Fetch)
		for _, c := range step.Copy {
			p.copy(c)
		}
		if step.Last {
			require.Empty(p.t, p.missing())
			if !p.wrong {
				break
			}
			p.mismatches++
			require.True(p.t, procedure.Mismatch())
			copied := func(r pieces.Range) bool { return slices.Contains(p.copied, r) }
			p.there = slices.DeleteFunc(p.there, copied)
			p.copied, p.reused, p.wrong = nil, 0, false
		}
		step = procedure.Next(p, p.missing())
	}
	require.LessOrEqual(p.t, p.mismatches, 3)
	require.LessOrEqual(p.t, p.fetched, p.remote.Size, "nothing is fetched twice")
}

func update(t *testing.T, to *file, from ...*file) *pull {
	t.Helper()
	p := &pull{t: t, remote: to}
	for _, f := range from {
		p.sources = append(p.sources, f)
	}
	p.run()
	return p
}
