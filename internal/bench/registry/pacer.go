package registry

import (
	"sync"
	"time"
)

// pacer spaces bytes so that no more than a rate pass.
type pacer struct {
	mu   sync.Mutex // guards the field that follows
	next time.Time  // when the next byte may pass
}

// pay waits until n bytes may pass. A rate of 0 is no limit.
func (p *pacer) pay(n int, rate int64) {
	if rate > 0 {
		time.Sleep(p.book(time.Now(), n, rate))
	}
}

// book takes the place of n bytes in the line, and returns how long that is away.
func (p *pacer) book(now time.Time, n int, rate int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return wait
}

// chunk is how many bytes to move at once at a rate, so that they flow instead of coming in
// bursts.
func chunk(rate int64) int {
	if rate == 0 {
		return bufferSize
	}
	return int(min(max(rate/50, 1<<10), bufferSize))
}
