package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/pace"
)

const (
	defaultStallTimeout = 10 * time.Second

	// digestRate is the speed, in bytes per second, at which a registry is trusted to
	// hash or copy a body before it answers. Object stores copy at some 100 MB/s.
	digestRate = 16 << 20 // 16 MiB/s

	// A connection is slow when it moves less than a tenth of the median of its peers
	// for slowAfter, and replaced slowTries times at most.
	slowAfter = 5 * time.Second
	slowShare = 0.1
	slowTries = 3

	// lookEvery is how often the watchdog looks at most.
	lookEvery = 200 * time.Millisecond

	// minSample is the least that says something of a connection's speed.
	minSample = 64 << 10 // 64 KiB

	// speedSamples is how many recent speeds the median is taken of.
	speedSamples = 64
)

// errSlow ends an attempt that is far slower than its peers.
var errSlow = errors.New("connection far slower than its peers")

// progressTracker adds up what all workers move and tells the callback, from one
// goroutine of its own, so that a slow callback delays nothing but itself.
type progressTracker struct {
	total     int64
	callback  func(completed, total int64)
	completed atomic.Int64

	wake     chan struct{} // has room for one: there is something to tell
	done     chan struct{} // closed when the goroutine has ended
	started  bool
	panicked any // set before done is closed
}

func newProgressTracker(total int64, callback func(completed, total int64)) *progressTracker {
	return &progressTracker{total: total, callback: callback, wake: make(chan struct{}, 1), done: make(chan struct{})}
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

// start begins to call the callback, first with what is there already. Should it
// panic, stop is called.
func (p *progressTracker) start(stop func()) {
	if p.callback != nil {
		p.started = true
		told := p.completed.Load()
		go func() {
			defer close(p.done)
			p.report(told, stop)
		}()
	}
}

func (p *progressTracker) report(told int64, stop func()) {
	returned := false
	defer func() {
		if !returned {
			p.panicked = recover()
			stop()
		}
	}()
	p.callback(told, p.total)
	for open := true; open; {
		_, open = <-p.wake
		if now := p.completed.Load(); now != told {
			told = now
			p.callback(told, p.total)
		}
	}
	returned = true
}

// finish returns after the last call of the callback, with what it panicked with.
// Nothing may be added any more.
func (p *progressTracker) finish() (panicked any) {
	if !p.started {
		return nil
	}
	close(p.wake)
	<-p.done
	return p.panicked
}

// speedTracker knows the median of recent speeds, in bytes per second.
type speedTracker struct {
	mu     sync.Mutex // guards the fields that follow
	recent [speedSamples]float64
	count  int
}

func (s *speedTracker) record(speed float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent[s.count%speedSamples] = speed
	s.count++
}

// median is 0 as long as nothing was recorded.
func (s *speedTracker) median() float64 {
	s.mu.Lock()
	sorted := slices.Clone(s.recent[:min(s.count, speedSamples)])
	s.mu.Unlock()
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// watchdog looks over all attempts of a call, and ends those that stall or crawl.
type watchdog struct {
	stallTimeout time.Duration
	pace         *pace.Limiter
	speeds       speedTracker
	clock        func() time.Duration
	onLook       atomic.Pointer[func()]

	mu       sync.Mutex // guards the fields that follow
	attempts map[*attempt]struct{}
}

// attempt is one request, from before it is sent to the last byte of its body.
type attempt struct {
	ctx    context.Context // what the request must be made with
	cancel context.CancelCauseFunc
	dog    *watchdog
	bytes  atomic.Int64  // moved so far
	held   atomic.Int32  // above 0: it waits for us, not for the network
	extra  atomic.Int64  // nanoseconds it may stand still beyond StallTimeout
	crawl  bool          // it may be slow
	begun  time.Duration // when it last had room for its body
	slot   *pace.Slot    // room for its body, which end gives back; nil when it has none

	patience *patience // that it tries; nil before it has room for its body

	// The fields that follow belong to the watchdog.
	seen      int64         // bytes when it last looked
	lastMoved time.Duration // when it last saw bytes move
	mark      int64         // bytes at markTime, for the speed
	markTime  time.Duration
}

// attemptKey is the key under which the context of an attempt has the attempt.
type attemptKey struct{}

// hold keeps the watchdog from the attempt whose context it is, until release is called.
func hold(ctx context.Context) (release func()) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return func() {}
	}
	a.held.Add(1)
	return func() { a.held.Add(-1) }
}

// watch begins an attempt; crawl says that it may be slow.
func (w *watchdog) watch(ctx context.Context, crawl bool) *attempt {
	now := w.clock()
	a := &attempt{dog: w, crawl: crawl, begun: now, lastMoved: now, markTime: now}
	a.ctx, a.cancel = context.WithCancelCause(context.WithValue(ctx, attemptKey{}, a))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts[a] = struct{}{}
	return a
}

// moved counts bytes of the attempt's body.
func (a *attempt) moved(n int) {
	a.bytes.Add(int64(n))
	a.slot.Moved(n)
}

// sent says that the whole body was sent, and that the answer may take so much longer.
func (a *attempt) sent(longer time.Duration) { a.extra.Store(int64(longer)) }

// digestTime is how long a registry may take to hash or copy a blob.
func digestTime(size int64) time.Duration { return time.Duration(size/digestRate) * time.Second }

// end ends the attempt. It returns err or, where that came from the watchdog, its reason.
func (a *attempt) end(err error) error {
	a.dog.mu.Lock()
	delete(a.dog.attempts, a)
	a.dog.mu.Unlock()
	cause := context.Cause(a.ctx)
	a.cancel(nil)
	a.slot.Release()
	a.rest()
	if n, elapsed := a.bytes.Load(), a.dog.clock()-a.begun; err == nil && n >= minSample && elapsed > 0 {
		a.dog.speeds.record(float64(n) / elapsed.Seconds())
	}
	var status *StatusError // it came in time, though the rest of its body did not
	if err != nil && !errors.As(err, &status) && (errors.Is(cause, ErrStalled) || errors.Is(cause, errSlow)) {
		return cause
	}
	return err
}

// rest notes that the attempt does not try its blob, for now or any more.
func (a *attempt) rest() {
	if a.patience == nil {
		return
	}
	a.patience.tried.Store(int64(a.dog.clock()))
	a.patience.trying.Add(-1)
	a.patience = nil
}

// run looks after the attempts until the context ends.
func (w *watchdog) run(ctx context.Context) {
	t := time.NewTicker(min(max(w.stallTimeout/10, time.Millisecond), lookEvery))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.look(w.clock())
			if f := w.onLook.Load(); f != nil {
				(*f)()
			}
		}
	}
}

// look ends the attempts that have stalled and those that crawl while others flow.
func (w *watchdog) look(now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var slow []*attempt
	flowing := 0
	for a := range w.attempts {
		if w.stalled(a, now) {
			a.cancel(fmt.Errorf("%w: nothing moved for %v", ErrStalled, (now - a.lastMoved).Truncate(time.Millisecond)))
			continue
		}
		if w.slow(a, now) {
			slow = append(slow, a)
		} else if a.seen > 0 {
			flowing++
		}
	}
	if flowing == 0 || w.pace.Full() { // it is the link or the cap, and a new connection would not help
		return
	}
	for _, a := range slow {
		a.cancel(errSlow)
	}
}

func (w *watchdog) stalled(a *attempt, now time.Duration) bool {
	if moved := a.bytes.Load(); moved != a.seen || a.held.Load() > 0 {
		a.seen, a.lastMoved = moved, now
	}
	return now-a.lastMoved >= w.stallTimeout+time.Duration(a.extra.Load())
}

// slow measures an attempt against the median of its peers, from when it last waited for us.
func (w *watchdog) slow(a *attempt, now time.Duration) bool {
	if a.held.Load() > 0 {
		a.mark, a.markTime = a.seen, now
	}
	elapsed := now - a.markTime
	if a.seen == 0 || elapsed < slowAfter {
		return false
	}
	speed := float64(a.seen-a.mark) / elapsed.Seconds()
	a.mark, a.markTime = a.seen, now
	if speed < slowShare*w.speeds.median() && !a.crawl {
		return true
	}
	w.speeds.record(speed)
	return false
}

// throttle waits until n bytes are within MaxBytesPerSecond; that is no stall.
func (s *session) throttle(a *attempt, n int) error {
	if s.pace == nil {
		return nil
	}
	a.held.Add(1)
	defer a.held.Add(-1)
	return s.pace.Pay(a.ctx, n)
}

// acquireBody waits for room for one more body of that size, and until the host may be asked again where it
// wanted to be left alone meanwhile. That is no stall, and does not try the patience with the blob.
func (s *session) acquireBody(a *attempt, p *patience, size int64, host string) error {
	a.held.Add(1)
	defer a.held.Add(-1)
	a.rest()
	began := s.clock()
	slot, err := s.bodies.Acquire(a.ctx, size)
	if err == nil {
		a.slot = slot
		err = s.pauses.wait(a.ctx, host)
	}
	now := s.clock()
	a.begun = now
	p.excuse(began, now)
	if err == nil {
		a.patience = p
		p.trying.Add(1)
	}
	return err
}
