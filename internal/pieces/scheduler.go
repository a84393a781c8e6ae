package pieces

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Config says how a scheduler decides. All functions must be safe for concurrent use and must not block.
type Config struct {
	// PieceSize is the size of the pieces of a blob that is larger than WholeSize. Others are one piece for each
	// range that is missing.
	PieceSize, WholeSize int64

	// MinSplit is the least half of a piece that is worth a request of its own, and SplitAfter how long the
	// whole must still take: what the server has sent already of that half is sent twice.
	MinSplit   int64
	SplitAfter time.Duration

	// MaxTakeOvers is how many pieces of one blob are taken over from slow connections.
	MaxTakeOvers int

	// Small is the size up to which a blob moves beside pieces of others, and Ahead how many pieces are taken
	// beyond those that may move at once, so that none has to be looked for when there is room.
	Small int64
	Ahead int

	// Now returns monotonic time, Large how many large bodies may move at once, Room whether one more may now,
	// and Capped whether the cap on the rate holds up all.
	Now    func() time.Duration
	Large  func() int
	Room   func() bool
	Capped func() bool

	// Slow tells whether the connection of a piece is so slow that a new one will be faster. The bytes have
	// flowed, or been waited for, for age; left of them are still to come.
	Slow func(flows bool, age time.Duration, speed float64, left int64) bool
}

// Scheduler decides what workers fetch next of many blobs, which it knows by their index: a piece of a blob
// that was started, a blob to start, or part of what a slow worker has left. Small blobs are started first
// where enough pieces of large ones are under way: they move beside these now, while nothing else would fill
// the link at the end.
//
// It is safe for concurrent use.
type Scheduler struct {
	Config

	mu         sync.Mutex // guards the fields that follow
	changed    sync.Cond  // something can be taken, or all is done
	queued     []int      // blobs that were not started, largest first
	blobs      []blob     // of all blobs
	active     []int      // blobs that were started and are not finished
	splittable []int      // those of them that may have pieces that nobody has taken
}

// blob is what is known of one blob.
type blob struct {
	size      int64
	queue     *Queue // nil before Start
	ranges    Ranges
	finishing bool // by the worker that was told so
	takeOvers int
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
	s := &Scheduler{Config: c, blobs: make([]blob, len(sizes)), queued: make([]int, len(sizes))}
	s.changed.L = &s.mu
	for i, size := range sizes {
		s.blobs[i].size, s.queued[i] = size, i
	}
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
		if s.preferSmall() {
			return s.start(len(s.queued) - 1), true, nil
		}
		for _, i := range s.splittable {
			if p := s.next(i); p != nil {
				return Job{i, p}, true, nil
			}
		}
		if len(s.queued) > 0 {
			return s.start(0), true, nil
		}
		if len(s.active) == 0 {
			return Job{}, false, nil
		}
		if job, ok := s.help(); ok {
			return job, true, nil
		}
		s.changed.Wait()
	}
}

// preferSmall tells whether so many pieces are under way that the smallest blob should be started. The caller
// holds mu.
func (s *Scheduler) preferSmall() bool {
	n := len(s.queued)
	if n == 0 || s.blobs[s.queued[n-1]].size > s.Small {
		return false
	}
	taken := 0
	for _, i := range s.splittable {
		taken += s.blobs[i].queue.Active()
	}
	return taken >= s.Large()+s.Ahead
}

// start takes a blob off the queue. The caller holds mu.
func (s *Scheduler) start(at int) Job {
	i := s.queued[at]
	if at == 0 {
		s.queued = s.queued[1:]
	} else {
		s.queued = slices.Delete(s.queued, at, at+1)
	}
	s.active = append(s.active, i)
	return Job{Blob: i}
}

// next returns a piece of a blob that nobody has taken, nil when there is none. The caller holds mu.
func (s *Scheduler) next(i int) *Piece {
	b := &s.blobs[i]
	if b.ranges != RangesServed && b.queue.Active() > 0 {
		return nil
	}
	return b.queue.Next(s.Now())
}

// help takes from the piece that will take longest: half of what it has left, or all where its connection is
// slow. The caller holds mu.
func (s *Scheduler) help() (Job, bool) {
	if s.Capped() { // a new connection would be no faster
		return Job{}, false
	}
	now := s.Now()
	var all []candidate
	for _, i := range s.active {
		b := &s.blobs[i]
		if b.queue == nil || b.ranges != RangesServed {
			continue
		}
		if p, left := b.queue.Slowest(now); p != nil {
			all = append(all, candidate{Job{i, p}, left})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.left, a.left) })
	for _, c := range all {
		if part := s.share(c, now); part != nil {
			return Job{c.Blob, part}, true
		}
	}
	return Job{}, false
}

// candidate is the piece of a blob that will take longest, and how long that is.
type candidate struct {
	Job
	left time.Duration
}

// share returns a part of a piece, or all of it, for a worker that has nothing else to do; nil where the piece
// is best left alone. The caller holds mu.
func (s *Scheduler) share(c candidate, now time.Duration) (part *Piece) {
	b := &s.blobs[c.Blob]
	switch flows, age, speed := c.Piece.Judge(now); {
	case b.takeOvers < s.MaxTakeOvers && s.Slow(flows, age, speed, c.Piece.End()-c.Piece.Pos()):
		if part = b.queue.TakeOver(c.Piece, now); part != nil {
			b.takeOvers++
		}
	case c.left > s.SplitAfter && s.Room():
		part = b.queue.Steal(s.MinSplit, now)
	}
	return part
}

// Start says what is missing of a blob that was started, and returns the first piece of that, nil where
// nothing is.
func (s *Scheduler) Start(i int, missing []Range) *Piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.blobs[i]
	size := int64(0)
	if b.size > s.WholeSize {
		size = s.PieceSize
	}
	b.queue = NewQueue(missing, size)
	if size > 0 || len(missing) > 1 {
		s.offer(i)
	}
	return s.next(i)
}

// RangesServed says that ranges of a blob are served, so that several workers may fetch it. Where they are
// known to be ignored, it changes nothing.
func (s *Scheduler) RangesServed(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := &s.blobs[i]; b.ranges == RangesUnknown {
		b.ranges = RangesServed
		s.changed.Broadcast()
	}
}

// RangesIgnored says that ranges of a blob are not served, so that one worker alone must fetch it.
func (s *Scheduler) RangesIgnored(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[i].ranges = RangesIgnored
}

// Ranges tells whether ranges of a blob are served.
func (s *Scheduler) Ranges(i int) Ranges {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[i].ranges
}

// TakeWhole says that the whole blob came for a piece, so that one worker alone must fetch it. It tells whether
// that is this one: it is unless others have pieces of the blob. The piece then gets what follows it directly
// and nobody has taken, because the body brings that too.
func (s *Scheduler) TakeWhole(j Job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.blobs[j.Blob]
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
	return s.blobs[j.Blob].queue.Follow(j.Piece)
}

// Complete tells one worker, and no other, that a blob has all its pieces. That one finishes it. What a
// worker has left of its piece is for the next that asks.
func (s *Scheduler) Complete(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
	b := &s.blobs[i]
	if b.finishing {
		return false
	}
	b.finishing = b.queue.Done()
	if !b.finishing {
		s.offer(i)
	}
	return b.finishing
}

// offer lets all workers have pieces of a blob. The caller holds mu.
func (s *Scheduler) offer(i int) {
	if !slices.Contains(s.splittable, i) {
		s.splittable = append(s.splittable, i)
	}
}

// Again has ranges of a complete blob fetched again.
func (s *Scheduler) Again(i int, missing []Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.blobs[i]
	b.finishing = false
	for _, r := range missing {
		b.queue.Add(r)
	}
	s.offer(i)
	s.changed.Broadcast()
}

// Defer keeps ranges of a blob that was started from being taken yet, and forgets those that it kept before.
// They are fetched when they are given to Again, or when a registry that does not serve ranges sends them
// anyway.
func (s *Scheduler) Defer(i int, ranges []Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[i].queue.Defer(ranges)
}

// Pin keeps a blob from being complete until Finish of what it returns is called.
func (s *Scheduler) Pin(i int) *Piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[i].queue.Pin(s.Now())
}

// Finish takes a blob off the list of those that are fetched.
func (s *Scheduler) Finish(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[i].queue = nil
	is := func(o int) bool { return o == i }
	s.active, s.splittable = slices.DeleteFunc(s.active, is), slices.DeleteFunc(s.splittable, is)
	s.changed.Broadcast()
}

// Wake has all who wait in Next look again, as they must when the context ends.
func (s *Scheduler) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// Poke has one who waits in Next look again whether a piece has become slow.
func (s *Scheduler) Poke() { s.changed.Signal() }

// Jobs returns how many jobs there may be at once, at most a limit.
func (s *Scheduler) Jobs(limit int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for _, i := range s.queued {
		n += 1 + s.blobs[i].size/s.MinSplit
		if n >= int64(limit) {
			return limit
		}
	}
	return int(n)
}
