//go:build !race

// What follows computes for long in one goroutine: the race detector would only make it slower.

package reuse_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/reuse"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

const (
	blocks = 33
	width  = 112
	vocab  = 16000
)

// llama is a model as they are: an embedding, blocks of nine tensors of which two are small, an output norm.
func llama() model {
	var m model
	m.Metadata = []string{"general.architecture", "llama", "tokenizer.chat_template", "{{ messages }}"}
	add := func(name string, shape ...uint64) {
		size := int64(2)
		for _, n := range shape {
			size *= int64(n)
		}
		m.weights = append(m.weights, weights{seed: uint64(len(m.weights) + 1)})
		x := tensortest.Tensor{Name: name, Type: 1, Shape: shape, Size: size}
		m.File.Tensors = append(m.File.Tensors, x)
	}
	add("token_embd.weight", width, vocab)
	for i := range blocks {
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			add(fmt.Sprintf("blk.%d.%s.weight", i, name), width*2, width*2)
		}
		add(fmt.Sprintf("blk.%d.attn_norm.weight", i), width-1) // needs padding
		for _, name := range []string{"ffn_gate", "ffn_down", "ffn_up"} {
			add(fmt.Sprintf("blk.%d.%s.weight", i, name), width*2, width*6)
		}
		add(fmt.Sprintf("blk.%d.ffn_norm.weight", i), width-1)
	}
	add("output_norm.weight", width-1)
	return m
}

// with returns a copy of a model that f has changed.
func (m model) with(f func(*model)) model {
	m.Metadata, m.File.Tensors = slices.Clone(m.Metadata), slices.Clone(m.File.Tensors)
	m.weights = slices.Clone(m.weights)
	f(&m)
	return m
}

func (m *model) retrain(i int) { m.weights[i].seed += 1 << 32 }

func (m *model) remove(i int) {
	m.File.Tensors, m.weights = slices.Delete(m.File.Tensors, i, i+1), slices.Delete(m.weights, i, i+1)
}

func (m *model) add(at int, t tensortest.Tensor, w weights) {
	m.File.Tensors, m.weights = slices.Insert(m.File.Tensors, at, t), slices.Insert(m.weights, at, w)
}

func (m *model) swap(i, j int) {
	m.File.Tensors[i], m.File.Tensors[j] = m.File.Tensors[j], m.File.Tensors[i]
	m.weights[i], m.weights[j] = m.weights[j], m.weights[i]
}

// What was changed of a model is fetched, and little more.
func TestUpdates(t *testing.T) {
	old := llama()
	const one = 20
	largest := old.File.Tensors[0].Size
	for name, c := range map[string]struct {
		change  func(*model)
		changed int64 // bytes
		wrong   int   // mismatches of the digest on the way
	}{
		"nothing":         {func(*model) {}, 0, 0},
		"a longer header": {func(m *model) { m.Metadata[3] += strings.Repeat("x", 100) }, 0, 0},
		"metadata only":   {func(m *model) { m.Metadata[3] = "{{ otherwise }}"[:14] }, 0, 0},
		"one tensor of 300": {
			func(m *model) { m.retrain(one) }, old.File.Tensors[one].Size, 0,
		},
		"the smallest tensor": {func(m *model) { m.retrain(5) }, old.File.Tensors[5].Size, 0},
		"tensors reordered": {func(m *model) {
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(m.weights), m.swap)
		}, 0, 0},
		"all renamed": {func(m *model) {
			for i := range m.File.Tensors {
				m.File.Tensors[i].Name = fmt.Sprintf("model.layers.%d", i)
			}
		}, 0, 0},
		"a block inserted": {func(m *model) {
			for i := range 9 {
				m.add(10+i, m.File.Tensors[1+i], weights{seed: 1 << 40})
			}
			for i, block := 1, -1; i+1 < len(m.weights); i++ {
				if i%9 == 1 {
					block++
				}
				_, kind, _ := strings.Cut(m.File.Tensors[i].Name[4:], ".")
				m.File.Tensors[i].Name = fmt.Sprintf("blk.%d.%s", block, kind)
			}
		}, (4*4 + 3*12) * width * width * 2, 0},
		"tensors removed":   {func(m *model) { m.remove(30); m.remove(11); m.remove(1) }, 0, 0},
		"the first removed": {func(m *model) { m.remove(0) }, 0, 0},
		"a tied embedding that is written out": {func(m *model) {
			tied := m.File.Tensors[0]
			tied.Name = "output.weight"
			m.add(len(m.weights), tied, m.weights[0])
		}, 0, 0},
		"another alignment": {func(m *model) { m.Alignment = 128 }, 0, 0},
		"an embedding with a few rows changed": {func(m *model) {
			m.weights[0].changed = pieces.Range{Start: 3000 * width * 2, End: 3004 * width * 2}
		}, largest, 1},
		"a few rows of others changed": {func(m *model) {
			m.weights[100].changed = pieces.Range{Start: 1600, End: 1608}
		}, 1 << 40, 2},
		"the first row of what has moved": {func(m *model) {
			m.remove(50)
			m.weights[50].changed = pieces.Range{End: 8}
		}, old.File.Tensors[51].Size, 0},
		"the last row": {func(m *model) {
			m.File.Tensors, m.weights = m.File.Tensors[:99], m.weights[:99]
			m.weights[98].changed = pieces.Range{Start: old.File.Tensors[98].Size - 8, End: 1 << 40}
		}, old.File.Tensors[98].Size, 0},
		"all quantised anew": {func(m *model) {
			for i := range m.File.Tensors {
				m.File.Tensors[i].Type, m.File.Tensors[i].Size = 2, m.File.Tensors[i].Size/32*9
				m.retrain(i)
			}
		}, 1 << 40, 0},
		"all trained anew": {func(m *model) {
			for i := range m.File.Tensors {
				m.retrain(i)
			}
		}, 1 << 40, 0},
		"half of all trained anew": {func(m *model) {
			for i := 0; i < len(m.weights); i += 2 {
				m.retrain(i)
			}
		}, changedHalf(old), 0},
	} {
		for kind, f := range formats {
			t.Run(kind+"/"+name, func(t *testing.T) {
				from, to := old.in(t, f), old.with(c.change).in(t, f)
				p := update(t, to, from)
				allowed := min(to.Size, c.changed+to.Size/100)
				assert.LessOrEqual(t, p.fetched, allowed, "of %d, after %d steps", to.Size, p.steps)
				assert.LessOrEqual(t, p.mismatches, c.wrong)
				assert.Less(t, p.steps, 12)
			})
		}
	}
}

func changedHalf(m model) (n int64) {
	for i := 0; i < len(m.weights); i += 2 {
		n += m.File.Tensors[i].Size
	}
	return n
}

// crowded is a model of 2,000 tensors.
func crowded() (m model) {
	for i := range 2000 {
		shape := []uint64{256, 256}
		m.File.Tensors = append(m.File.Tensors, tensortest.Tensor{
			Name: fmt.Sprintf("experts.%d.weight", i), Type: 1, Shape: shape, Size: 2 * 256 * 256,
		})
		m.weights = append(m.weights, weights{seed: uint64(i + 1)})
	}
	return m
}

func TestTenthOfManyTensorsChanged(t *testing.T) {
	for kind, f := range formats {
		t.Run(kind, func(t *testing.T) {
			changed := int64(0)
			next := crowded().with(func(m *model) {
				for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(2000)[:200] {
					m.retrain(i)
					changed += m.File.Tensors[i].Size
				}
			})
			to := next.in(t, f)
			p := update(t, to, crowded().in(t, f))
			assert.LessOrEqual(t, p.fetched, changed+to.Size/50)
			assert.Zero(t, p.mismatches)
		})
	}
}

// many is a model of more tensors than are probed.
func many() (m model) {
	for i := range 6000 {
		m.File.Tensors = append(m.File.Tensors, tensortest.Tensor{
			Name: fmt.Sprint("t", i), Shape: []uint64{1000 + uint64(i%7)}, Size: 4000 + int64(i%7)*4,
		})
		m.weights = append(m.weights, weights{seed: uint64(i + 1)})
	}
	return m
}

// The tensors that are not probed are believed where their neighbours agree.
func TestMoreTensorsThanProbes(t *testing.T) {
	for kind, f := range formats {
		t.Run(kind, func(t *testing.T) {
			p := update(t, many().in(t, f), many().in(t, f))
			assert.LessOrEqual(t, p.fetched, p.remote.Size/25, "of which the head is half")
		})
	}
}

func TestTensorsThatAreNotProbedBesideChangedOnes(t *testing.T) {
	for kind, f := range formats {
		t.Run(kind, func(t *testing.T) {
			changed := many().with(func(m *model) {
				for i := 500; i < 6000; i += 1000 {
					for n := range 100 {
						m.retrain(i + n)
					}
				}
			}).in(t, f)
			p := update(t, changed, many().in(t, f))
			assert.LessOrEqual(t, p.fetched, p.remote.Size/10+p.remote.Size/25+6*2*30*4000)
			assert.Zero(t, p.mismatches)
		})
	}
}

// part is a model of some of the tensors.
func part(start, end int) model {
	return llama().with(func(m *model) {
		m.File.Tensors, m.weights = m.File.Tensors[start:end], m.weights[start:end]
	})
}

// Each part of a model in several files may be in another one.
func TestSplitFiles(t *testing.T) {
	for kind, f := range formats {
		t.Run(kind, func(t *testing.T) {
			all := len(llama().weights)
			from, to := []*file{part(100, all).in(t, f), part(0, 100).in(t, f)}, part(60, 170).in(t, f)
			p := update(t, to, from...)
			assert.LessOrEqual(t, p.fetched, p.remote.Size/100)
		})
	}
}

// lying is a source that reads something else than it should.
type lying struct {
	*file
	read func(b []byte, off int64) (int, error)
}

func (l lying) ReadAt(b []byte, off int64) (int, error) { return l.read(b, off) }

// Whatever a source does, the file is right in the end, and nothing is fetched twice.
func TestSourcesThatLie(t *testing.T) {
	for kind, f := range formats {
		from, to := llama().in(t, f), llama().with(func(m *model) { m.Metadata[3] += "x" }).in(t, f)
		random := rand.New(rand.NewPCG(1, 1))
		reads := 0
		for name, read := range map[string]func(b []byte, off int64) (int, error){
			"zeros":    func(b []byte, _ int64) (int, error) { clear(b); return len(b), nil },
			"vanished": func([]byte, int64) (int, error) { return 0, errors.New("gone") },
			"changing": func(b []byte, off int64) (int, error) {
				n, err := from.ReadAt(b, off)
				if random.IntN(50) == 0 {
					b[0]++
				}
				return n, err
			},
			"right when it is probed": func(b []byte, off int64) (int, error) {
				n, err := from.ReadAt(b, off)
				if len(b) > 1000 {
					b[500]++
				}
				return n, err
			},
			"vanishing": func(b []byte, off int64) (int, error) {
				if reads++; reads > 320 {
					return 0, errors.New("gone")
				}
				return from.ReadAt(b, off)
			},
			"shifted": func(b []byte, off int64) (int, error) { return from.ReadAt(b, off/2) },
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				p := &pull{t: t, remote: to, sources: []reuse.Source{lying{from, read}}}
				p.run()
				honest := &pull{t: t, remote: to, sources: []reuse.Source{lying{from, read}, from}}
				honest.run()
			})
		}
	}
}

// A source of which one tensor was written over is as good as ever but for that one.
func TestSourceThatIsDamaged(t *testing.T) {
	for kind, f := range formats {
		t.Run(kind, func(t *testing.T) {
			from := llama().with(func(m *model) {
				m.weights[40].changed = pieces.Range{End: 1 << 40}
			}).in(t, f)
			p := update(t, llama().in(t, f), from)
			assert.LessOrEqual(t, p.fetched, llama().File.Tensors[40].Size+p.remote.Size/100)
		})
	}
}

// What an earlier pull has brought is neither fetched nor copied again.
func TestPullThatIsContinued(t *testing.T) {
	f := formats["GGUF"]
	from, to := llama().in(t, f), llama().with(func(m *model) { m.Metadata[3] += "x" }).in(t, f)
	p := &pull{t: t, remote: to, sources: []reuse.Source{from}}
	p.there = []pieces.Range{{Start: 0, End: 5 << 20}, {Start: 9 << 20, End: 30 << 20}}
	p.run()
	assert.LessOrEqual(t, p.fetched, to.Size/100)
	assert.LessOrEqual(t, p.reused, to.Size-(26<<20))
	assert.GreaterOrEqual(t, p.reused, to.Size-(26<<20)-to.Size/100)
}

// A file of another kind is fetched as ever: of it, the first part alone.
func TestFileWithoutATable(t *testing.T) {
	from := llama().in(t, formats["GGUF"])
	junk := &file{Layout: tensortest.Layout{Head: []byte(strings.Repeat("junk", 1000)), Size: 40 << 20}}
	p := update(t, junk, from)
	assert.Equal(t, 2, p.steps)
	assert.Equal(t, junk.Size, p.fetched)
	nobody := update(t, from)
	assert.Equal(t, from.Size, nobody.fetched)
	p = update(t, from, junk)
	assert.Equal(t, from.Size, p.fetched)
}

// A vocabulary of 10 MB makes the head longer than what is fetched of it at first.
func TestLongHead(t *testing.T) {
	long := func(m *model) {
		m.Vocab = make([]string, 404_000)
		for i := range m.Vocab {
			m.Vocab[i] = fmt.Sprintf("token %12d", i)
		}
	}
	from := llama().with(long).in(t, formats["GGUF"])
	to := llama().with(long).with(func(m *model) { m.Metadata[3] += "x" }).in(t, formats["GGUF"])
	require.Greater(t, len(to.Head), 10<<20)
	p := update(t, to, from)
	assert.LessOrEqual(t, p.fetched, int64(len(to.Head))*2+to.Size/100)
	assert.Less(t, p.steps, 12)
}

// A digest that was wrong without a byte that was copied is not ours to explain.
func TestMismatchWithoutACopy(t *testing.T) {
	from := llama().in(t, formats["GGUF"])
	p := reuse.New(from.Size, nil, 1)
	require.False(t, p.Mismatch())
	p.Begin([]pieces.Range{{End: from.Size}})
	step := p.Next(from, nil)
	require.True(t, step.Last)
	require.False(t, p.Mismatch())
}

// Half of some tensors has changed, and not always where they were probed: more probes find that out.
func TestTensorsThatArePartlyChanged(t *testing.T) {
	for kind, f := range formats {
		t.Run(kind, func(t *testing.T) {
			changed := int64(0)
			to := llama().with(func(m *model) {
				for i := 105; i < 195; i += 9 {
					size := m.File.Tensors[i].Size
					m.weights[i].changed = pieces.Range{Start: size / 4, End: size * 3 / 4}
					changed += size
				}
			}).in(t, f)
			p := update(t, to, llama().in(t, f))
			assert.LessOrEqual(t, p.fetched, changed+to.Size/100)
			assert.Equal(t, 1, p.mismatches)
		})
	}
}

// Where nothing is the same, that is found out with one request for each worker.
func TestNothingIsTheSame(t *testing.T) {
	from := llama().in(t, formats["GGUF"])
	to := llama().with(func(m *model) {
		for i := range m.weights {
			m.retrain(i)
		}
	}).in(t, formats["GGUF"])
	p := &pull{t: t, remote: to}
	procedure := reuse.New(to.Size, []reuse.Source{from}, 1)
	step := procedure.Begin(p.missing())
	p.fetch(step.Fetch)
	step = procedure.Next(p, p.missing())
	assert.LessOrEqual(t, len(step.Fetch), 64)
	p.fetch(step.Fetch)
	step = procedure.Next(p, p.missing())
	assert.True(t, step.Last)
	assert.Empty(t, step.Copy)
}
