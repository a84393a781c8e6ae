package retry

import (
	"sync/atomic"
	"time"
)

// Budget bounds how long one blob may go without a new byte, whoever moves which part of it. Waiting for room
// is not counted, because it is not the blob's fault. Its methods are safe for concurrent use.
type Budget struct {
	timeout  time.Duration
	started  time.Time
	attempts atomic.Int64
	renewed  atomic.Int64 // when the budget was last full, in nanoseconds since started

	moving atomic.Int32 // attempts that have room
	idle   atomic.Int64 // when the last of them ended, in nanoseconds since started
}

// NewBudget returns a full budget of that much time.
func NewBudget(timeout time.Duration) *Budget {
	return &Budget{timeout: timeout, started: time.Now()}
}

// Attempt counts one attempt.
func (b *Budget) Attempt() { b.attempts.Add(1) }

// Attempts returns how many attempts were counted. A nil budget has none.
func (b *Budget) Attempts() int {
	if b == nil {
		return 0
	}
	return int(b.attempts.Load())
}

// Renew makes the budget full again: new bytes have come, or another call had the blob until now.
func (b *Budget) Renew() { b.renewed.Store(int64(b.now())) }

// Left returns how much of the budget is left. It is negative when more than all is spent.
func (b *Budget) Left() time.Duration {
	return b.timeout - (b.now() - time.Duration(b.renewed.Load()))
}

// Timeout returns the size of the full budget.
func (b *Budget) Timeout() time.Duration { return b.timeout }

// Room notes that an attempt has room from now on, for which it waited since then. The wait is not counted,
// except where another attempt at the same blob had room meanwhile. The caller calls Rest in the end.
func (b *Budget) Room(since time.Time) {
	now := b.now()
	if b.moving.Add(1) == 1 {
		b.extend(now - max(since.Sub(b.started), time.Duration(b.idle.Load())))
	}
}

// Waited notes that an attempt waited for room since then and got none.
func (b *Budget) Waited(since time.Time) {
	if b.moving.Load() == 0 {
		b.extend(b.now() - max(since.Sub(b.started), time.Duration(b.idle.Load())))
	}
}

// Rest notes that an attempt has no room any more.
func (b *Budget) Rest() {
	b.idle.Store(int64(b.now()))
	b.moving.Add(-1)
}

func (b *Budget) extend(by time.Duration) {
	b.renewed.Store(int64(min(b.now(), time.Duration(b.renewed.Load())+max(0, by))))
}

func (b *Budget) now() time.Duration { return time.Since(b.started) }
