package pull

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// maxMirrorFailures is how often a mirror may fail in a row before it is left alone for leaveAlone.
	maxMirrorFailures = 3
	leaveAlone        = 30 * time.Second

	// failureEvery is how often a failure counts, because one event breaks many connections. For as long, a
	// mirror that has failed is passed over.
	failureEvery = time.Second
)

// source is the registry or a mirror of it.
type source struct {
	*wire.Registry
	mirror bool
	ranges atomic.Bool // it has served a range, of whatever blob
	plain  atomic.Bool // it refuses ranges and serves whole blobs
	health health      // of a mirror

	first atomic.Pointer[Blob] // that it has served
	more  atomic.Bool          // it has served another one too
}

// serves notes that a blob is served.
func (s *source) serves(b *Blob) {
	if !s.first.CompareAndSwap(nil, b) && s.first.Load() != b {
		s.more.Store(true)
	}
}

// servesOthers tells whether any other blob was served.
func (s *source) servesOthers(b *Blob) bool {
	first := s.first.Load()
	return s.more.Load() || first != nil && first != b
}

// health is whether a mirror is worth asking, for all workers together. One that is in doubt, because it has
// brought nothing yet or has failed, is asked by one worker at a time. The zero value is in doubt.
type health struct {
	mu          sync.Mutex // guards the fields that follow
	good        bool       // it has answered, and not failed since
	failures    int        // in a row
	lastFailure time.Time
	askAt       time.Time     // it is passed over until then
	told        time.Time     // until when it was last told to be left alone
	asking      chan struct{} // closed when the one that asks knows more; nil while nobody does
}

// ask tells whether the caller may ask now. The caller tells what became of that with answered, failed or
// unknown. While the first of all requests is under way, ask waits for what comes of it, for so long at most.
func (h *health) ask(ctx context.Context, longest time.Duration) bool {
	var waited <-chan time.Time
	for {
		may, asking := h.mayAsk()
		if asking == nil {
			return may
		}
		if waited == nil {
			t := time.NewTimer(longest)
			defer t.Stop()
			waited = t.C
		}
		select {
		case <-asking:
		case <-waited:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// mayAsk tells whether the caller may ask now, or returns what to wait for before that is known.
func (h *health) mayAsk() (may bool, wait <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.good:
		return true, nil
	case time.Now().Before(h.askAt), h.asking != nil && h.failures > 0:
		return false, nil
	case h.asking != nil:
		return false, h.asking
	}
	h.asking = make(chan struct{})
	return true, nil
}

// answered notes that bytes have come, or that the mirror has told that it lacks a blob.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.good, h.failures, h.askAt = true, 0, time.Time{}
	h.known()
}

// failed notes a failure, and tells whether the mirror is left alone for that from now on.
func (h *health) failed() (alone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	defer h.known()
	if h.failures > 0 && now.Sub(h.lastFailure) < failureEvery {
		return false
	}
	h.good, h.lastFailure = false, now
	h.failures++
	if h.failures < maxMirrorFailures {
		h.askAt = now.Add(failureEvery)
		return false
	}
	h.askAt = now.Add(leaveAlone)
	return h.failures == maxMirrorFailures
}

// isAlone tells whether the mirror is left alone because it keeps failing.
func (h *health) isAlone() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures >= maxMirrorFailures && time.Now().Before(h.askAt)
}

// leftAlone returns until when the mirror is left alone, which has asked to be for so long. It tells whether
// that was not told yet. What follows any failure, which is short, is not told.
func (h *health) leftAlone(asked time.Duration) (until time.Time, news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.failures >= maxMirrorFailures {
		until = h.askAt
	}
	if asked > 0 && now.Add(asked).After(until) {
		until = now.Add(asked)
	}
	if !until.After(now) || now.Before(h.told) {
		return until, false
	}
	h.told = until
	return until, true
}

// unknown notes that a request has ended without telling anything of the mirror.
func (h *health) unknown() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known()
}

// known lets others ask. The caller holds mu.
func (h *health) known() {
	if h.asking != nil {
		close(h.asking)
		h.asking = nil
	}
}
