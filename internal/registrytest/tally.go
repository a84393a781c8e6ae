package registrytest

import "sync"

// tally counts what is going on and remembers its peak. It is a wait group that
// may be waited for while it grows from zero.
type tally struct {
	mu   sync.Mutex // guards the fields that follow
	zero *sync.Cond
	n    int
	peak int
}

func newTally() *tally {
	t := &tally{}
	t.zero = sync.NewCond(&t.mu)
	return t
}

func (t *tally) add(delta int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += delta
	t.peak = max(t.peak, t.n)
	if t.n == 0 {
		t.zero.Broadcast()
	}
}

func (t *tally) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.n > 0 {
		t.zero.Wait()
	}
}

func (t *tally) now() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

func (t *tally) most() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peak
}
