package pace

import "time"

const (
	// The first limit lets startBytes move at once: few large bodies or many small ones. With 48 pieces of
	// 8 MiB instead of five, D5 took a half more CPU time (notes.md, "Few bodies"). The same holds again
	// when bodies become smaller by smallerBy: too many small bodies are soon over, too many large ones
	// stay. Simulated, 2 is as good.
	startBytes = 32 << 20 // 32 MiB
	smallerBy  = 4

	// fewBodies is the least to begin with, and to shrink to without need. With two, the hash waits for the
	// network and the network for the hash (notes.md). Where the link is far, farStart begin: with 32, BBR
	// on a busy machine takes up to 1.36 times the best fixed number instead of 1.24, simulated.
	fewBodies = 4
	farStart  = fewBodies * farStep

	// No more than startFew begin. The others follow as soon as epochBytes or more have come so fast that
	// all would end within quickTime; what comes in its second half is not waited for. Over a slow link
	// they would share it, and none would be whole for long. D1, D3 and D4 take 1.00 to 1.02 times as long
	// as where all begin at once (medians of seven).
	startFew  = 8
	quickTime = 2 * time.Second

	// overloadedEvery is how often an overload counts: one cause makes many requests fail at once. It is not
	// measured; it is the pause before the first retry.
	overloadedEvery = time.Second
)

// controller finds the limit that moves the most bytes. It begins with few large bodies or many small ones,
// and lets its search go on from there.
//
// It is a state machine without a lock and without a clock: each call says what happened and when, and the
// limit may have changed after it.
type controller struct {
	search
	bodySize     int64 // the size of bodies that the limit is meant for; 0 before the first
	start        start
	lastOverload time.Time
}

// start is what is seen of the link before all bodies of the first limit begin.
type start struct {
	limit int       // the first limit; 0 when it is not waited for any more
	since time.Time // when the first bytes came
	bytes int64
}

// quick reports whether the link has shown that it is quick enough for so many bytes, after n more have come.
func (s *start) quick(now time.Time, n int, all int64) bool {
	if s.since.IsZero() {
		s.since = now
	}
	s.bytes += int64(n)
	elapsed := now.Sub(s.since)
	if elapsed > quickTime/2 {
		s.limit = 0
	}
	return s.bytes >= epochBytes && float64(all)*elapsed.Seconds() <= float64(s.bytes)*quickTime.Seconds()
}

func newController(most int) *controller {
	return &controller{search: search{most: most, reprobe: reprobe{after: firstReprobe}}}
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
	if c.harmful > 0 {
		limit = min(limit, c.harmful-1)
	}
	if limit > c.limit {
		c.best, c.phase, c.recall, c.reprobe.after = limit, measuring, false, firstReprobe
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
	if c.waits.far() && c.phase == measuring && c.rate == 0 && c.epoch.awaited <= 0 {
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
	switch elapsed := now.Sub(e.start); {
	case !c.inUse():
		e.start = time.Time{} // what moves now says nothing about the limit
	case e.start.IsZero():
		e.begin(now)
	case e.tells(elapsed, c.limit, &c.waits):
		e.start = time.Time{}
		c.judge(float64(e.bytes)/elapsed.Seconds(), now)
	}
}

// inUse reports whether as many bodies move as the limit allows. Those of a larger limit are too many, but
// for a settled limit: it lasts until they have ended.
func (c *controller) inUse() bool {
	full := c.active >= c.limit-c.limit/4
	beyond := c.active > c.limit && c.phase != settled
	return full && !beyond && c.epoch.awaited <= 0
}

// overloaded halves the limit.
func (c *controller) overloaded(now time.Time) {
	if now.Sub(c.lastOverload) < overloadedEvery {
		return
	}
	c.lastOverload, c.harmful, c.recall = now, c.limit, false
	c.best, c.rate = max(c.limit/2, 1), 0
	c.settle(now)
}
