//go:build !race

// What follows computes for long in one goroutine: the race detector would only make it slower.

package pace

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const (
	mbit = 1e6 / 8 // bytes per second
	ms   = time.Millisecond
)

// bestFixed returns how long a transfer takes with the best fixed limit, and which that is.
func (t *transfer) bestFixed(seed uint64) (best time.Duration, limit int) {
	best = time.Hour
	for _, n := range []int{64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1} {
		if took := t.simulate(fixedLimit(n), seed, best); took < best {
			best, limit = took, n
		}
	}
	return best, limit
}

// ratios are how many times as long as the best fixed limit the controller took, smallest first.
type ratios []float64

func (r ratios) at(share float64) float64 { return r[int(share*float64(len(r)-1))] }

// compare simulates transfers with the controller and with each fixed limit, several times.
func compare(t *testing.T, all []transfer, seeds int) (r ratios) {
	t.Helper()
	r = make(ratios, len(all)*seeds)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			for seed := range seeds {
				best, limit := all[i].bestFixed(uint64(seed))
				c := newController(mostBodies)
				took := all[i].simulate(foundLimit{c}, uint64(seed+1000), 20*best)
				ratio := float64(took) / float64(best)
				r[i*seeds+seed] = ratio
				if ratio > 1.25 {
					t.Logf("%.2f: %s takes %v, and %v with %d; at last %d",
						ratio, all[i].name, took, best, limit, c.limit)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(r)
	t.Logf("%d runs: median %.3f, 90 %% %.3f, worst %.3f", len(r), r.at(0.5), r.at(0.9), r.at(1))
	return r
}

// lossy is a link of 1 Gbit/s on which losses halve windows.
var lossy = link{rtt: 20 * ms, rate: 1000 * mbit, queue: 5e6, loss: 0.001, handshakes: 1, noise: 0.05}

// variant returns a link that differs from another.
func variant(l link, name string, change func(*link)) link {
	l.name = name
	if change != nil {
		change(&l)
	}
	return l
}

func lossyTransfers() []transfer {
	far := variant(lossy, "100 ms", func(l *link) { l.rtt, l.queue = 100*ms, 25e6 })
	slow := variant(lossy, "10 Mbit/s", func(l *link) { l.rate, l.queue = 10*mbit, 256<<10 })
	return []transfer{
		{variant(lossy, "reno", nil), 1, 300 << 20},
		{variant(lossy, "cubic", func(l *link) { l.congestion = cubic }), 1, 300 << 20},
		{variant(lossy, "bbr", func(l *link) { l.congestion = bbr }), 1, 300 << 20},
		{variant(lossy, "a long queue", func(l *link) { l.queue = 12.5e6 }), 1, 300 << 20},
		{far, 1, 300 << 20}, {slow, 1, 30 << 20},
		{variant(lossy, "small bodies", nil), 2000, 64 << 10},
		{variant(far, "small bodies, 100 ms", nil), 2000, 64 << 10},
		{variant(slow, "small bodies, 10 Mbit/s", nil), 400, 64 << 10},
		{variant(lossy, "1 GiB", nil), 1, 1 << 30},
	}
}

func TestControllerOnLossyLinks(t *testing.T) {
	t.Parallel()
	r := compare(t, lossyTransfers(), 3)
	assert.Less(t, r.at(0.5), 1.04)
	assert.Less(t, r.at(0.9), 1.15)
	assert.Less(t, r.at(1), 1.20)
}

// More bodies than a link with BBR needs make it no faster, and cost a busy machine more.
func TestControllerOnLinksWithBBR(t *testing.T) {
	t.Parallel()
	model := variant(lossy, "bbr", func(l *link) { l.congestion = bbr })
	busy := variant(model, "a busy machine", func(l *link) { l.drag = 0.006 })
	r := compare(t, []transfer{
		{model, 1, 300 << 20}, {model, 1, 1 << 30}, {model, 2000, 64 << 10}, {busy, 1, 300 << 20},
		{variant(model, "no loss", func(l *link) { l.loss = 0 }), 1, 300 << 20},
		{variant(model, "100 ms", func(l *link) { l.rtt, l.queue = 100*ms, 25e6 }), 1, 300 << 20},
		{variant(model, "200 Mbit/s", func(l *link) { l.rate, l.queue = 200*mbit, 1e6 }), 1, 100 << 20},
		{variant(model, "a wavering link", func(l *link) { l.noise = 0.4 }), 1, 300 << 20},
	}, 3)
	assert.Less(t, r.at(0.5), 1.10)
	assert.Less(t, r.at(1), 1.40)
}

func TestControllerOnThisMachine(t *testing.T) {
	t.Parallel()
	near := link{rtt: ms / 4, rate: 800e6, queue: 4e6, noise: 0.15, drag: 0.01}
	slow := variant(near, "slow connections", func(l *link) { l.rate, l.perConn, l.drag = 1000e6, 14e6, 0 })
	collapse := variant(near, "a server that collapses above 16", func(l *link) {
		l.server, l.collapse, l.drag = 400e6, 16, 0
	})
	late := func(by time.Duration) func(*link) { return func(l *link) { l.think = by } }
	r := compare(t, []transfer{
		{variant(near, "one large blob", nil), 1, 2 << 30},
		{variant(near, "many blobs", nil), 256, 4 << 20},
		{variant(near, "small blobs", nil), 2000, 64 << 10},
		{variant(near, "small blobs, late answers", late(25*ms)), 2000, 64 << 10},
		{variant(near, "a few fill the link", func(l *link) { l.rate, l.drag = 50e6, 0 }), 100, 4 << 20},
		{slow, 1, 1 << 30},
		{variant(slow, "slow connections, late answers", late(300*ms)), 1, 16 << 30},
		{collapse, 256, 4 << 20},
		{variant(collapse, "the same, late answers", late(50*ms)), 256, 4 << 20},
		{variant(collapse, "the same, small blobs", late(10*ms)), 10_000, 128 << 10},
	}, 3)
	assert.Less(t, r.at(0.5), 1.10)
	assert.Less(t, r.at(1), 1.25)
}

func TestControllerOnOtherFarLinks(t *testing.T) {
	t.Parallel()
	clean := variant(lossy, "no loss", func(l *link) { l.loss = 0 })
	wifi := variant(clean, "a wavering link", func(l *link) { l.rate, l.noise, l.queue = 200*mbit, 0.6, 2e6 })
	server := variant(clean, "a server that collapses above 24", func(l *link) {
		l.rtt, l.server, l.collapse = 60*ms, 100e6, 24
	})
	twice := func(s link) link { return variant(s, s.name+", 120 ms", func(l *link) { l.rtt *= 2 }) }
	above16 := variant(server, "one that collapses above 16", func(l *link) { l.collapse = 16 })
	weak16 := variant(server, "a weak one", func(l *link) { l.server, l.collapse = 16e6, 16 })
	weak8 := variant(server, "a weak one, 8", func(l *link) { l.server, l.collapse = 16e6, 8 })
	r := compare(t, []transfer{
		{clean, 1, 1 << 30},
		{variant(clean, "300 Mbit/s", func(l *link) { l.rate, l.queue = 300*mbit, 1e6 }), 1, 1 << 30},
		{wifi, 1, 400 << 20}, {wifi, 3000, 64 << 10}, {wifi, 300, 1 << 20},
		{variant(clean, "8 MB/s each", func(l *link) { l.rate, l.perConn = 2000*mbit, 8e6 }), 1, 1 << 30},
		{variant(clean, "40 MB/s each", func(l *link) { l.rate, l.perConn = 5000*mbit, 40e6 }), 1, 2 << 30},
		{server, 1, 1 << 30}, {twice(server), 1, 1 << 30},
		{above16, 256, 4 << 20}, {twice(above16), 256, 4 << 20},
		{weak16, 1, 256 << 20}, {twice(weak16), 1, 256 << 20},
		{variant(weak16, "a weak one, 4 MiB", nil), 64, 4 << 20},
		{weak8, 1, 256 << 20}, {twice(weak8), 1, 256 << 20},
	}, 1)
	assert.Less(t, r.at(0.5), 1.10)
	assert.Less(t, r.at(1), 1.20)
}

// randomTransfer draws a link, and something that takes some seconds on it.
func randomTransfer(r *rand.Rand, name string) transfer {
	logarithmic := func(from, to float64) float64 { return from * math.Pow(to/from, r.Float64()) }
	l := link{
		name: name, handshakes: 1 + 2*r.IntN(2), noise: 0.2 * r.Float64(), congestion: congestion(r.IntN(3)),
		rtt: time.Duration(logarithmic(2, 250) * float64(ms)), rate: logarithmic(10, 2000) * mbit,
		think: time.Duration(r.IntN(40)) * ms,
	}
	l.queue = max(64<<10, l.rate*l.rtt.Seconds()*(0.25+3*r.Float64()))
	if r.IntN(3) > 0 {
		l.loss = logarithmic(0.00003, 0.003)
	}
	if r.IntN(4) == 0 {
		l.perConn = (1 + 20*r.Float64()) * 1e6
	}
	bytes := l.rate * (2 + 4*r.Float64())
	switch r.IntN(3) {
	case 0:
		return transfer{l, 1, int64(max(bytes, 16<<20))}
	case 1:
		return transfer{l, int(max(bytes/(4<<20), 2)), 4 << 20}
	default:
		bytes = min(bytes, 64*(64<<10)/l.rtt.Seconds()) // what 64 bodies at once move in a second
		return transfer{l, int(max(bytes/(64<<10), 50)), 64 << 10}
	}
}

func TestControllerOnAnyLink(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var all []transfer
	for i := range 200 {
		all = append(all, randomTransfer(r, fmt.Sprintf("link %d", i)))
	}
	found := compare(t, all, 1)
	assert.Less(t, found.at(0.5), 1.05)
	assert.Less(t, found.at(0.9), 1.25)
	assert.Less(t, found.at(0.98), 2.5, "some are bad luck: the last bodies are those with the most losses")
}

// firstBytes starts as many bodies as may move, tells the controller how long each took, and returns its
// limit.
func firstBytes(size int64, latencies ...time.Duration) (before, after int) {
	c := newController(mostBodies)
	c.fit(size)
	before = c.limit
	for _, latency := range latencies {
		c.admitted()
		c.firstByte(latency, c.generation)
	}
	return before, c.limit
}

func TestAFarLinkStartsWithMoreBodies(t *testing.T) {
	before, after := firstBytes(pieceSize, 40*ms, 41*ms, 42*ms, 43*ms)
	assert.Equal(t, fewBodies, before)
	assert.Equal(t, farStart, after)
}

// A busy machine delays most answers of a server that is near.
func TestABusyServerIsNotFar(t *testing.T) {
	before, after := firstBytes(pieceSize, 40*ms, 2*ms, 60*ms, 80*ms)
	assert.Equal(t, before, after)
}

// moves has all bodies of the limit move for an epoch and a little, at so many bytes per second together.
func moves(c *controller, from time.Time, rate float64) (now time.Time) {
	for range c.limit {
		c.firstByte(ms, c.generation)
	}
	generation := c.generation
	for now = from; c.generation == generation && now.Sub(from) < time.Second; now = now.Add(ms) {
		c.moved(now, int(rate/1000), c.limit)
	}
	return now
}

// From a server that is near, bodies that make all a little slower end soon by themselves. What is in the
// buffers of their connections would be lost, and be sent again.
func TestNearBodiesAreCalledBackOnlyForMuch(t *testing.T) {
	for share, recall := range map[float64]bool{0.8: false, 0.6: true} {
		c := newController(mostBodies)
		c.fit(pieceSize)
		now := moves(c, time.Unix(0, 0), 50e6)
		assert.Equal(t, growing, c.phase)
		moves(c, now, share*50e6)
		assert.NotEqual(t, growing, c.phase)
		assert.Equal(t, recall, c.recall, "%v of the speed", share)
	}
}
