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

	// No more than startFew of them begin. The others follow as soon as quickBytes or more have come so fast that
	// all would end within quickTime. Over a slow link they would share it, and none would be whole for long. After
	// quickLook, the search finds the limit as ever.
	startFew   = 8
	quickBytes = 64 << 10 // 64 KiB
	quickTime  = 2 * time.Second
	quickLook  = time.Second

	// Where even the fastest first byte takes longer than farLatency, it takes many round trips until the
	// windows of TCP are open, and a lost packet halves one. Few bodies cannot fill such a link, so the limit
	// starts with farStart.
	farLatency = 10 * time.Millisecond
	farStart   = 16

	// An epoch measures one limit. It lasts epochTime or, up to maxEpochTime, as long as a first byte takes,
	// and until each body may have moved epochBytes, but for that no longer than patience. Where more than a
	// quarter of the bodies are new ones, it lasts at least epochWaits waits for a first byte, which evens out
	// bursts.
	epochTime    = 50 * time.Millisecond
	maxEpochTime = 8 * epochTime
	epochBytes   = 64 << 10 // 64 KiB
	epochWaits   = 4
	patience     = time.Second

	// Windows are opening while each epoch is opening times as fast as the one before. The speed of a limit is
	// taken when they are open. For the first limit, the wait for that ends after openTime or, where that is
	// longer, openWaits times what the fastest first byte took. A larger limit is rejected only after
	// rejectWaits times that.
	opening     = 1.25
	openTime    = 200 * time.Millisecond
	openWaits   = 3
	rejectWaits = 6

	// A search changes the limit by firstStep at first, and by laterStep after a step that paid off. Where
	// bodies take longer than shortBodies, only laterStep stands out from what losses do to the speed. Such
	// bodies on a far link get farStep at once, because each step takes long there to show what it brings, and
	// bodies that turn out to be too many are called back.
	firstStep   = 1.5
	laterStep   = 2
	farStep     = 4
	shortBodies = 250 * time.Millisecond

	// A larger limit pays off when the added bodies are at least share as fast as the others. A smaller limit
	// pays off when all bodies together become gain times as fast.
	share = 0.4
	gain  = 1.1

	// tie is how fast a smaller limit must be to count as equally fast. Between equals, the smaller limit is
	// better, down to fewBodies: it asks less of the server, and a crash loses less. Only a far link keeps a
	// larger limit that is as fast.
	tie       = 0.98
	fewBodies = 4

	// A settled limit is probed again after firstReprobe, and each time twice as late, up to lastReprobe. It is
	// lastReprobe at once where a larger limit left less than harm times the speed. Where bodies take long, a
	// smaller limit is probed only after steadyReprobe, because it takes as long to find out.
	firstReprobe  = time.Second
	steadyReprobe = 4 * time.Second
	lastReprobe   = 16 * time.Second
	harm          = 0.9

	// Bodies are called back where they left less than harm times the speed. From a server that is near they
	// end soon by themselves, what is lost in its buffers costs more, and a busy machine makes the speed waver:
	// there they are called back for less than nearHarm.
	nearHarm = 0.7

	// A larger limit is tried early, but not before soonestReprobe, when the speed has become less than decline
	// times the best since the limit was settled: losses have closed the windows, or the link has changed.
	soonestReprobe = 200 * time.Millisecond
	decline        = 0.8

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
	active     int   // bodies, when bytes last moved
	generation int   // counts the changes of limit
	bodySize   int64 // the size of bodies that the limit is meant for; 0 before the first

	start start
	waits waits
	epoch epoch

	phase        phase
	recall       bool // bodies beyond the limit are to end now, and not when they are whole
	search       search
	reprobe      reprobe
	lastOverload time.Time
}

// start is what is seen of the link before all bodies of the first limit begin.
type start struct {
	limit int       // the first limit; 0 when it is not waited for any more
	since time.Time // when the first bytes came
	bytes int64
}

// quick tells whether the link has shown that it is quick enough for so many bytes, after n more have come.
func (s *start) quick(now time.Time, n int, all int64) bool {
	if s.since.IsZero() {
		s.since = now
	}
	s.bytes += int64(n)
	elapsed := now.Sub(s.since)
	if elapsed > quickLook {
		s.limit = 0
	}
	return s.bytes >= quickBytes && float64(all)*elapsed.Seconds() <= float64(s.bytes)*quickTime.Seconds()
}

// waits is how long bodies took from being asked for to their first byte: on average, and the fastest,
// because servers and machines that are busy delay the others.
type waits struct{ average, nearest time.Duration }

func (w *waits) add(latency time.Duration) {
	if w.average == 0 {
		w.average, w.nearest = latency, latency
	}
	w.nearest = min(w.nearest, latency)
	w.average += (latency - w.average) / 8
}

// far reports whether round trips rule how fast a body moves.
func (w *waits) far() bool { return w.nearest > farLatency }

// ruin is the share of the speed below which bodies that are too many are called back.
func (w *waits) ruin() float64 {
	if w.far() {
		return harm
	}
	return nearHarm
}

// epoch is what was seen of the current limit.
type epoch struct {
	awaited  int       // bodies of this generation that must have a first byte before the first epoch starts
	start    time.Time // zero before it starts
	bytes    int64
	admitted int // bodies

	first time.Time // when the first epoch of the generation started
	last  float64   // bytes per second of the epoch before, if any; it may be of the generation before
	best  float64   // bytes per second of the fastest epoch of the generation
}

// search is what was found so far.
type search struct {
	best    int     // limit
	rate    float64 // bytes per second of best
	paidOff bool    // a step of this search was worth it
	harmful int     // a limit that made all slower; 0 when none is known
}

// begin starts a search at a limit.
func (s *search) begin(limit int, rate float64) { s.best, s.rate, s.paidOff = limit, rate, false }

// accept makes a limit the best.
func (s *search) accept(limit int, rate float64) {
	s.best, s.rate, s.paidOff = limit, rate, true
	if limit >= s.harmful {
		s.harmful = 0
	}
}

// reprobe is when a settled limit is probed again.
type reprobe struct {
	after   time.Duration // the next settled limit is left alone for so long
	at      time.Time
	soonest time.Time
	peak    float64 // the best speed since the limit was settled
	down    bool    // a smaller limit comes next
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
	limit := int(min(max(startBytes/c.bodySize, fewBodies), int64(c.most)))
	if c.limit == 0 || c.start.limit > 0 {
		c.start.limit = limit
		limit = min(limit, startFew)
	}
	c.startWith(limit)
}

// startWith measures a larger limit as if it were the first.
func (c *controller) startWith(limit int) {
	limit = min(limit, c.most)
	if c.search.harmful > 0 {
		limit = min(limit, c.search.harmful-1)
	}
	if limit > c.limit {
		c.search.best, c.phase, c.reprobe.after = limit, measuring, firstReprobe
		c.change(limit)
	}
}

// admitted counts a body that got a slot.
func (c *controller) admitted() { c.epoch.admitted++ }

// firstByte counts a body whose first byte came, and that got its slot in that generation.
func (c *controller) firstByte(latency time.Duration, generation int) {
	c.waits.add(latency)
	if generation == c.generation {
		c.epoch.awaited--
	}
	if c.waits.far() && c.phase == measuring && c.search.rate == 0 && c.epoch.awaited <= 0 {
		c.startWith(farStart)
	}
}

// addBytes counts bytes that say nothing about whether the limit is in use.
func (c *controller) addBytes(n int) { c.epoch.bytes += int64(n) }

// moved counts bytes that moved while so many bodies were active.
func (c *controller) moved(now time.Time, n, active int) {
	c.active = active
	if s := &c.start; s.limit > 0 && s.quick(now, n, int64(s.limit)*c.bodySize) {
		c.startWith(s.limit)
		s.limit = 0
	}
	e := &c.epoch
	e.bytes += int64(n)
	elapsed := now.Sub(e.start)
	switch {
	case active > c.limit && c.phase != settled, active < c.limit-c.limit/4, e.awaited > 0:
		e.start = time.Time{} // what moves now says nothing about the limit
	case e.start.IsZero():
		e.start, e.bytes, e.admitted = now, 0, 0
		if e.first.IsZero() {
			e.first = now
		}
	case elapsed < max(epochTime, min(c.waits.nearest, maxEpochTime)) ||
		e.bytes < int64(c.limit)*epochBytes && elapsed < patience,
		elapsed < epochWaits*c.waits.average && e.admitted > c.limit/4:
		// The epoch goes on.
	default:
		e.start = time.Time{}
		c.judge(float64(e.bytes)/elapsed.Seconds(), now)
	}
}

// judge decides what to measure next, after the limit moved that many bytes per second.
func (c *controller) judge(rate float64, now time.Time) {
	last := c.epoch.last
	c.epoch.last, c.epoch.best = rate, max(rate, c.epoch.best)
	if c.phase <= growing && c.waits.far() && (last == 0 || rate > opening*last) {
		enough := max(openTime, openWaits*c.waits.nearest)
		if last == 0 || c.phase == growing || now.Sub(c.epoch.first) <= enough {
			return
		}
	}
	switch c.phase {
	case measuring:
		c.search.begin(c.limit, rate)
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
	s := &c.search
	added := float64(c.limit-s.best) / float64(s.best)
	if c.epoch.best >= s.rate*(1+share*added) {
		s.accept(c.limit, c.epoch.best)
		c.try(growing, now)
		return
	}
	if now.Sub(c.epoch.first) < rejectWaits*c.waits.nearest {
		return
	}
	slower := rate < harm*s.rate
	if slower {
		c.reprobe.after, s.harmful = lastReprobe, c.limit
	}
	switch short := c.short(); {
	case short && s.paidOff: // the smaller limit was slower, as was just seen
		c.settle(now)
	case short:
		c.try(shrinking, now)
	case c.epoch.best < c.waits.ruin()*s.rate: // at all times
		c.reject(now)
	case !slower && c.waits.far():
		// It is as fast, and remains so where losses go on to halve windows.
		s.accept(c.limit, rate)
		c.settle(now)
	default:
		s.rate = rate // the bodies of the larger limit still move, and what follows is compared with their speed
		c.settle(now)
	}
}

// reject gives up a limit that made all slower, and has its bodies called back. The limit before may be too
// large as well where none that is smaller is known.
func (c *controller) reject(now time.Time) {
	if first := c.reprobe.at.IsZero(); first && !c.search.paidOff {
		c.try(shrinking, now)
	} else {
		c.settle(now)
	}
	c.recall, c.active = true, c.limit
}

// short reports whether bodies end so soon that a smaller limit takes effect at once.
func (c *controller) short() bool {
	return float64(c.limit)*float64(c.bodySize) < c.search.rate*shortBodies.Seconds()
}

func (c *controller) judgeShrinking(rate float64, now time.Time) {
	s := &c.search
	switch {
	case rate >= gain*s.rate:
		s.accept(c.limit, rate)
	case rate >= tie*s.rate && c.limit >= fewBodies:
		// The speed to compare with stays, or many ties would add up to a loss.
		s.best, s.paidOff = c.limit, true
	default:
		if !s.paidOff {
			c.reprobe.after *= 2 // it was in vain, and has cost speed
		}
		c.settle(now)
		return
	}
	c.try(shrinking, now)
}

func (c *controller) judgeSettled(rate float64, now time.Time) {
	s, r := &c.search, &c.reprobe
	s.rate += (rate - s.rate) / 4
	r.peak = max(r.peak, s.rate)
	down := c.limit == c.most
	switch {
	case s.rate < decline*r.peak && !down && now.After(r.soonest):
		// A limit that does harm would have become faster since. The bodies that still move are not enough either.
		s.harmful, r.after = 0, firstReprobe
		c.limit = max(c.limit, c.active)
	case now.Before(r.at):
		return
	case down && !c.short() && r.after < steadyReprobe:
		c.settle(now)
		return
	default:
		down = down || r.down && r.after >= steadyReprobe
		r.down = !r.down && !c.short()
	}
	if down {
		s.begin(c.limit, s.rate)
		c.try(shrinking, now)
		return
	}
	s.begin(c.limit, min(rate, s.rate))
	c.try(growing, now)
}

// try changes the limit by a step, or settles where no step is left.
func (c *controller) try(next phase, now time.Time) {
	best, step := c.search.best, firstStep
	switch long := next == growing && !c.short(); {
	case long && c.waits.far():
		step = farStep
	case long, c.search.paidOff:
		step = laterStep
	}
	limit := min(int(math.Ceil(float64(best)*step)), c.most)
	if next == shrinking {
		limit = max(int(float64(best)/step), 1)
	}
	if limit == best {
		c.settle(now)
		return
	}
	c.phase = next
	c.change(limit)
}

// settle keeps to the best limit for a while.
func (c *controller) settle(now time.Time) {
	c.change(c.search.best)
	c.phase = settled
	r := &c.reprobe
	r.at, r.soonest, r.peak = now.Add(r.after), now.Add(soonestReprobe), c.search.rate
	r.after = min(2*r.after, lastReprobe)
}

// change sets the limit and starts a generation.
func (c *controller) change(limit int) {
	c.epoch = epoch{awaited: max(0, (limit-max(c.limit, c.active)+1)/2), last: c.epoch.last}
	c.limit, c.recall = limit, false
	c.generation++
}

// overloaded halves the limit.
func (c *controller) overloaded(now time.Time) {
	if now.Sub(c.lastOverload) < overloadedEvery {
		return
	}
	c.lastOverload, c.search.harmful = now, c.limit
	c.search.best, c.search.rate = max(c.limit/2, 1), 0
	c.settle(now)
}
