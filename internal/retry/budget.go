package retry

import (
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds how long one blob may go without a new byte while somebody tries. It runs while at least one
// worker tries, and stands still at all other times: while every piece of the blob waits for its turn, and
// while all who hold a piece wait for a slot. Its methods are safe for concurrent use.
type Budget struct {
	timeout  time.Duration
	attempts atomic.Int64

	mu     sync.Mutex // guards the fields that follow
	unused bool       // nobody has begun yet
	trying int        // how many try
	since  time.Time  // when it began to run, while it does
	spent  time.Duration

	forgiven int // calls of Forgive since Renew
}

// maxForgiven is how often in a row Forgive does something. Who sends all of a large blob again, each time in
// vain, must come to an end.
const maxForgiven = 3

// NewBudget returns a full budget of that much time. It runs from now on for the first who calls Begin.
func NewBudget(timeout time.Duration) *Budget {
	return &Budget{timeout: timeout, unused: true, trying: 1, since: time.Now()}
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

// Begin notes that the caller tries from now on. The caller calls End in the end.
func (b *Budget) Begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unused {
		b.unused = false
		return
	}
	if b.trying++; b.trying == 1 {
		b.since = time.Now()
	}
}

// End notes that the caller does not try any more, or waits for its turn.
func (b *Budget) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unused = false
	if b.trying--; b.trying == 0 {
		b.spent += time.Since(b.since)
	}
}

// Renew makes the budget full again: new bytes have come, or another call had the blob until now.
func (b *Budget) Renew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since, b.spent, b.forgiven = time.Now(), 0, 0
}

// Forgive does not count so much of the time that was spent: bytes were on their way, though not new ones, or
// somebody has logged in. After maxForgiven in a row it does.
func (b *Budget) Forgive(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d > 0 {
		b.forgiven++
	}
	if b.forgiven > maxForgiven {
		return
	}
	running := time.Duration(0)
	if b.trying > 0 {
		running = time.Since(b.since)
	}
	b.spent = max(b.spent-d, -running)
}

// Left returns how much of the budget is left. It is negative when more than all is spent.
func (b *Budget) Left() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.timeout - b.spent
	if b.trying > 0 {
		left -= time.Since(b.since)
	}
	return left
}

// Longer returns how much longer than a first one an answer is waited for after so many that did not come:
// each wait is twice as long as the one before, as far as the budget lets it.
func (b *Budget) Longer(first time.Duration, missed int) time.Duration {
	wait, left := first, b.Left()
	for ; missed > 0 && wait < left; missed-- {
		if wait > left/2 {
			return left - first
		}
		wait *= 2
	}
	return wait - first
}

// Timeout returns the size of the full budget.
func (b *Budget) Timeout() time.Duration { return b.timeout }
