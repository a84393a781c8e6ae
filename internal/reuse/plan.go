package reuse

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/tensorfile"
)

const (
	// probeSize is the size of a probe. The weights of two trainings differ in nearly every number.
	probeSize = 256

	// scouts is how many probes are asked for before any others: enough for one request of each worker, and
	// to find what is the same where that is a tenth of all.
	scouts = 32

	// There may be a request for probes for each probeShare bytes of a file, within these bounds, when it is
	// surveyed and again when it is refined. With two probes each that is 0.4 percent of its bytes.
	probeShare = 128 << 10 // 128 KiB
	leastAsked = 256
	mostAsked  = 4096

	// Probes that are nearer to each other than joinGap are fetched with what lies between: on a link of 10
	// MB/s that takes less time than a request does, even where many are made at once. What is fetched so is
	// at most a joinShare of the file.
	joinGap   = 4 << 10 // 4 KiB
	joinShare = 512
)

// tensor is a tensor of the file, and where its bytes may be.
type tensor struct {
	tensorfile.Tensor
	places []place // that were not refuted; the likeliest is the first
	probed bool    // or is to be probed
}

// probe is a part of a tensor that is compared with its places.
type probe struct {
	tensor int
	pieces.Range
}

// plan tells of each tensor where it may be copied from.
type plan struct {
	tensors []tensor // in the order of their bytes
	size    int64    // of the file
	rand    *rand.Rand
	most    int     // requests of one stage
	probes  []probe // to judge
}

// newPlan returns a plan that begins with the scouts, nil where there is nothing to look for.
func newPlan(want []tensorfile.Tensor, sources []Source, size int64, random *rand.Rand) *plan {
	p := &plan{size: size, rand: random, most: int(min(max(size/probeShare, leastAsked), mostAsked))}
	for _, t := range want {
		p.tensors = append(p.tensors, tensor{Tensor: t})
	}
	findPlaces(p.tensors, sources)
	p.spread(scouts, func(int) bool { return true })
	if len(p.probes) == 0 {
		return nil
	}
	return p
}

// spread adds probes of the tensors that are chosen, so that each has its share by its size. It adds as many
// as are told, more or less.
func (p *plan) spread(count int, chosen func(i int) bool) {
	size := func(i int) int64 {
		if t := &p.tensors[i]; len(t.places) > 0 && chosen(i) {
			return t.places[0].size
		}
		return 0
	}
	total := int64(0)
	for i := range p.tensors {
		total += size(i)
	}
	step := max(1, total/int64(max(1, count)))
	next := p.rand.Int64N(step)
	for i := range p.tensors {
		n := size(i)
		for ; next < n; next += step/2 + 1 + p.rand.Int64N(step) {
			p.probe(i, next)
		}
		next -= n
	}
}

// probe adds a probe at an offset of a tensor, or before it where the tensor ends.
func (p *plan) probe(i int, offset int64) {
	t := &p.tensors[i]
	t.probed = true
	size := t.places[0].size
	offset = max(0, min(offset, size-probeSize))
	r := pieces.Range{Start: t.Start + offset, End: t.Start + min(offset+probeSize, size)}
	p.probes = append(p.probes, probe{i, r})
}

// survey adds a probe at both ends of all that move together, and one of each tensor between.
func (p *plan) survey() {
	for i, ends := 0, 0; i < len(p.tensors) && ends < p.most; i++ {
		if len(p.tensors[i].places) == 0 {
			continue
		}
		if i == 0 || !p.together(i-1) {
			p.probe(i, 0)
			ends++
		}
		if !p.together(i) {
			p.probe(i, p.tensors[i].Len())
			ends++
		}
	}
	rest := p.choose(func(i int) bool { return !p.tensors[i].probed })
	if len(rest) > 2*p.most {
		p.spread(p.most, func(i int) bool { return !p.tensors[i].probed })
		return
	}
	p.probeNeighbours(rest)
}

// probeNeighbours adds a probe of each of these tensors: at the end of one and at the start of the next,
// which one request brings, and of small ones that lie between.
func (p *plan) probeNeighbours(these []int) {
	for len(these) > 0 {
		end := p.tensors[these[0]].End
		p.probe(these[0], p.tensors[these[0]].Len())
		for these = these[1:]; len(these) > 0 && p.tensors[these[0]].Start-end < joinGap; these = these[1:] {
			t := &p.tensors[these[0]]
			p.probe(these[0], 0)
			if end = t.End; t.Len() >= joinGap {
				these = these[1:]
				break
			}
		}
	}
}

// choose returns those of the tensors that have a place and are chosen.
func (p *plan) choose(chosen func(i int) bool) (some []int) {
	for i := range p.tensors {
		if len(p.tensors[i].places) > 0 && chosen(i) {
			some = append(some, i)
		}
	}
	return some
}

// together tells whether a tensor and the next are as near to each other where they may be copied from.
func (p *plan) together(i int) bool {
	if i+1 == len(p.tensors) {
		return false
	}
	a, b := &p.tensors[i], &p.tensors[i+1]
	return len(a.places) > 0 && len(b.places) > 0 && a.move(a.places[0]) == b.move(b.places[0])
}

// refine adds more probes of what would be copied, at random places: first of what was believed because of
// its neighbours. It is false where there is nothing to probe.
func (p *plan) refine() bool {
	copied := p.moves()
	believed := p.choose(func(i int) bool { return copied[i].ok && !p.tensors[i].probed })
	if len(believed) > p.most {
		p.spread(p.most, func(i int) bool { return copied[i].ok && !p.tensors[i].probed })
		return true
	}
	for _, i := range believed {
		p.probe(i, p.rand.Int64N(p.tensors[i].places[0].size))
	}
	p.spread(p.most-len(believed), func(i int) bool { return copied[i].ok })
	return len(p.probes) > 0
}

// pending returns the ranges of the probes that were not judged, as they are fetched.
func (p *plan) pending() []pieces.Range {
	all := make([]pieces.Range, len(p.probes))
	for i, x := range p.probes {
		all[i] = x.Range
	}
	return join(union(all), joinGap, p.size/joinShare)
}

// judge compares the probes with all places of their tensors, and drops the places that differ. It tells how
// many probes refuted the likeliest place of their tensor, and how many left it one.
func (p *plan) judge(file io.ReaderAt, sources []Source) (refuted, agreed int) {
	var want, got [probeSize]byte
	for _, x := range p.probes {
		t := &p.tensors[x.tensor]
		if len(t.places) == 0 {
			continue // by another probe
		}
		likeliest := t.places[0]
		_, err := file.ReadAt(want[:x.Len()], x.Start)
		t.places = slices.DeleteFunc(t.places, func(at place) bool {
			offset := x.Start - t.Start
			if err != nil || offset+x.Len() > at.size {
				return true
			}
			_, err := sources[at.source].ReadAt(got[:x.Len()], at.from+offset)
			return err != nil || !bytes.Equal(got[:x.Len()], want[:x.Len()])
		})
		if len(t.places) == 0 || t.places[0] != likeliest {
			refuted++
		}
		agreed += min(len(t.places), 1)
	}
	p.probes = nil
	return refuted, agreed
}

// dropLongest drops the places of the tensors that have the largest dimension, which is the vocabulary's in
// nearly every model.
func (p *plan) dropLongest() {
	longest := uint64(0)
	for i := range p.tensors {
		longest = max(longest, p.tensors[i].Longest)
	}
	for i := range p.tensors {
		if t := &p.tensors[i]; t.Longest == longest {
			t.places, t.probed = nil, true
		}
	}
}
