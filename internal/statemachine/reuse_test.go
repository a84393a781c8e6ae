package statemachine

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/modeltransfer/transfer/internal/registrytest"
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

// mostReuse is how many bytes a pull that reuses may fetch for each that a plain one does. What is compared
// is a part of the blob, and what was copied and is wrong was not fetched before: whatever a source does, no
// byte is fetched twice for it. What is left are pieces that workers share out otherwise, of which a few
// bytes are on their way.
const mostReuse = 1.02

// TestReuseCostsNoMoreThanAPlainPull pulls models with sources of every kind and without, in the same world.
func TestReuseCostsNoMoreThanAPlainPull(t *testing.T) {
	made := &store{dir: t.TempDir()}
	rapid.Check(t, func(rt *rapid.T) {
		s := drawUpdate(rt)
		plain := s
		plain.Steps = []step{{Calls: slices.Clone(s.Steps[0].Calls)}}
		plain.Steps[0].Calls[0].Reuse = ""
		var served [2]int64
		for i, s := range []scenario{plain, s} {
			wrong := inWorld(t, made, s, func(m *machine) string {
				m.step(s.Steps[0])
				m.onlyBlobs()
				served[i] = m.served()
				return strings.Join(m.violations, "\n")
			})
			if wrong != "" {
				rt.Fatalf("%s\nin %s", wrong, s)
			}
		}
		if float64(served[1]) > mostReuse*float64(served[0]) {
			rt.Fatalf("%d bytes were sent, without reuse %d\nin %s", served[1], served[0], s)
		}
		if s.Steps[0].Calls[0].Reuse == "older" && !s.Options.NoRange && served[1] > served[0]/2 {
			rt.Fatalf("%d bytes were sent of %d: nothing is reused\nin %s", served[1], served[0], s)
		}
	})
}

// drawUpdate draws one download of models of which there are other versions.
func drawUpdate(t *rapid.T) scenario {
	sources := rapid.SampledFrom([]string{"older", "lying", "changing", "vanishing", "links"})
	others := rapid.SampledFrom([]int{32*mebibyte + 1, 1000, 1000})
	s := scenario{
		Mode:   rapid.SampledFrom(registrytest.Modes()).Draw(t, "mode"),
		Direct: rapid.Bool().Draw(t, "direct"),
		Blobs:  []blob{{Size: 34 * mebibyte, Remote: true}, {Size: others.Draw(t, "size"), Remote: true}},
	}
	s.Options = registrytest.Options{
		Token: "secret-token", Latency: time.Millisecond,
		NoRange: rapid.IntRange(0, 5).Draw(t, "no range") == 5,
		Redirects: registrytest.Redirects{
			SignedFor:     rapid.SampledFrom(lifetimes).Draw(t, "signed for"),
			ExpiredStatus: rapid.SampledFrom(expiredStatuses).Draw(t, "expired"),
		},
	}
	s.Steps = []step{{Calls: []call{{
		Blobs:       []bool{true, true},
		Concurrency: rapid.SampledFrom([]int{0, 0, 1, 2, 5}).Draw(t, "concurrency"),
		Bodies:      rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "bodies"),
		Reuse:       sources.Draw(t, "reuse"),
		Changes:     changes.Draw(t, "changes"),
	}}}}
	return s
}
