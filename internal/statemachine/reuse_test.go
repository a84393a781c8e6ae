package statemachine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"pgregory.net/rapid"

	"github.com/modeltransfer/transfer/internal/tensorfile"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

// modelSize is the size from which on blobs are model files. Of smaller ones nothing is reused.
const modelSize = 32 << 20

// olderBy is the difference between the number of a blob and that of the older version of it.
const olderBy = 100

// reuses are what a download is given that it may take bytes from, beside nothing.
var reuses = rapid.SampledFrom([]string{"", "", "", "", "older", "lying", "changing", "vanishing", "links"})

// changes are when a file changes or vanishes: before it is looked at, when it is compared or when it is
// copied.
var changes = rapid.SampledFrom([]time.Duration{
	1, time.Millisecond + 211, 4*time.Millisecond + 97, 9*time.Millisecond + 1, 50*time.Millisecond + 3,
})

// model fills a file of that size with tensors, of which versions with other numbers have most.
func model(number int, data []byte) {
	const tensor = 256 << 10
	f := tensortest.File{Metadata: []string{"general.name", fmt.Sprint("version ", number)}}
	var seeds []uint64
	for i := range len(data)/tensor - 1 {
		f.Tensors = append(f.Tensors, tensortest.Tensor{
			Name: fmt.Sprintf("blk.%d.weight", i), Shape: []uint64{256, 256}, Size: tensor,
		})
		seeds = append(seeds, uint64(i))
		if rand.New(rand.NewPCG(uint64(i), uint64(number))).IntN(9) == 0 {
			seeds[i] += uint64(1000 * (number + 1))
		}
	}
	copy(data, f.Bytes(f.GGUF(), seeds))
}

// lie changes bytes of all tensors but where most are compared.
func lie(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		panic(err)
	}
	tensors, err := tensorfile.Read(f, fi.Size(), fi.Size())
	if err != nil {
		panic(err)
	}
	for _, t := range tensors {
		if _, err := f.WriteAt([]byte("lie"), t.Start+t.Len()/3); err != nil {
			panic(err)
		}
	}
}

// older returns a file that an earlier version of a blob is in.
func (s *store) older(number, size int) string {
	_, path := s.blob(number+olderBy, size)
	return path
}

// reuse gives a download what it may take bytes from. What it returns takes that away.
func (m *machine) reuse(c call) (paths []string, end func()) {
	end = func() {}
	if c.Reuse == "" {
		return nil, end
	}
	for i, b := range m.blobs {
		if !c.Blobs[i] || b.Size < modelSize {
			continue
		}
		older := m.made.older(i, int(b.Size))
		path := filepath.Join(m.old, fmt.Sprint(m.olds.Add(1)))
		switch c.Reuse {
		case "older", "vanishing":
			m.must(os.Link(older, path))
		case "links":
			m.must(os.Symlink(older, path))
		default:
			data, err := os.ReadFile(older)
			m.must(err)
			m.must(os.WriteFile(path, data, 0o644))
		}
		if c.Reuse == "lying" {
			lie(path)
		}
		paths = append(paths, path)
	}
	if c.Reuse == "changing" || c.Reuse == "vanishing" {
		end = after(c.Changes, func() {
			for _, path := range paths {
				if c.Reuse == "changing" {
					lie(path)
					m.must(os.Truncate(path, 30<<20))
				}
				m.must(os.Rename(path, path+".gone"))
			}
		})
	}
	return paths, end
}
