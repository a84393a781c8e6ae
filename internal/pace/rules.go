package pace

import (
	"math"
	"time"
)

const (
	// Windows are opening while each epoch is growth times as fast as the one before. Simulated, 1.1 is as
	// good, but not for decline.
	growth = 1.25

	// The first limit of a far link is measured when windows are open, or after openTime. Where they still
	// open then, round trips rule. A larger limit is given up only after openWaits waits for a first byte: at
	// once, lossy links take 1.06 times the best fixed number instead of 1.04, simulated.
	openTime  = 200 * time.Millisecond
	openWaits = 6

	// A limit is made smaller by smallStep, and larger by largeStep: by 1.5, connections that are held to
	// one rate take 1.32 times the best fixed number, simulated. Where windows that are open may fill a far
	// link, it is smallStep once more: more bodies than it needs cost W2bbr a fifth of the time. Where they
	// still open, or losses have closed them, it is farStep: through smaller ones, slow start begins anew
	// with each (notes.md, "Calling bodies back").
	smallStep = 1.5
	largeStep = 2.0
	farStep   = 4

	// A smaller limit is as fast when it is tie times as fast: two measurements of the same speed differ by
	// some percent. Simulated, 0.95 is as good.
	tie = 0.98

	// A larger limit pays off when the added bodies are at least share as fast as the others. Simulated,
	// 0.3 and 0.5 are as good.
	share = 0.4

	// Bodies that leave less than harm times the speed do harm: from a far server they are called back.
	// Simulated, 0.8 is as good. From a server that is near they end soon by themselves, and a busy machine
	// makes the speed waver: there nearHarm counts. With it, D5 has 4 MB sent twice instead of 50 (notes.md).
	harm     = 0.9
	nearHarm = 0.7

	// A larger limit is tried early when the speed, on average of the last smooth epochs, has become less
	// than decline times the best since the limit was settled: losses have closed the windows, or the link
	// has changed. Simulated, an average of 4 takes bursts of BBR for that.
	decline = 1 / growth
	smooth  = 8

	// A settled limit is probed again after firstReprobe, and each time twice as late, up to lastReprobe.
	// Simulated, lossy links take up to 1.37 times the best fixed number instead of 1.18 with 1 s for the
	// first, and servers that collapse 1.25 instead of 1.10 with 4 s for it, 1.15 with 4 s for the last.
	firstReprobe = 2 * time.Second
	lastReprobe  = 16 * time.Second
)

// phase is why the controller has chosen the current limit.
type phase int

const (
	measuring phase = iota // to know the speed of the first limit
	growing                // to try a larger limit than the best
	shrinking              // to try a smaller limit than the best
	settled                // because it is the best
)

// verdict is what an epoch says of the current limit.
type verdict int

const (
	unclear  verdict = iota // nothing yet
	steady                  // it has its speed
	full                    // the same on a far link: windows are open, and may fill it
	rising                  // windows are still opening after openTime: round trips rule
	faster                  // the added bodies are worth it
	level                   // it is no faster; for a smaller limit, no slower
	lasting                 // the same of many more on a far link, where losses go on to halve windows
	slower                  // it does harm; for a smaller limit, it is slower
	ruinous                 // it does so much harm that its bodies are called back
	declined                // it was faster before
	due                     // it has been left alone for long enough
)

// lesson is what a verdict changes of what is known.
type lesson int

const (
	nothing  lesson = iota
	best            // the current limit is the best
	tooMany         // the best limit is the one before; bodies of the current one still move
	harmful         // the same, and the current limit is kept away from
	disaster        // the same, and bodies beyond the limit are called back
)

// rule is a row of the table in the package comment.
type rule struct {
	phase   phase
	verdict verdict
	lesson  lesson
	next    func(s *search, now time.Time)
}

// rules has what follows from each verdict; from any other, nothing.
var rules = []rule{
	{measuring, steady, best, (*search).grow},
	{measuring, full, best, (*search).edge},
	{measuring, rising, best, (*search).leap},
	{growing, faster, best, (*search).grow},
	{growing, level, tooMany, (*search).settle},
	{growing, lasting, best, (*search).settle},
	{growing, slower, harmful, (*search).settle},
	{growing, ruinous, disaster, (*search).shrink},
	{shrinking, level, best, (*search).shrink},
	{shrinking, slower, nothing, (*search).settle},
	{settled, declined, nothing, (*search).renew},
	{settled, due, nothing, (*search).probe},
}

// search finds the limit that moves the most bytes, by what epochs tell of one after the other.
type search struct {
	most       int
	limit      int // 0 before the first body
	active     int // bodies, when bytes last moved
	generation int // counts the changes of limit

	waits waits
	epoch epoch

	phase   phase
	best    int     // limit
	rate    float64 // bytes per second of best
	harmful int     // a limit that made all slower; 0 when none is known
	recall  bool    // bodies beyond the limit are to end now, and not when they are whole
	reprobe reprobe
}

// reprobe is when a settled limit is probed again.
type reprobe struct {
	after time.Duration // the next settled limit is left alone for so long
	since time.Time     // when this one was settled
	wait  time.Duration // for how long it is left alone
	peak  float64       // the best speed since
	down  bool          // a smaller limit comes next
}

// judge decides what to measure next, after the limit moved that many bytes per second in an epoch.
func (s *search) judge(rate float64, now time.Time) {
	v := s.verdict(rate, now)
	for _, r := range rules {
		if r.phase == s.phase && r.verdict == v {
			s.learn(r.lesson, rate)
			r.next(s, now)
			return
		}
	}
}

// verdict says what an epoch tells.
func (s *search) verdict(rate float64, now time.Time) verdict {
	e := &s.epoch
	opening := s.waits.far() && (e.last == 0 || rate > growth*e.last)
	e.last, e.fastest = rate, max(rate, e.fastest)
	lasted := now.Sub(e.first)
	switch s.phase {
	case measuring:
		return ofFirst(s.waits.far(), opening, lasted)
	case growing:
		if opening {
			return unclear
		}
		return s.ofLarger(rate, lasted)
	case shrinking:
		if rate >= tie*s.rate && s.limit >= fewBodies {
			return level
		}
		return slower
	default:
		return s.ofSettled(rate, now)
	}
}

// ofFirst judges the first limit, which has been measured for that long.
func ofFirst(far, opening bool, lasted time.Duration) verdict {
	switch {
	case !far:
		return steady
	case !opening:
		return full
	case lasted < openTime:
		return unclear
	default:
		return rising
	}
}

// ofLarger judges a limit that is larger than the best.
func (s *search) ofLarger(rate float64, lasted time.Duration) verdict {
	fastest, added := s.epoch.fastest, float64(s.limit-s.best)/float64(s.best)
	switch {
	case fastest >= s.rate*(1+share*added):
		return faster
	case lasted < openWaits*s.waits.nearest:
		return unclear
	case fastest < s.waits.ruin()*s.rate:
		return ruinous
	case rate < harm*s.rate:
		return slower
	case s.waits.far() && float64(s.limit) > largeStep*float64(s.best):
		return lasting
	default:
		return level
	}
}

// ofSettled judges the best limit.
func (s *search) ofSettled(rate float64, now time.Time) verdict {
	r := &s.reprobe
	s.rate += (rate - s.rate) / smooth
	r.peak = max(r.peak, s.rate)
	lasted := now.Sub(r.since)
	switch {
	case s.rate < decline*r.peak && s.limit < s.most && lasted > openTime:
		return declined
	case lasted >= r.wait:
		return due
	default:
		return unclear
	}
}

// learn changes what is known.
func (s *search) learn(l lesson, rate float64) {
	switch l {
	case best:
		switch s.phase {
		case measuring, growing:
			rate = s.epoch.fastest
		case shrinking:
			rate = max(rate, s.rate) // or many ties would add up to a loss
		}
		s.best, s.rate = s.limit, rate
		if s.limit >= s.harmful {
			s.harmful = 0
		}
	case tooMany:
		s.rate = rate
	case harmful:
		s.rate, s.harmful, s.reprobe.after = rate, s.limit, lastReprobe
	case disaster:
		s.recall, s.harmful, s.reprobe.after = true, s.limit, lastReprobe
	}
}

// grow tries a larger limit.
func (s *search) grow(now time.Time) { s.try(growing, largeStep, now) }

// edge tries a limit that is a little larger.
func (s *search) edge(now time.Time) { s.try(growing, smallStep, now) }

// leap tries a much larger limit: each step takes long on a far link to show what it brings, and bodies that
// turn out to be too many are called back.
func (s *search) leap(now time.Time) { s.try(growing, farStep, now) }

// shrink tries a smaller limit.
func (s *search) shrink(now time.Time) { s.try(shrinking, 1/smallStep, now) }

// renew tries a larger limit, much larger where the link is far. A limit that did harm would have become
// faster since. The bodies that still move are not enough either.
func (s *search) renew(now time.Time) {
	s.harmful, s.reprobe.after = 0, firstReprobe
	s.best, s.rate = max(s.limit, s.active), min(s.rate, s.epoch.last)
	if s.waits.far() {
		s.leap(now)
	} else {
		s.grow(now)
	}
}

// probe tries a larger and a smaller limit in turn.
func (s *search) probe(now time.Time) {
	down := s.reprobe.down || s.limit == s.most
	s.reprobe.down = !down
	if down {
		s.shrink(now)
		return
	}
	s.grow(now)
}

// try changes the limit by a step, or settles where none is left.
func (s *search) try(next phase, step float64, now time.Time) {
	limit := int(float64(s.best) * step)
	if next == growing {
		limit, s.recall = int(math.Ceil(float64(s.best)*step)), false
	}
	limit = min(max(limit, 1), s.most)
	if limit == s.best {
		s.settle(now)
		return
	}
	s.phase = next
	s.change(limit)
}

// settle keeps to the best limit for a while.
func (s *search) settle(now time.Time) {
	s.change(s.best)
	s.phase = settled
	r := &s.reprobe
	r.since, r.wait, r.peak = now, r.after, s.rate
	r.after = min(2*r.after, lastReprobe)
}

// change sets the limit and starts a generation.
func (s *search) change(limit int) {
	s.epoch = epoch{awaited: max(0, (limit-max(s.limit, s.active)+1)/2), last: s.epoch.last}
	s.limit = limit
	s.generation++
	if s.recall {
		s.active = limit
	}
}
