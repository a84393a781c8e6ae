package blobstore

import (
	"context"
	"sync"
)

// background runs a function in at most one goroutine, which ends by itself.
type background struct {
	// mu guards the fields that follow. It is not held while the function runs.
	mu        sync.Mutex
	run       func(context.Context) error
	ctx       context.Context // of the goroutine; nil when there must be none
	cancel    context.CancelFunc
	running   bool
	again     bool // woken while running
	goroutine sync.WaitGroup
}

// allow lets wake run the function, until stop is called.
func (b *background) allow(run func(context.Context) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run = run
	b.ctx, b.cancel = context.WithCancel(context.Background())
}

// allowed returns the context of the function, or nil when it must not run.
func (b *background) allowed() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ctx
}

// stop ends the function by its context, and returns when it does not run any more.
func (b *background) stop() {
	b.mu.Lock()
	if b.ctx != nil {
		b.cancel()
		b.ctx = nil
	}
	b.mu.Unlock()
	b.goroutine.Wait()
}

// wake runs the function once more from its beginning, where that is allowed.
func (b *background) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ctx == nil:
	case b.running:
		b.again = true
	default:
		b.running = true
		ctx := b.ctx
		b.goroutine.Go(func() { b.loop(ctx) })
	}
}

// loop runs the function until nobody has woken it meanwhile, or it fails.
func (b *background) loop(ctx context.Context) {
	for {
		err := b.run(ctx)
		b.mu.Lock()
		more := err == nil && b.again
		b.running, b.again = more, false
		b.mu.Unlock()
		if !more {
			return
		}
	}
}
