package registry

import (
	"sync"
	"sync/atomic"
)

// Counts is what was asked of the registry since the last reset.
type Counts struct {
	Requests    int64 // all of them, also of the CDN
	Connections int64 // accepted
	Body        int64 // bytes of blobs, both ways
	Duplicates  int64 // bytes of blobs that were sent more than once
	Uploaded    int64 // distinct blobs that were taken
}

// tally counts.
type tally struct {
	requests, connections, body atomic.Int64

	mu     sync.Mutex       // guards the fields that follow
	served map[string]int64 // bytes of each blob that were sent
	sizes  map[string]int64
}

func newTally() *tally {
	return &tally{served: make(map[string]int64), sizes: make(map[string]int64)}
}

// sent counts bytes of a blob that went out.
func (t *tally) sent(dg string, size, n int64) {
	t.body.Add(n)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.served[dg] += n
	t.sizes[dg] = size
}

func (t *tally) counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := Counts{Requests: t.requests.Load(), Connections: t.connections.Load(), Body: t.body.Load()}
	for dg, n := range t.served {
		c.Duplicates += max(0, n-t.sizes[dg])
	}
	return c
}
