package pieces

import (
	"context"
	"sync"
	"time"
)

// Scheduler decides what workers fetch next of many blobs, which it knows by their index: a piece of a blob
// that was started, a blob to start, or part of what a slow worker has left. Small blobs are started first
// where enough pieces of large ones are under way: they move beside these now, while nothing else would fill
// the link at the end.
//
// It is safe for concurrent use.
type Scheduler struct {
	mu      sync.Mutex // guards the fields that follow
	changed sync.Cond  // something can be taken, or all is done
	plan    plan
}

// Ranges tells whether a registry serves ranges of a blob.
type Ranges int

const (
	RangesUnknown Ranges = iota // one worker has the blob to itself until it is known
	RangesServed
	RangesIgnored
)

// Job is what a worker does next. Without a piece, it starts the blob.
type Job struct {
	Blob  int
	Piece *Piece
}

// NewScheduler returns a scheduler of blobs with these sizes, largest first.
func NewScheduler(sizes []int64, c Config) *Scheduler {
	s := &Scheduler{plan: newPlan(sizes, c)}
	s.changed.L = &s.mu
	return s
}

// Next returns the next job. It waits while there is none but may still be, until the context ends, whose
// cause it returns; see [Scheduler.Wake]. ok is false when all blobs are finished or in the hands of other
// workers that need no help.
func (s *Scheduler) Next(ctx context.Context) (job Job, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return Job{}, false, context.Cause(ctx)
		}
		job, ok := s.plan.next()
		if ok || s.plan.finished() {
			return job, ok, nil
		}
		s.changed.Wait()
	}
}

// Start says what is missing of a blob that was started, and returns the first piece of that, nil where
// nothing is. What is deferred is not taken yet: it is fetched when it is given to Again or Continue, or when
// a registry that does not serve ranges sends it anyway.
func (s *Scheduler) Start(i int, missing []Range, deferred ...Range) *Piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.plan.blobs[i]
	size := int64(0)
	if b.size > s.plan.WholeSize {
		size = s.plan.PieceSize
	}
	b.queue = newQueue(missing, size)
	b.queue.Defer(deferred)
	if size > 0 || len(missing) > 1 {
		s.plan.offer(i)
	}
	return s.plan.piece(i)
}

// RangesServed says that ranges of a blob are served, so that several workers may fetch it. Where they are
// known to be ignored, that changes nothing. Where the server is near, pieces of any blob that nobody has
// taken yet have the size for that.
func (s *Scheduler) RangesServed(i int, near bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.near = s.plan.near || near
	if b := &s.plan.blobs[i]; b.ranges == RangesUnknown {
		b.ranges = RangesServed
		s.changed.Broadcast()
	}
}

// RangesIgnored says that ranges of a blob are not served, so that one worker alone must fetch it.
func (s *Scheduler) RangesIgnored(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.blobs[i].ranges = RangesIgnored
}

// Ranges tells whether ranges of a blob are served.
func (s *Scheduler) Ranges(i int) Ranges {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.blobs[i].ranges
}

// TakeWhole says that the whole blob came for a piece, so that one worker alone must fetch it. It tells
// whether that is this one: it is unless others have pieces of the blob. The piece then gets what follows it
// directly and nobody has taken, because the body brings that too.
func (s *Scheduler) TakeWhole(j Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.plan.blobs[j.Blob]
	b.ranges = RangesIgnored
	if b.queue.Active() > 1 {
		return false
	}
	b.queue.Extend(j.Piece)
	return true
}

// Follow moves a piece that has come to its end on to the next range that nobody has taken, because its body
// brings that too. It returns how many bytes lie between, and false where there is no such range.
func (s *Scheduler) Follow(j Job) (gap int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.blobs[j.Blob].queue.Follow(j.Piece)
}

// Complete tells one worker, and no other, that a blob has all its pieces. That one finishes it. What a
// worker has left of its piece is for the next that asks.
func (s *Scheduler) Complete(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
	b := &s.plan.blobs[i]
	if b.finishing {
		return false
	}
	b.finishing = b.queue.Done()
	if !b.finishing {
		s.plan.offer(i)
	}
	return b.finishing
}

// Again puts ranges of a complete blob back, to be fetched again.
func (s *Scheduler) Again(i int, missing []Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.again(i, missing)
	s.changed.Broadcast()
}

// Continue does what Again does, and defers other ranges than before. The blob is not complete until Finish
// of the piece that it returns is called, which has no bytes.
func (s *Scheduler) Continue(i int, missing, deferred []Range) *Piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.plan.blobs[i].queue
	q.Defer(deferred)
	s.plan.again(i, missing)
	s.changed.Broadcast()
	return q.Pin(s.plan.now())
}

// Finish takes a blob off the list of those that are fetched.
func (s *Scheduler) Finish(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.finish(i)
	s.changed.Broadcast()
}

// Wake wakes all who wait in Next, as is needed when the context ends.
func (s *Scheduler) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// Now returns the time by which pieces are judged.
func (s *Scheduler) Now() time.Duration { return s.plan.now() }

// WakeOne wakes one who waits in Next, to look whether a piece has become slow.
func (s *Scheduler) WakeOne() { s.changed.Signal() }

// Jobs returns how many jobs there may be at once, at most a limit.
func (s *Scheduler) Jobs(limit int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.jobs(limit)
}
