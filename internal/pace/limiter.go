package pace

import (
	"context"
	"io"
	"sync"
	"time"
)

const (
	// chunksPerSecond is how many chunks a second all users of a limiter read. More and smaller chunks make a
	// smoother flow and fairer shares.
	chunksPerSecond = 50
	minChunk        = 512 // bytes; smaller reads cost more than they smooth

	// credit is how much idle time may be made up for by moving faster than the cap.
	credit = 100 * time.Millisecond
)

// Limiter caps the sum of the speeds of all who use it: each reads Chunk bytes, then waits in Pay until the
// bytes of everybody so far fit the cap. A nil Limiter caps nothing.
type Limiter struct {
	rate   float64  // bytes per second
	shared *Limiter // with others; may be nil

	mu   sync.Mutex
	paid time.Time // when the cap allows what was moved so far; guarded by mu
}

// New returns a limiter, nil when bytesPerSecond is 0.
func New(bytesPerSecond int64) *Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &Limiter{rate: float64(bytesPerSecond)}
}

// Within returns a limiter that also keeps to one that is shared with others. Either may be nil.
func (l *Limiter) Within(shared *Limiter) *Limiter {
	if l == nil {
		return shared
	}
	return &Limiter{rate: l.rate, shared: shared}
}

// Chunk returns how many bytes to move before the next call of Pay, at most n.
func (l *Limiter) Chunk(n int64) int64 {
	if l == nil {
		return n
	}
	return l.shared.Chunk(min(n, max(minChunk, int64(l.rate/chunksPerSecond))))
}

// Pay waits until the cap allows n bytes that were just moved, after those of all earlier calls. It returns
// the cause of ctx when that ends first; the bytes count all the same.
func (l *Limiter) Pay(ctx context.Context, n int) error {
	if l == nil || n == 0 {
		return nil
	}
	t := time.NewTimer(max(l.take(n), l.shared.take(n)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Reader returns a reader of r that keeps to the cap. A wait ends with ctx.
func (l *Limiter) Reader(ctx context.Context, r io.Reader) io.Reader {
	if l == nil {
		return r
	}
	return &limitedReader{ctx, r, l}
}

type limitedReader struct {
	ctx     context.Context
	from    io.Reader
	limiter *Limiter
}

func (r *limitedReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p[:r.limiter.Chunk(int64(len(p)))])
	if ended := r.limiter.Pay(r.ctx, n); ended != nil {
		return 0, ended
	}
	return n, err
}

// Full reports whether somebody waits in Pay. Then it is the cap, not the link, that holds everybody up.
func (l *Limiter) Full() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	full := time.Now().Before(l.paid)
	l.mu.Unlock()
	return full || l.shared.Full()
}

// take counts n bytes, and returns how long to wait for the cap to allow them.
func (l *Limiter) take(n int) time.Duration {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-credit); l.paid.Before(earliest) {
		l.paid = earliest
	}
	l.paid = l.paid.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return l.paid.Sub(now)
}
