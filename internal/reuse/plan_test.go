package reuse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/tensorfile"
)

func ranges(bounds ...int64) (all []pieces.Range) {
	for b := range slices.Chunk(bounds, 2) {
		all = append(all, pieces.Range{Start: b[0], End: b[1]})
	}
	return all
}

func TestJoin(t *testing.T) {
	list := ranges(0, 10, 15, 20, 20, 21, 29, 40, 50, 60)
	for name, c := range map[string]struct {
		gap, budget int64
		want        []pieces.Range
	}{
		"nothing is near":    {0, 100, list},
		"some are near":      {9, 100, ranges(0, 40, 50, 60)},
		"all are":            {11, 100, ranges(0, 60)},
		"as far as gap":      {8, 100, ranges(0, 21, 29, 40, 50, 60)},
		"the budget is used": {11, 12, ranges(0, 21, 29, 40, 50, 60)},
		"the budget is met":  {11, 13, ranges(0, 40, 50, 60)},
		"no budget":          {11, 0, ranges(0, 10, 15, 21, 29, 40, 50, 60)},
	} {
		assert.Equal(t, c.want, join(list, c.gap, c.budget), name)
	}
	assert.Empty(t, join(nil, 1, 1))
}

func TestWorthwhile(t *testing.T) {
	const short = leastCopy - 1
	copies := func(bounds ...int64) (all []Copy) {
		for _, r := range ranges(bounds...) {
			all = append(all, Copy{Range: r, Source: 1, From: r.Start + 7})
		}
		return all
	}
	between := ranges(0, 10, 10+short, 30+short)
	for name, c := range map[string]struct {
		copies  []Copy
		fetched []pieces.Range
		budget  int64
		left    int
	}{
		"short, between":        {copies(10, 10+short), between, short, 0},
		"beyond the budget":     {copies(10, 10+short), between, short - 1, 1},
		"long":                  {copies(10, 10+leastCopy), ranges(0, 10, 10+leastCopy, 1<<20), 1 << 20, 1},
		"behind what is there":  {copies(10, 10+short), between[1:], short, 1},
		"before what is there":  {copies(10, 10+short), between[:1], short, 1},
		"nothing is fetched":    {copies(10, 10+short), nil, short, 1},
		"two, one in budget":    {copies(10, 20, 30, 40), ranges(0, 10, 20, 30, 40, 50), 19, 1},
		"two, both in budget":   {copies(10, 20, 30, 40), ranges(0, 10, 20, 30, 40, 50), 20, 0},
		"one beside what moves": {copies(10, 20, 20, 40), ranges(0, 10, 40, 50), 1 << 20, 2},
	} {
		assert.Len(t, worthwhile(c.copies, c.fetched, c.budget), c.left, name)
	}
}

// planOf returns the plan of a file of tensors of these sizes that may all be where a source has the same.
func planOf(sizes ...int64) *plan {
	p := &plan{rand: rand.New(rand.NewPCG(1, 2)), most: mostAsked}
	for i, size := range sizes {
		t := tensor{Tensor: tensorfile.Tensor{Name: fmt.Sprint(i)}}
		t.Start, t.End = p.size, p.size+size
		t.places = []place{{from: p.size + 1000, size: size}}
		p.size += size
		p.tensors = append(p.tensors, t)
	}
	return p
}

func many(n int, size int64) []int64 { return slices.Repeat([]int64{size}, n) }

// probed requires that each tensor that has a place is to be compared.
func (p *plan) probed(t *testing.T) {
	t.Helper()
	seen := make(map[int]bool)
	for _, x := range p.probes {
		seen[x.tensor] = true
		require.GreaterOrEqual(t, x.Start, p.tensors[x.tensor].Start)
		require.LessOrEqual(t, x.End, p.tensors[x.tensor].End)
	}
	for i := range p.tensors {
		assert.Equal(t, len(p.tensors[i].places) > 0, seen[i], "tensor %d", i)
	}
}

// Two neighbours are compared with one request, and small tensors between them too.
func TestSurveyAsksForNeighboursAtOnce(t *testing.T) {
	const large = 1 << 20
	layers := slices.Repeat([]int64{large, 100, large, 2000, 1000, large}, 100)
	for name, c := range map[string]struct {
		sizes []int64
		most  int // requests
	}{
		"many alike":  {many(2000, large), 1001},
		"small ones":  {layers, 202},
		"tiny ones":   {append(many(1, 1<<30), many(1000, 300)...), 3},
		"one":         {many(1, large), 2},
		"two":         {many(2, large), 2},
		"one is tiny": {many(1, 10), 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := planOf(c.sizes...)
			p.survey()
			p.probed(t)
			asked := p.pending()
			assert.LessOrEqual(t, len(asked), c.most)
			bytes := int64(0)
			for _, r := range asked {
				bytes += r.Len()
			}
			assert.LessOrEqual(t, bytes, int64(2*probeSize*len(asked))+p.size/joinShare)
		})
	}
}

// What cannot be copied is not compared, and what moves otherwise is at both of its ends.
func TestSurveyOfSeveralRuns(t *testing.T) {
	p := planOf(many(100, 1<<20)...)
	p.tensors[10].places = nil
	for i := 50; i < 100; i++ {
		p.tensors[i].places[0].from += 32
	}
	p.survey()
	p.probed(t)
	for _, r := range []pieces.Range{
		{Start: 0, End: 256}, {Start: 10<<20 - 256, End: 10 << 20}, {Start: 11 << 20, End: 11<<20 + 256},
		{Start: 50<<20 - 256, End: 50<<20 + 256}, {Start: 100<<20 - 256, End: 100 << 20},
	} {
		assert.Contains(t, p.pending(), r)
	}
}

// However many tensors there are, the requests and the bytes of a stage are bounded.
// The least file that is put together is the one with the largest share of probes.
func TestAllProbesOfASmallFileAreAtMostTwoPercent(t *testing.T) {
	for name, sizes := range map[string][]int64{
		"very many": many(40_000, 850), "as many as are probed": many(700, 48<<10), "few": many(33, 1<<20),
	} {
		for _, apart := range []int{1, 2, 100_000} { // so many move together
			p := planOf(sizes...)
			p.most = int(min(max(p.size/probeShare, leastAsked), mostAsked))
			for i := range p.tensors {
				p.tensors[i].places[0].from += int64(32 * (i / apart))
			}
			bytes := int64(0)
			scout := func() { p.spread(scouts, func(int) bool { return true }) }
			refine := func() { p.refine() }
			for _, stage := range []func(){scout, p.survey, refine, refine} {
				stage()
				for _, r := range p.pending() {
					bytes += r.Len()
				}
				p.probes = nil
			}
			assert.LessOrEqual(t, bytes, p.size/50, "%s, %d together", name, apart)
		}
	}
}

func TestProbesAreBounded(t *testing.T) {
	for name, sizes := range map[string][]int64{
		"many small": many(60_000, 5000), "many tiny": many(100_000, 400), "few": many(300, 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			p := planOf(sizes...)
			p.most = int(min(max(p.size/probeShare, leastAsked), mostAsked))
			for i := range p.tensors { // no two move together
				p.tensors[i].places[0].from += int64(32 * i)
			}
			for _, stage := range []func(){p.survey, func() { p.refine() }} {
				stage()
				asked := p.pending()
				assert.LessOrEqual(t, len(asked), 2*p.most+2)
				bytes := int64(0)
				for _, r := range asked {
					bytes += r.Len()
				}
				assert.LessOrEqual(t, bytes, p.size/100+128<<10)
				p.probes = nil
			}
		})
	}
}
