package events

import (
	"sync"
	"sync/atomic"
)

// Guard calls functions of the caller's until the call ends or one of them panics.
type Guard struct {
	Stop func() // is called when one panics

	broken   atomic.Bool
	first    sync.Once
	panicked any // what the first panicked with

	running sync.WaitGroup
	mu      sync.Mutex
	ended   bool // guarded by mu; no function begins to run any more
}

// Call calls f, unless the call has ended or a function has panicked.
func (g *Guard) Call(f func()) {
	if !g.enter() {
		return
	}
	defer g.running.Done()
	returned := false
	defer func() {
		if !returned {
			g.fail(recover())
		}
	}()
	f()
	returned = true
}

// enter tells whether a function may be called. The caller calls running.Done in the end.
func (g *Guard) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || g.broken.Load() {
		return false
	}
	g.running.Add(1)
	return true
}

func (g *Guard) fail(p any) {
	g.broken.Store(true)
	g.first.Do(func() { g.panicked = p })
	g.Stop()
}

// Broken tells whether a function has panicked.
func (g *Guard) Broken() bool { return g.broken.Load() }

// End returns when no function runs any more, with what the first that panicked has panicked with. None is
// called after it.
func (g *Guard) End() (panicked any) {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.running.Wait()
	return g.panicked
}
