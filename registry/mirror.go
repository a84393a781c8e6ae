package registry

import (
	"sync"
	"time"
)

// How long a mirror that has failed is passed over: for longer after maxMirrorFailures in a row.
const (
	passOver          = time.Second
	maxMirrorFailures = 3
	leaveAlone        = 30 * time.Second
)

// health is whether a mirror is worth asking, for all calls of a repository together.
type health struct {
	mu       sync.Mutex // guards the fields that follow
	failures int        // in a row
	askAt    time.Time  // it is passed over until then
}

// worthAsking tells whether the mirror may be asked now.
func (h *health) worthAsking() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !time.Now().Before(h.askAt)
}

// answered notes that the mirror is there.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.askAt = 0, time.Time{}
}

// failed notes a failure, and tells whether it is the first in a row. Those of calls at the same time are
// one.
func (h *health) failed() (first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, wait := time.Now(), passOver
	if now.Before(h.askAt) {
		return false
	}
	if h.failures++; h.failures >= maxMirrorFailures {
		wait = leaveAlone
	}
	h.askAt = now.Add(wait)
	return h.failures == 1
}
