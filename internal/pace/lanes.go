package pace

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Small is the size of bodies, in bytes, up to which the wait for the first byte counts for more than the speed.
const Small = 1 << 20 // 1 MiB

// Lanes lets a number of bodies move at once. Small ones have slots of their own, because few large ones fill a link on
// which many small ones must wait for their answers at the same time: neither number is any use for the others.
type Lanes struct {
	large, small *Slots
	all          *semaphore.Weighted // of both together; nil where the number is fixed, and small is large
}

// NewLanes returns lanes for at most that many bodies, or always that many where the number is fixed.
func NewLanes(most int, fixed bool) *Lanes {
	l := &Lanes{large: NewSlots(most, fixed)}
	if fixed {
		l.small = l.large
		return l
	}
	l.small, l.all = NewSlots(most, false), semaphore.NewWeighted(int64(most))
	l.small.beside = l.large
	return l
}

// Acquire takes a slot for a body of that size, which must be released. It returns the cause of the context when
// that ends first.
func (l *Lanes) Acquire(ctx context.Context, size int64) (*Slot, error) {
	lane := l.large
	if size <= Small {
		lane = l.small
	}
	slot, err := lane.Acquire(ctx, size)
	if err != nil || l.all == nil {
		return slot, err
	}
	if l.all.Acquire(ctx, 1) != nil {
		slot.Release()
		return nil, context.Cause(ctx)
	}
	slot.all = l.all
	return slot, nil
}

// Large is how many large bodies may move at once now; 0 before the first.
func (l *Lanes) Large() int {
	l.large.mu.Lock()
	defer l.large.mu.Unlock()
	return l.large.limit
}

// Room tells whether one more large body might move now.
func (l *Lanes) Room() bool {
	l.large.mu.Lock()
	defer l.large.mu.Unlock()
	return l.large.busy < l.large.limit
}

// Trouble says that a server has refused a request or broken a connection, as one does that
// has too many: half as many may try again.
func (l *Lanes) Trouble() {
	l.large.Trouble()
	if l.small != l.large {
		l.small.Trouble()
	}
}
