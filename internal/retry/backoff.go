// Package retry says which failures are worth another attempt, how long to wait before it, and when to give
// up.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// firstDelay is the longest wait before the second attempt. Each wait that follows may be twice as long.
	firstDelay = 200 * time.Millisecond

	// MaxDelay is the longest wait between two attempts.
	MaxDelay = 30 * time.Second
)

// Delay returns the wait after attempt number attempt, counted from 0: exponential, at most longest, and with
// jitter that takes away up to half of it, so that clients that failed together do not come back together.
func Delay(attempt int, longest time.Duration) time.Duration {
	d := longest
	if attempt = min(attempt, 20); attempt >= 0 {
		d = min(longest, firstDelay<<attempt)
	}
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// Sleep waits for d. It returns the cause of the context when that ends first or has ended before.
func Sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
