// Package watchdog ends requests that stall, and those that are far slower than their peers.
package watchdog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/pace"
)

var (
	// ErrStalled ends a request that made no progress for the stall timeout.
	ErrStalled = errors.New("stalled")

	// errSlow ends a request that is far slower than its peers.
	errSlow = errors.New("connection far slower than its peers")
)

// IsSlow tells whether an error is that of a request that was ended because its peers are far faster.
func IsSlow(err error) bool { return errors.Is(err, errSlow) }

// scanEvery is the longest time between two scans.
const scanEvery = 200 * time.Millisecond

// MaxHidden is how many bytes of a body buffers on the way hold at most, of the kernels on both sides and of
// what is between: an HTTP/2 server takes 1 MiB before anybody reads it.
const MaxHidden = 1 << 20 // 1 MiB

// Watchdog scans all requests of a call.
type Watchdog struct {
	// Speeds are those of the connections that it has seen.
	Speeds Speeds

	stallTimeout time.Duration
	rate         *pace.Limiter
	start        time.Time
	onScan       atomic.Pointer[func()]

	mu      sync.Mutex // guards the fields that follow, and of each watch those that say so
	watches map[*Watch]struct{}
	moved   int64 // bytes of all, as of the last scan

	movedAt time.Duration // the last scan that saw bytes move
	fullAt  time.Duration // the last scan that saw more moved, since the one before it, than buffers may hold
	filled  int64         // moved, as of fullAt
}

// New returns a watchdog for requests that may stand still for stallTimeout. While the rate is what holds
// everything up, no request is slow.
func New(stallTimeout time.Duration, rate *pace.Limiter) *Watchdog {
	return &Watchdog{
		stallTimeout: stallTimeout, rate: rate, start: time.Now(), watches: make(map[*Watch]struct{}),
	}
}

// StallTimeout returns how long a request may stand still.
func (w *Watchdog) StallTimeout() time.Duration { return w.stallTimeout }

// OnScan sets what is called after each scan, and must not block.
func (w *Watchdog) OnScan(f func()) { w.onScan.Store(&f) }

// Run scans until the context ends.
func (w *Watchdog) Run(ctx context.Context) {
	t := time.NewTicker(min(max(w.stallTimeout/10, time.Millisecond), scanEvery))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.scan(w.now())
			if f := w.onScan.Load(); f != nil {
				(*f)()
			}
		}
	}
}

func (w *Watchdog) now() time.Duration { return time.Since(w.start) }

// scan ends the requests that have stalled, and those that are slow while others are not.
func (w *Watchdog) scan(now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var slow []*Watch
	flowing := 0
	w.look(now)
	for r := range w.watches {
		if r.stalled(now) {
			still := (now - r.seen.moved).Truncate(time.Millisecond)
			r.cancel(fmt.Errorf("%w: nothing moved for %v", ErrStalled, still))
			continue
		}
		if r.slow(now) {
			slow = append(slow, r)
		} else if r.seen.bytes > 0 {
			flowing++
		}
	}
	if flowing == 0 || w.rate.Full() { // it is the link or the cap, and a new connection would be no faster
		return
	}
	for _, r := range slow {
		r.cancel(errSlow)
	}
}

// look sees which requests have moved. One that has not waits for the link, and not for its peer, while the
// others move no more than buffers may hold of it and of them: all share the link, and none is seen to get
// its share. The caller holds mu.
func (w *Watchdog) look(now time.Duration) {
	before, hidden := w.moved, int64(MaxHidden)
	for r := range w.watches {
		w.moved += r.look(now)
		if r.seen.bytes > 0 {
			hidden += MaxHidden
		}
	}
	if w.moved == before {
		return
	}
	w.movedAt = now
	if w.moved-w.filled > hidden {
		w.filled, w.fullAt = w.moved, now
	}
	for r := range w.watches {
		if r.seen.moved == now {
			r.seen.others = w.moved
		} else if w.moved-r.seen.others <= hidden {
			r.seen.moved = now
		}
	}
}

// linkIsSlow tells whether bytes have moved during the last age, but no more than buffers may hold: a first
// byte may be late because it waits for the link.
func (w *Watchdog) linkIsSlow(age time.Duration) bool {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.movedAt > now-age && w.fullAt <= now-age
}

// Watch is one watched request, from before it is sent to the last byte of its body.
type Watch struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	watchdog *Watchdog
	maySlow  bool
	began    atomic.Int64 // when it last got a slot, in nanoseconds since the watchdog's start
	bytes    atomic.Int64 // moved so far
	paused   atomic.Int32 // above 0: it waits for us, not for the network
	extra    atomic.Int64 // nanoseconds that it may stand still beyond the stall timeout

	// Guarded by watchdog.mu.
	seen     sighting
	drain    drain
	measured mark // when its speed was measured last
}

// sighting is what scans have seen of a request.
type sighting struct {
	bytes  int64         // that had moved at the last scan
	moved  time.Duration // when one last saw bytes move
	others int64         // bytes of all requests when it last moved itself
}

// drain is how far what a kernel has taken of a body is on its way.
type drain struct {
	tell func() int64 // changes when the peer gets more of the body; may be nil
	told int64        // at the last scan
}

// mark is how many bytes had moved at a time.
type mark struct {
	bytes int64
	at    time.Duration
}

// Watch begins to watch a request. It must be made with the context of the watch, and End must be called. A
// request that may be slow is ended only when it stalls.
func (w *Watchdog) Watch(ctx context.Context, maySlow bool) *Watch {
	now := w.now()
	r := &Watch{watchdog: w, maySlow: maySlow, seen: sighting{moved: now}, measured: mark{at: now}}
	r.began.Store(int64(now))
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.seen.others = w.moved
	w.watches[r] = struct{}{}
	return r
}

// Context is what the request must be made with.
func (w *Watch) Context() context.Context { return w.ctx }

// Moved counts bytes of a body.
func (w *Watch) Moved(n int) { w.bytes.Add(int64(n)) }

// Pause keeps the watchdog from the request until Resume is called: it waits for us and not for the network.
func (w *Watch) Pause() { w.paused.Add(1) }

// Resume ends a Pause.
func (w *Watch) Resume() { w.paused.Add(-1) }

// Drains sets what changes whenever the peer gets more of what was sent. That is progress too: a kernel takes
// much of a body at once. A nil tell tells nothing.
func (w *Watch) Drains(tell func() int64) {
	w.watchdog.mu.Lock()
	defer w.watchdog.mu.Unlock()
	w.drain = drain{tell: tell}
}

// Restart judges the speed of the request from now on.
func (w *Watch) Restart() { w.began.Store(int64(w.watchdog.now())) }

// Allow lets the request stand still for so much longer than the stall timeout.
func (w *Watch) Allow(longer time.Duration) { w.extra.Store(int64(longer)) }

// Cancel ends the request.
func (w *Watch) Cancel() { w.cancel(nil) }

// Silent returns how long nothing has moved, as far as scans have seen.
func (w *Watch) Silent() time.Duration {
	w.watchdog.mu.Lock()
	defer w.watchdog.mu.Unlock()
	if w.bytes.Load() != w.seen.bytes {
		return 0
	}
	return w.watchdog.now() - w.seen.moved
}

// End ends the watch. It returns err or, where that came from the watchdog, its reason. Where err is nil, the
// speed of the request is recorded.
func (w *Watch) End(err error) error {
	w.watchdog.mu.Lock()
	delete(w.watchdog.watches, w)
	w.watchdog.mu.Unlock()
	cause := context.Cause(w.ctx)
	w.cancel(nil)
	elapsed := w.watchdog.now() - time.Duration(w.began.Load())
	if n := w.bytes.Load(); err == nil && n >= minSample && elapsed > 0 {
		w.watchdog.Speeds.Record(float64(n) / elapsed.Seconds())
	}
	return reason(cause, err)
}

// Reason returns err or, where that came from the watchdog, its reason.
func (w *Watch) Reason(err error) error { return reason(context.Cause(w.ctx), err) }

func reason(cause, err error) error {
	if err != nil && (errors.Is(cause, ErrStalled) || IsSlow(cause)) {
		return cause
	}
	return err
}

// look sees whether the request has moved, and how many bytes of it have. The caller holds watchdog.mu.
func (w *Watch) look(now time.Duration) (moved int64) {
	bytes := w.bytes.Load()
	moved = bytes - w.seen.bytes
	if drained := w.drain.more(); moved > 0 || drained || w.paused.Load() > 0 {
		w.seen.bytes, w.seen.moved = bytes, now
	}
	return moved
}

// more tells whether the peer has got more since the last call.
func (d *drain) more() bool {
	if d.tell == nil {
		return false
	}
	before := d.told
	d.told = d.tell()
	return d.told != before
}

// stalled tells whether the request has stood still for too long. The caller holds watchdog.mu.
func (w *Watch) stalled(now time.Duration) bool {
	still := now - w.seen.moved - time.Duration(w.extra.Load()) // added to the timeout, it may be too much
	return still >= w.watchdog.stallTimeout
}

// slow compares the request with its peers each replaceAfter, counted from when it last waited for us, or
// when it or these have moved enough for that. The caller holds watchdog.mu.
func (w *Watch) slow(now time.Duration) bool {
	if w.paused.Load() > 0 {
		w.measured = mark{w.seen.bytes, now}
	}
	elapsed, moved := now-w.measured.at, w.seen.bytes-w.measured.bytes
	if w.seen.bytes == 0 || elapsed < replaceAfter || moved < minSample && !w.watchdog.Speeds.tell(elapsed) {
		return false
	}
	speed := float64(moved) / elapsed.Seconds()
	w.measured = mark{w.seen.bytes, now}
	if !w.maySlow && w.watchdog.Speeds.slow(speed) {
		return true
	}
	w.watchdog.Speeds.Record(speed)
	return false
}
