package pace

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// As many bodies move at first as are startBytes, and again where bodies become smaller by a factor of
	// smallerBy: those that are too many are soon over when they are small, but large ones stay.
	startBytes = 32 << 20 // 32 MiB
	smallerBy  = 4

	// An epoch is how long one number of bodies is measured: so long that each may move
	// epochBytes and, where more than a quarter of them are new ones, epochWaits as long as a body waits for its
	// first byte, which evens out bursts.
	epoch      = 50 * time.Millisecond
	epochBytes = 64 << 10 // 64 KiB
	epochWaits = 4

	// firstStride is by how much a number is changed at first, and stride after that has paid: bodies
	// that turn out to be too many cannot be called back.
	firstStride = 1.5
	stride      = 2

	// More bodies are worth it when that share of them is as fast as the others, and fewer when they are
	// gain times as fast together.
	share = 0.4
	gain  = 1.1

	// tie is how fast a smaller number must be to be taken for as fast, and so better, because it
	// asks less of everybody and a crash loses less; down to fewSlots.
	tie      = 0.98
	fewSlots = 4

	// A settled number is doubted after firstDoubt, and each time twice as late, up to lastDoubt; later where
	// more bodies did harm, which is less than harm times the speed; at once where for manyDrops epochs only
	// dropped times the speed was left.
	firstDoubt = time.Second
	lastDoubt  = 16 * time.Second
	harm       = 0.9
	dropped    = 0.5
	manyDrops  = 3

	// troubleEvery is how often trouble counts: one cause troubles many at once.
	troubleEvery = time.Second
)

// Slots lets a number of bodies move at once, and finds out which number moves the
// most. It begins with few large ones or many small ones, tries more and, where that brings nothing, fewer, and
// then keeps to what was best, but asks again now and then.
type Slots struct {
	most   int
	fixed  bool
	beside *Slots // for larger bodies on the same link, whose number is judged by what all move; may be nil

	mu      sync.Mutex // guards the fields that follow, and those of all slots
	limit   int
	busy    int
	size    int64     // of the bodies that the limit is meant for; 0 before the first
	waiting []*waiter // first come, first served

	era     int           // counts the changes of limit
	awaited int           // bodies admitted in this era that must flow before the limit is measured
	latency time.Duration // how long a body waits for its first byte, on average
	begun   time.Time     // of the epoch; zero when none is under way
	bytes   int64         // moved in it
	taken   int           // bodies admitted in it

	best     int     // the number that was best so far
	bestRate float64 // bytes per second
	step     step
	paid     bool          // the step before was worth it
	harmful  int           // a number that slowed all down; 0 when none is known
	doubt    time.Duration // how long the next settled number is not doubted
	next     time.Time     // when to doubt again
	drops    int           // epochs in a row that were slow for it
	trouble  time.Time     // when trouble last counted
}

// Slot is room for one body. A nil Slot counts nothing.
type Slot struct {
	of       *Slots
	era      int       // when it was taken
	taken    time.Time // the same
	flows    bool
	released bool
	all      *semaphore.Weighted // gets one back too; nil where there is none
}

type waiter struct {
	slot Slot
	turn chan struct{}
}

// step is what the number under measurement is.
type step int

const (
	measuring step = iota // the best so far
	larger
	smaller
	settled
)

// NewSlots returns slots of which at most that many are taken at once, or always that many may be where the
// number is fixed.
func NewSlots(most int, fixed bool) *Slots {
	s := &Slots{most: most, fixed: fixed, doubt: firstDoubt}
	if fixed {
		s.limit = most
	}
	return s
}

// Acquire takes a slot for a body of that size, which must be released. It returns the cause of the context when
// that ends first.
func (s *Slots) Acquire(ctx context.Context, size int64) (*Slot, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	s.fit(size)
	w := &waiter{slot: Slot{of: s}}
	if s.busy < s.limit && len(s.waiting) == 0 {
		s.take(&w.slot)
		s.mu.Unlock()
		return &w.slot, nil
	}
	w.turn = make(chan struct{})
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.turn:
		return &w.slot, nil
	case <-ctx.Done():
		s.leave(w)
		return nil, context.Cause(ctx)
	}
}

// fit raises the limit for bodies that are much smaller than those before. The caller holds mu.
func (s *Slots) fit(size int64) {
	if s.fixed || s.size > 0 && size > s.size/smallerBy {
		return
	}
	s.size = max(size, 1)
	start := min(max(startBytes/s.size, fewSlots), int64(s.most))
	if s.harmful > 0 {
		start = min(start, int64(s.harmful)-1)
	}
	if int(start) > s.limit {
		s.best, s.step, s.doubt = int(start), measuring, firstDoubt
		s.change(s.best)
		s.admit()
	}
}

// take gives room to a body. The caller holds mu.
func (s *Slots) take(b *Slot) {
	s.busy++
	s.taken++
	b.era, b.taken = s.era, time.Now()
}

// leave gives up waiting, or the slot that came at the same moment.
func (s *Slots) leave(w *waiter) {
	s.mu.Lock()
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	w.slot.Release()
}

// Release gives a slot back. Only the first call counts.
func (b *Slot) Release() {
	if b == nil {
		return
	}
	s := b.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.released {
		return
	}
	b.released = true
	if b.all != nil {
		b.all.Release(1)
	}
	s.busy--
	s.admit()
}

// admit lets those in for whom there is room. The caller holds mu.
func (s *Slots) admit() {
	for s.busy < s.limit && len(s.waiting) > 0 {
		w := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.take(&w.slot)
		close(w.turn)
	}
}

// Moved counts bytes of the body.
func (b *Slot) Moved(n int) {
	if b == nil || b.of.fixed {
		return
	}
	s := b.of
	if s.beside != nil {
		s.beside.add(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !b.flows {
		b.flows = true
		s.latency += (now.Sub(b.taken) - s.latency) / 8
		if b.era == s.era {
			s.awaited--
		}
	}
	s.bytes += int64(n)
	switch elapsed := now.Sub(s.begun); {
	case s.busy > s.limit || s.busy < s.limit-s.limit/4 || s.awaited > 0:
		s.begun = time.Time{} // what flows now says nothing about the limit
	case s.begun.IsZero():
		s.begun, s.bytes, s.taken = now, 0, 0
	case elapsed < epoch || s.bytes < int64(s.limit)*epochBytes || elapsed < epochWaits*s.latency && s.taken > s.limit/4:
		// the epoch goes on
	default:
		s.begun = time.Time{}
		s.judge(float64(s.bytes)/elapsed.Seconds(), now)
		s.admit()
	}
}

// add counts bytes that moved beside the bodies of s.
func (s *Slots) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(n)
}

// judge decides what to measure next, after a limit moved so much. The caller holds mu.
func (s *Slots) judge(rate float64, now time.Time) {
	if s.step == settled {
		if rate <= dropped*s.bestRate {
			s.drops++
		} else {
			s.drops = 0
			s.bestRate += (rate - s.bestRate) / 8
		}
		switch {
		case s.drops >= manyDrops:
			s.doubt = firstDoubt
		case now.Before(s.next):
			return
		}
		s.measured(rate)
		if s.limit == s.most {
			s.try(smaller, now)
		} else {
			s.try(larger, now)
		}
		return
	}
	switch {
	case s.step == measuring:
		s.measured(rate)
		s.try(larger, now)
	case s.step == larger && rate >= s.bestRate*(1+share*float64(s.limit-s.best)/float64(s.best)),
		s.step == smaller && rate >= s.bestRate*gain:
		s.best, s.bestRate, s.paid = s.limit, rate, true
		if s.limit >= s.harmful {
			s.harmful = 0
		}
		s.try(s.step, now) // and on in the same direction
	case s.step == smaller && rate >= tie*s.bestRate && s.limit >= fewSlots:
		s.best, s.paid = s.limit, true
		s.try(smaller, now)
	case s.step == larger:
		if rate < harm*s.bestRate {
			s.doubt, s.harmful = lastDoubt, s.limit
		}
		if s.paid { // it was fewer just now
			s.settle(now)
			return
		}
		s.try(smaller, now)
	default:
		s.settle(now)
	}
}

// measured begins a search from the number that was measured. The caller holds mu.
func (s *Slots) measured(rate float64) {
	s.best, s.bestRate, s.paid = s.limit, rate, false
}

// try changes the limit for an epoch. The caller holds mu.
func (s *Slots) try(next step, now time.Time) {
	by := firstStride
	if s.paid {
		by = stride
	}
	limit := min(int(math.Ceil(float64(s.best)*by)), s.most)
	if next == smaller {
		limit = max(int(float64(s.best)/by), 1)
	}
	if limit == s.best {
		s.settle(now)
		return
	}
	s.step = next
	s.change(limit)
}

// change begins an era. The caller holds mu.
func (s *Slots) change(limit int) {
	s.awaited = max(0, (limit-s.limit+1)/2)
	s.limit = limit
	s.era++
	s.begun = time.Time{}
}

func (s *Slots) settle(now time.Time) {
	s.change(s.best)
	s.step, s.next, s.drops = settled, now.Add(s.doubt), 0
	s.doubt = min(2*s.doubt, lastDoubt)
}

// Trouble is [Lanes.Trouble] for these slots.
func (s *Slots) Trouble() {
	if s.fixed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.trouble) < troubleEvery {
		return
	}
	s.trouble, s.harmful = now, s.limit
	s.best, s.bestRate = max(s.limit/2, 1), 0
	s.settle(now)
}
