package pace

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// Small is the size, in bytes, up to which a body's wait for its first byte costs more than its bytes.
const Small = 1 << 20 // 1 MiB

// BodyLimiter limits how many bodies move at once. Small bodies have a limit of their own: a few large
// bodies fill a link on which many small ones must wait for their answers at the same time, so no one limit
// suits both.
type BodyLimiter struct {
	large, small *adaptiveLimit      // one and the same where the limit is fixed
	total        *semaphore.Weighted // of large and small together; nil where the limit is fixed
}

// NewBodyLimiter returns a limiter that never lets more than most bodies move at once. Where fixed, that is
// the limit from the start; otherwise the limiter finds out what is fastest.
func NewBodyLimiter(most int, fixed bool) *BodyLimiter {
	b := &BodyLimiter{large: newAdaptiveLimit(most, fixed)}
	if fixed {
		b.small = b.large
		return b
	}
	b.small, b.total = newAdaptiveLimit(most, false), semaphore.NewWeighted(int64(most))
	b.small.beside = b.large
	return b
}

// Acquire waits for a slot for a body of that size. The caller must release the slot. On failure, Acquire
// returns the cause of ctx, and holds no slot.
func (b *BodyLimiter) Acquire(ctx context.Context, size int64) (*Slot, error) {
	of := b.large
	if size <= Small {
		of = b.small
	}
	slot, err := of.Acquire(ctx, size)
	if err != nil || b.total == nil {
		return slot, err
	}
	if b.total.Acquire(ctx, 1) != nil {
		slot.Release()
		return nil, context.Cause(ctx)
	}
	slot.total = b.total
	return slot, nil
}

// Fixed tells whether the limit is fixed. A nil limiter has none.
func (b *BodyLimiter) Fixed() bool { return b != nil && b.total == nil }

// Large returns how many large bodies may move at once now; 0 before the first.
func (b *BodyLimiter) Large() int {
	limit, _ := b.large.now()
	return limit
}

// SlotFree reports whether one more large body could move now.
func (b *BodyLimiter) SlotFree() bool {
	limit, active := b.large.now()
	return active < limit
}

// Overloaded halves the limits: a server refused a request or broke a connection, as servers do that have
// too many. Fixed limits stay.
func (b *BodyLimiter) Overloaded() {
	b.large.Overloaded()
	if b.small != b.large {
		b.small.Overloaded()
	}
}
