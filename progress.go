package transfer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/watchdog"
)

// speedTracker knows the median of recent speeds, in bytes per second.
type speedTracker = watchdog.Speeds

// progressGrace is how long the end of a call waits for a callback after the context has ended.
const progressGrace = time.Second

// progressTracker adds up what all workers move and tells the callback, from one
// goroutine of its own, so that a slow callback delays nothing but itself.
type progressTracker struct {
	total     int64
	callback  func(completed, total int64)
	completed atomic.Int64

	stop     func()        // called when the callback panics
	wake     chan struct{} // has room for one: there is something to tell
	done     chan struct{} // closed when the goroutine has ended
	started  bool
	panicked any // set before done is closed

	abandoned atomic.Bool // the call has returned, and the callback is not called again
}

func newProgressTracker(total int64, callback func(completed, total int64), stop func()) *progressTracker {
	return &progressTracker{
		total: total, callback: callback, stop: stop, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// add counts n more bytes; n is negative for bytes that were thrown away.
func (p *progressTracker) add(n int64) {
	if p == nil || n == 0 {
		return
	}
	p.completed.Add(n)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// start begins to call the callback, first with what is there already.
func (p *progressTracker) start(completed int64) {
	p.add(completed)
	if p.callback != nil {
		p.started = true
		told := p.completed.Load()
		go func() {
			defer close(p.done)
			p.report(told)
		}()
	}
}

func (p *progressTracker) report(told int64) {
	returned := false
	defer func() {
		if !returned {
			p.panicked = recover()
			p.stop()
		}
	}()
	p.callback(told, p.total)
	for open := true; open; {
		_, open = <-p.wake
		if now := p.completed.Load(); now != told && !p.abandoned.Load() {
			told = now
			p.callback(told, p.total)
		}
	}
	returned = true
}

// finish returns after the last call of the callback, with what it panicked with. Nothing may be added any
// more. Where the context has ended and the callback does not return, as one does not that sends to a channel
// which nobody reads any more, it is left to itself.
func (p *progressTracker) finish(ctx context.Context) (panicked any) {
	if !p.started {
		return nil
	}
	close(p.wake)
	select {
	case <-p.done:
		return p.panicked
	case <-ctx.Done():
	}
	grace := time.NewTimer(progressGrace)
	defer grace.Stop()
	select {
	case <-p.done:
		return p.panicked
	case <-grace.C:
		p.abandoned.Store(true)
		return nil
	}
}
