package registrytest

import "sync"

// tally counts what is going on and remembers its peak. It is a wait group that
// may be waited for while it grows from zero.
type tally struct {
	mu   sync.Mutex // guards the fields that follow
	zero *sync.Cond
	n    int
	peak int
	shut bool // nothing enters any more
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

// enter counts one more, and tells whether that may go on: not once the tally is closed.
func (t *tally) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return false
	}
	t.n++
	t.peak = max(t.peak, t.n)
	return true
}

// close lets nothing enter any more, and waits until nothing goes on.
func (t *tally) close() {
	t.mu.Lock()
	t.shut = true
	t.mu.Unlock()
	t.wait()
}

func (t *tally) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.n > 0 {
		t.zero.Wait()
	}
}

func (t *tally) counts() (now, most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n, t.peak
}
