package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer/internal/bench/contender"
	"github.com/modeltransfer/transfer/internal/bench/registry"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

// update is a new version of a model beside an older one. The size of both is the workload's, more or less.
type update struct {
	format  func(tensortest.File) tensortest.Layout
	tensors int
	change  func(m *model)
}

// model is a file of tensors of one size.
type model struct {
	tensortest.File
	seeds []uint64
}

// retrain changes tensors.
func (m *model) retrain(these ...int) {
	for _, i := range these {
		m.seeds[i] += 1 << 32
	}
}

// updates are new versions of a model of which an older one is here, so often that all take less than ten
// minutes.
func updates() []workload {
	gguf, safetensors := tensortest.File.GGUF, tensortest.File.Safetensors
	of := func(name, title string, u update) workload {
		w := down(name, title, "update", []string{"copy", "reuse", "transfer"},
			registry.Knobs{Latency: late, TotalRate: 100e6}, large)
		w.update, w.rounds = &u, 2
		return w
	}
	return []workload{
		of("R1", "2 GiB of GGUF, its metadata 100 bytes longer", update{gguf, 300, func(m *model) {
			m.Metadata[1] += strings.Repeat("x", 100)
		}}),
		of("R2", "2 GiB of safetensors, one tensor of 300 changed", update{safetensors, 300, func(m *model) {
			m.retrain(150)
		}}),
		of("R3", "2 GiB of GGUF, all tensors changed", update{gguf, 300, func(m *model) {
			for i := range m.seeds {
				m.retrain(i)
			}
		}}),
		of("R4", "2 GiB of safetensors, a tenth of 2,000 tensors changed", update{safetensors, 2000,
			func(m *model) { m.retrain(rand.New(rand.NewPCG(1, 2)).Perm(2000)[:200]...) }}),
	}
}

// update returns the blob of the new version, and the file of the older one.
func (s *shelf) update(u *update, size int64) (b contender.Blob, old string, err error) {
	m := model{File: tensortest.File{Metadata: []string{"general.name", "model"}}}
	for i := range u.tensors {
		m.Tensors = append(m.Tensors, tensortest.Tensor{
			Name: fmt.Sprintf("blk.%d.weight", i), Type: 30,
			Shape: []uint64{uint64(size) / uint64(2*u.tensors)}, Size: size / int64(u.tensors) / 2 * 2,
		})
		m.seeds = append(m.seeds, uint64(i))
	}
	version := func() (contender.Blob, error) {
		l := u.format(m.File)
		return s.save(l.Size, func(w io.Writer) error { return m.Write(w, l, m.seeds) })
	}
	older, err := version()
	if err != nil {
		return b, "", err
	}
	u.change(&m)
	b, err = version()
	return b, filepath.Join(s.dir, older.File()), err
}

// updated compares updates with a plain pull, and with a local copy that is hashed.
func updated(results []result) [][]string {
	cells := [][]string{{"row", "what is new", "bytes", "plain pull", "time", "plain pull", "local copy",
		"measured"}}
	for _, r := range results {
		if r.workload.update == nil {
			continue
		}
		line := []string{r.workload.name, r.workload.title}
		ours, _ := rowOf(r.rows, "reuse")
		plain, _ := rowOf(r.rows, "transfer")
		size := float64(r.workload.bytes())
		for _, s := range []summary{ours, plain} {
			line = append(line, fmt.Sprintf("%.1f %%", 100*s.of[body].median/size))
		}
		for _, name := range []string{"reuse", "transfer", "copy"} {
			line = append(line, fmt.Sprintf("%.1f s", medianOf(r.rows, name)))
		}
		cells = append(cells, append(line, r.when()))
	}
	return cells
}
