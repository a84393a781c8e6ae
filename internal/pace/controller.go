package pace

import (
	"math"
	"time"
)

const (
	// The first limit lets startBytes move at once, so few large bodies or many small ones. The same holds again
	// when bodies become smaller by smallerBy: too many small bodies are soon over, too many large ones stay.
	startBytes = 32 << 20 // 32 MiB
	smallerBy  = 4

	// An epoch measures one limit. It lasts until each body may have moved epochBytes. Where more than a quarter
	// of the bodies are new ones, it lasts at least epochWaits waits for a first byte, which evens out bursts.
	epochTime  = 50 * time.Millisecond
	epochBytes = 64 << 10 // 64 KiB
	epochWaits = 4

	// A search changes the limit by firstStep at first, and by laterStep after a step that paid off. The first
	// step is small because bodies that turn out to be too many cannot be called back.
	firstStep = 1.5
	laterStep = 2

	// A larger limit pays off when the added bodies are at least share as fast as the others. A smaller limit
	// pays off when all bodies together become gain times as fast.
	share = 0.4
	gain  = 1.1

	// tie is how fast a smaller limit must be to count as equally fast. Between equals, the smaller limit is
	// better, down to fewBodies: it asks less of the server, and a crash loses less.
	tie       = 0.98
	fewBodies = 4

	// A settled limit is probed again after firstReprobe, and each time twice as late, up to lastReprobe. It is
	// lastReprobe at once where a larger limit left less than harm times the speed.
	firstReprobe = time.Second
	lastReprobe  = 16 * time.Second
	harm         = 0.9

	// A settled limit is probed again at once when the speed was below dropped times the best for manyDrops
	// epochs in a row.
	dropped   = 0.5
	manyDrops = 3

	// overloadedEvery is how often an overload counts, because one cause makes many requests fail at once.
	overloadedEvery = time.Second
)

// phase is why the controller has chosen the current limit.
type phase int

const (
	measuring phase = iota // to know the speed of the best limit
	growing                // to try a larger limit than the best
	shrinking              // to try a smaller limit than the best
	settled                // because it is the best
)

// controller finds the limit that moves the most bytes. It starts with few large bodies or many small ones,
// tries larger limits, then smaller ones, settles on the best, and probes again now and then.
//
// It is a state machine without a lock and without a clock: it is told what happened and when, and its
// limit may have changed after each call.
type controller struct {
	most       int
	limit      int   // 0 before the first body
	generation int   // counts the changes of limit
	bodySize   int64 // the size of bodies that the limit is meant for; 0 before the first

	latency time.Duration // from acquiring a slot to the first byte, on average
	epoch   epoch

	phase   phase
	best    int
	rate    float64 // bytes per second of best
	paidOff bool    // a step of this search was worth it
	harmful int     // a limit that made all slower; 0 when none is known

	reprobe      reprobe
	lastOverload time.Time
}

// epoch is what was seen of the current limit.
type epoch struct {
	awaited  int       // bodies of this generation that must have a first byte before the epoch starts
	start    time.Time // zero before it starts
	bytes    int64
	admitted int // bodies
}

// reprobe is when a settled limit is probed again.
type reprobe struct {
	after time.Duration // the next settled limit is left alone for so long
	at    time.Time
	drops int // slow epochs in a row
}

func newController(most int) *controller {
	return &controller{most: most, reprobe: reprobe{after: firstReprobe}}
}

// fit raises the limit for bodies that are much smaller than those before.
func (c *controller) fit(size int64) {
	if c.bodySize > 0 && size > c.bodySize/smallerBy {
		return
	}
	c.bodySize = max(size, 1)
	start := min(max(startBytes/c.bodySize, fewBodies), int64(c.most))
	if c.harmful > 0 {
		start = min(start, int64(c.harmful)-1)
	}
	if int(start) > c.limit {
		c.best, c.phase, c.reprobe.after = int(start), measuring, firstReprobe
		c.change(c.best)
	}
}

// admitted counts a body that got a slot.
func (c *controller) admitted() { c.epoch.admitted++ }

// firstByte counts a body whose first byte came, and that got its slot in that generation.
func (c *controller) firstByte(latency time.Duration, generation int) {
	c.latency += (latency - c.latency) / 8
	if generation == c.generation {
		c.epoch.awaited--
	}
}

// addBytes counts bytes that say nothing about whether the limit is in use.
func (c *controller) addBytes(n int) { c.epoch.bytes += int64(n) }

// moved counts bytes that moved while so many bodies were active. It reports whether the limit has changed.
func (c *controller) moved(now time.Time, n, active int) (changed bool) {
	e := &c.epoch
	e.bytes += int64(n)
	elapsed := now.Sub(e.start)
	switch {
	case active > c.limit || active < c.limit-c.limit/4 || e.awaited > 0:
		e.start = time.Time{} // what moves now says nothing about the limit
	case e.start.IsZero():
		e.start, e.bytes, e.admitted = now, 0, 0
	case elapsed < epochTime || e.bytes < int64(c.limit)*epochBytes,
		elapsed < epochWaits*c.latency && e.admitted > c.limit/4:
		// The epoch goes on.
	default:
		e.start = time.Time{}
		generation := c.generation
		c.judge(float64(e.bytes)/elapsed.Seconds(), now)
		return c.generation != generation
	}
	return false
}

// judge decides what to measure next, after the limit moved that many bytes per second.
func (c *controller) judge(rate float64, now time.Time) {
	switch c.phase {
	case measuring:
		c.search(rate)
		c.try(growing, now)
	case growing:
		c.judgeGrowing(rate, now)
	case shrinking:
		c.judgeShrinking(rate, now)
	case settled:
		c.judgeSettled(rate, now)
	}
}

func (c *controller) judgeGrowing(rate float64, now time.Time) {
	added := float64(c.limit-c.best) / float64(c.best)
	switch {
	case rate >= c.rate*(1+share*added):
		c.accept(rate)
		c.try(growing, now)
		return
	case rate < harm*c.rate:
		c.reprobe.after, c.harmful = lastReprobe, c.limit
	}
	if c.paidOff { // the smaller limit was slower, as was just seen
		c.settle(now)
		return
	}
	c.try(shrinking, now)
}

func (c *controller) judgeShrinking(rate float64, now time.Time) {
	switch {
	case rate >= gain*c.rate:
		c.accept(rate)
	case rate >= tie*c.rate && c.limit >= fewBodies:
		// The speed to compare with stays, or many ties would add up to a loss.
		c.best, c.paidOff = c.limit, true
	default:
		c.settle(now)
		return
	}
	c.try(shrinking, now)
}

func (c *controller) judgeSettled(rate float64, now time.Time) {
	if rate <= dropped*c.rate {
		c.reprobe.drops++
	} else {
		c.reprobe.drops = 0
		c.rate += (rate - c.rate) / 8
	}
	if c.reprobe.drops >= manyDrops {
		c.reprobe.after = firstReprobe
	} else if now.Before(c.reprobe.at) {
		return
	}
	c.search(rate)
	if c.limit == c.most {
		c.try(shrinking, now)
		return
	}
	c.try(growing, now)
}

// search starts a search at the current limit.
func (c *controller) search(rate float64) { c.best, c.rate, c.paidOff = c.limit, rate, false }

// accept makes the current limit the best.
func (c *controller) accept(rate float64) {
	c.best, c.rate, c.paidOff = c.limit, rate, true
	if c.limit >= c.harmful {
		c.harmful = 0
	}
}

// try changes the limit by a step, or settles where no step is left.
func (c *controller) try(next phase, now time.Time) {
	step := firstStep
	if c.paidOff {
		step = laterStep
	}
	limit := min(int(math.Ceil(float64(c.best)*step)), c.most)
	if next == shrinking {
		limit = max(int(float64(c.best)/step), 1)
	}
	if limit == c.best {
		c.settle(now)
		return
	}
	c.phase = next
	c.change(limit)
}

// settle keeps to the best limit for a while.
func (c *controller) settle(now time.Time) {
	c.change(c.best)
	c.phase, c.reprobe.at, c.reprobe.drops = settled, now.Add(c.reprobe.after), 0
	c.reprobe.after = min(2*c.reprobe.after, lastReprobe)
}

// change sets the limit and starts a generation.
func (c *controller) change(limit int) {
	c.epoch = epoch{awaited: max(0, (limit-c.limit+1)/2)}
	c.limit = limit
	c.generation++
}

// overloaded halves the limit.
func (c *controller) overloaded(now time.Time) {
	if now.Sub(c.lastOverload) < overloadedEvery {
		return
	}
	c.lastOverload, c.harmful = now, c.limit
	c.best, c.rate = max(c.limit/2, 1), 0
	c.settle(now)
}
