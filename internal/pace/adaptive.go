package pace

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// adaptiveLimit admits bodies up to a limit. A controller finds the limit that moves the most bytes, unless
// the limit is fixed.
type adaptiveLimit struct {
	// beside is the limit of larger bodies on the same link. It counts what bodies of this limit move too,
	// because it must judge by what the link moves in all. May be nil.
	beside *adaptiveLimit

	mu         sync.Mutex  // guards the fields that follow, and those of all slots
	limit      int         // 0 before the first body
	active     int         // slots that are held
	recallable []*Slot     // those of them that can be called back, oldest first
	waiting    []*waiter   // first come, first served
	controller *controller // nil where the limit is fixed
}

// Slot is the permission to move one body. A nil Slot counts nothing.
type Slot struct {
	owner      *adaptiveLimit
	generation int           // of the controller, when the slot was acquired
	since      time.Time     // when it was acquired, or later its body asked for
	dialed     time.Duration // how long it took to make the connection; zero where that is not known
	flowing    bool          // the first byte has come
	released   bool
	recall     func()              // ends the body; nil where nothing does
	total      *semaphore.Weighted // gets one back when the slot is released; may be nil
}

// waiter waits for a slot.
type waiter struct {
	slot Slot
	turn chan struct{} // closed when the slot is held
}

// newAdaptiveLimit returns a limit that never exceeds most, or always is most where it is fixed.
func newAdaptiveLimit(most int, fixed bool) *adaptiveLimit {
	if fixed {
		return &adaptiveLimit{limit: most}
	}
	return &adaptiveLimit{controller: newController(most)}
}

// Acquire waits for a slot for a body of that size. The caller must release the slot. On failure, Acquire
// returns the cause of ctx, and holds no slot.
func (l *adaptiveLimit) Acquire(ctx context.Context, size int64) (*Slot, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	l.mu.Lock()
	if l.controller != nil {
		l.controller.fit(size)
		l.admit()
	}
	w := &waiter{slot: Slot{owner: l}}
	if l.active < l.limit && len(l.waiting) == 0 {
		l.give(&w.slot)
		l.mu.Unlock()
		return &w.slot, nil
	}
	w.turn = make(chan struct{})
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	select {
	case <-w.turn:
		return &w.slot, nil
	case <-ctx.Done():
		l.leave(w)
		return nil, context.Cause(ctx)
	}
}

// admit takes over the limit of the controller, and gives free slots to who waits. The caller holds mu.
func (l *adaptiveLimit) admit() {
	if l.controller != nil {
		l.limit = l.controller.limit
	}
	for l.active < l.limit && len(l.waiting) > 0 {
		w := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.give(&w.slot)
		close(w.turn)
	}
}

// give counts a slot that is held from now on. The caller holds mu.
func (l *adaptiveLimit) give(s *Slot) {
	l.active++
	if l.controller != nil {
		s.since, s.generation = time.Now(), l.controller.generation
		l.controller.admitted()
	}
}

// recalled returns the functions that end the bodies beyond the limit, the youngest first, where the
// controller calls them back. Each is returned once. The caller holds mu.
func (l *adaptiveLimit) recalled() (ends []func()) {
	if !l.controller.recall {
		return nil
	}
	for n := len(l.recallable); n > 0 && l.active-len(ends) > l.limit; n-- {
		s := l.recallable[n-1]
		l.recallable, ends = l.recallable[:n-1], append(ends, s.recall)
	}
	return ends
}

// leave ends the waiting of w. A slot that w got at the same moment is released.
func (l *adaptiveLimit) leave(w *waiter) {
	l.mu.Lock()
	if i := slices.Index(l.waiting, w); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	w.slot.Release()
}

// now returns the limit, and how many slots are held.
func (l *adaptiveLimit) now() (limit, active int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit, l.active
}

// addBytes counts bytes that moved on the same link, but not by bodies of this limit.
func (l *adaptiveLimit) addBytes(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.controller != nil {
		l.controller.addBytes(n)
	}
}

// Overloaded halves the limit: a server refused a request or broke a connection, as servers do that have too
// many. A fixed limit stays.
func (l *adaptiveLimit) Overloaded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.controller != nil {
		l.controller.overloaded(time.Now())
		l.admit()
	}
}

// OnRecall sets f to be called, once at most, when too many bodies turn out to move. f ends the body
// without waiting for it. A nil f changes nothing.
func (s *Slot) OnRecall(f func()) {
	l := s.owner
	if f == nil || l.controller == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.recall = f
	l.recallable = append(l.recallable, s)
}

// Asked notes that the body is asked for now, over a connection that it took so long to make, zero where that
// is not known. The time before it, as for a new connection, is not that of the answer.
func (s *Slot) Asked(dialed time.Duration) {
	if s == nil || s.owner.controller == nil {
		return
	}
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	s.since, s.dialed = time.Now(), dialed
}

// Release gives the slot back. Only the first call counts.
func (s *Slot) Release() {
	if s == nil {
		return
	}
	l := s.owner
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.released {
		return
	}
	s.released = true
	if s.total != nil {
		s.total.Release(1)
	}
	if i := slices.Index(l.recallable, s); i >= 0 {
		l.recallable = slices.Delete(l.recallable, i, i+1)
	}
	l.active--
	l.admit()
}

// Moved counts bytes of the body.
func (s *Slot) Moved(n int) {
	if s == nil || s.owner.controller == nil {
		return
	}
	l := s.owner
	if l.beside != nil {
		l.beside.addBytes(n)
	}
	for _, end := range l.moved(s, n) {
		end()
	}
}

// moved counts bytes of a body. It returns the functions that end the bodies that have turned out to be too
// many.
func (l *adaptiveLimit) moved(s *Slot, n int) []func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !s.flowing {
		s.flowing = true
		latency := now.Sub(s.since)
		l.controller.waits.near = l.controller.waits.near || Near(latency, s.dialed)
		l.controller.firstByte(latency, s.generation)
	}
	l.controller.moved(now, n, l.active)
	if l.controller.limit == l.limit {
		return nil
	}
	l.admit()
	return l.recalled()
}
