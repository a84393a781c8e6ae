// Package pace holds the bytes of many bodies to one speed.
package pace

import (
	"context"
	"sync"
	"time"
)

const (
	// turns is how many turns a second there are: a turn's bytes are read at
	// once, so more of them make a smoother flow and fairer shares.
	turns    = 50
	minChunk = 512 // bytes

	// credit is how much idle time is made up for.
	credit = 100 * time.Millisecond
)

// Limiter caps the sum of the speeds of all who use it. A nil Limiter caps nothing.
type Limiter struct {
	rate float64 // bytes per second

	mu   sync.Mutex
	next time.Time // when all that was taken so far is paid for; guarded by mu
}

// New returns a limiter, nil when bytesPerSecond is 0.
func New(bytesPerSecond int64) *Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &Limiter{rate: float64(bytesPerSecond)}
}

// Chunk returns how much to move at once, at most n.
func (l *Limiter) Chunk(n int64) int64 {
	if l == nil {
		return n
	}
	return min(n, max(minChunk, int64(l.rate/turns)))
}

// Pay waits until n bytes that were moved are paid for, in the order of the calls.
// It returns the cause of the context when that ends first.
func (l *Limiter) Pay(ctx context.Context, n int) error {
	if l == nil || n == 0 {
		return nil
	}
	t := time.NewTimer(l.take(n))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Full tells whether somebody waits for what was moved to be paid for: the cap, and nothing else, holds up all.
func (l *Limiter) Full() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.next)
}

func (l *Limiter) take(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-credit); l.next.Before(earliest) {
		l.next = earliest
	}
	l.next = l.next.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return l.next.Sub(now)
}
