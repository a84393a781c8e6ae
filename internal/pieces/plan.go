package pieces

import (
	"cmp"
	"slices"
	"time"
)

// ahead is how many pieces are taken beyond those that may move at once, so that none has to be looked for
// when a slot is free.
const ahead = 2

// Config says how a scheduler decides. All functions must be safe for concurrent use and must not block.
type Config struct {
	// PieceSize is the size of the pieces of a blob that is larger than WholeSize, NearSize, if that is more,
	// where the server is near, and ApartSize, if that is more, where there is also such a blob for each
	// large body. Others are one piece for each range that is missing.
	PieceSize, NearSize, ApartSize, WholeSize int64

	// MinSplit is the least half of a piece that is worth a request of its own, and SplitAfter how long the
	// whole must still take: what the server has sent already of that half is sent twice.
	MinSplit   int64
	SplitAfter time.Duration

	// MaxTakeOvers is how many pieces of one blob are taken over from slow connections.
	MaxTakeOvers int

	// Small is the size up to which a blob moves beside pieces of others.
	Small int64

	// Large tells how many large bodies may move at once, SlotFree whether one more may now, and Capped
	// whether all wait for the cap on the rate.
	Large    func() int
	SlotFree func() bool
	Capped   func() bool

	// Slow tells whether the connection of a piece is so slow that a new one will be faster. The bytes have
	// flowed, or been waited for, for age; left of them are still to come.
	Slow func(flows bool, age time.Duration, speed float64, left int64) bool
}

// plan is what a scheduler knows and how it decides. It has no lock: the scheduler's guards it.
type plan struct {
	Config

	blobs      []blob // of all blobs
	queued     []int  // those that were not started, largest first
	active     []int  // those that were started and are not finished
	splittable []int  // those of the active ones that may have pieces that nobody has taken
	large      int    // how many blobs that are fetched in pieces are not finished
	near       bool   // the server is
	began      time.Time
}

// now is how long ago the plan was made.
func (p *plan) now() time.Duration { return time.Since(p.began) }

// blob is what is known of one blob.
type blob struct {
	size      int64
	queue     *queue // nil before Start
	ranges    Ranges
	finishing bool // by the worker that was told so
	takeOvers int
}

func newPlan(sizes []int64, c Config) plan {
	p := plan{Config: c, began: time.Now(), blobs: make([]blob, len(sizes)), queued: make([]int, len(sizes))}
	for i, size := range sizes {
		p.blobs[i].size, p.queued[i] = size, i
		if size > c.WholeSize {
			p.large++
		}
	}
	return p
}

// next returns what a worker may do now, and false where that is nothing.
func (p *plan) next() (job Job, ok bool) {
	if p.preferSmall() {
		return p.start(len(p.queued) - 1), true
	}
	if job, ok := p.split(); ok {
		return job, true
	}
	if len(p.queued) > 0 {
		return p.start(0), true
	}
	return p.help()
}

// split takes a piece of a blob that was started: of the first, so that it is complete soon, or where blobs
// are fetched apart, of the one with the fewest pieces under way, so that each comes in order.
func (p *plan) split() (job Job, ok bool) {
	from := p.splittable
	if p.apart() {
		from = slices.Clone(from)
		slices.SortStableFunc(from, func(a, b int) int {
			return cmp.Compare(p.blobs[a].queue.Active(), p.blobs[b].queue.Active())
		})
	}
	for _, i := range from {
		if piece := p.piece(i); piece != nil {
			return Job{i, piece}, true
		}
	}
	return Job{}, false
}

// piece returns a piece of a blob that nobody has taken, nil when there is none.
func (p *plan) piece(i int) *Piece {
	b := &p.blobs[i]
	if b.ranges != RangesServed && b.queue.Active() > 0 {
		return nil
	}
	b.queue.resize(p.pieceSize())
	return b.queue.Next(p.now())
}

// pieceSize is the size of the pieces that are taken now, of blobs that are fetched in pieces.
func (p *plan) pieceSize() int64 {
	switch {
	case p.apart():
		return max(p.PieceSize, p.NearSize, p.ApartSize)
	case p.near:
		return max(p.PieceSize, p.NearSize)
	default:
		return p.PieceSize
	}
}

// apart tells whether there are several blobs, one for each large body: then each comes in order, and a
// request for much of it holds up nobody. Far away it is not so, because many bodies move there, and they are
// called back.
func (p *plan) apart() bool { return p.near && p.large >= max(2, p.Large()) }

// finished tells whether no blob is left to start or to go on with.
func (p *plan) finished() bool { return len(p.queued)+len(p.active) == 0 }

// preferSmall tells whether so many pieces are under way that the smallest blob should be started.
func (p *plan) preferSmall() bool {
	n := len(p.queued)
	if n == 0 || p.blobs[p.queued[n-1]].size > p.Small {
		return false
	}
	taken := 0
	for _, i := range p.splittable {
		taken += p.blobs[i].queue.Active()
	}
	return taken >= p.Large()+ahead
}

// start takes a blob off the queue.
func (p *plan) start(at int) Job {
	i := p.queued[at]
	if at == 0 {
		p.queued = p.queued[1:]
	} else {
		p.queued = slices.Delete(p.queued, at, at+1)
	}
	p.active = append(p.active, i)
	return Job{Blob: i}
}

// help takes from the piece that will take longest: half of what it has left, or all where its connection is
// slow.
func (p *plan) help() (Job, bool) {
	if p.Capped() { // a new connection would be no faster
		return Job{}, false
	}
	now := p.now()
	for _, c := range p.slowest(now) {
		if part := p.share(c, now); part != nil {
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

// slowest returns the piece of each blob that will take longest, the one that takes longest of all first.
func (p *plan) slowest(now time.Duration) (all []candidate) {
	for _, i := range p.active {
		b := &p.blobs[i]
		if b.queue == nil || b.ranges != RangesServed {
			continue
		}
		if piece, left := b.queue.Slowest(now); piece != nil {
			all = append(all, candidate{Job{i, piece}, left})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.left, a.left) })
	return all
}

// share returns a part of a piece, or all of it, for a worker that has nothing else to do; nil where the
// piece is best left alone.
func (p *plan) share(c candidate, now time.Duration) (part *Piece) {
	b := &p.blobs[c.Blob]
	switch flows, age, speed := c.Piece.Judge(now); {
	case b.takeOvers < p.MaxTakeOvers && p.Slow(flows, age, speed, c.Piece.End()-c.Piece.Pos()):
		if part = b.queue.TakeOver(c.Piece, now); part != nil {
			b.takeOvers++
		}
	case c.left > p.SplitAfter && p.SlotFree():
		part = b.queue.Steal(p.MinSplit, now)
	}
	return part
}

// again puts ranges of a blob back.
func (p *plan) again(i int, missing []Range) {
	b := &p.blobs[i]
	b.finishing = false
	for _, r := range missing {
		b.queue.Add(r)
	}
	p.offer(i)
}

// offer lets all workers have pieces of a blob.
func (p *plan) offer(i int) {
	if !slices.Contains(p.splittable, i) {
		p.splittable = append(p.splittable, i)
	}
}

// finish takes a blob off the list of those that are fetched.
func (p *plan) finish(i int) {
	if p.blobs[i].size > p.WholeSize {
		p.large--
	}
	p.blobs[i].queue = nil
	is := func(o int) bool { return o == i }
	p.active, p.splittable = slices.DeleteFunc(p.active, is), slices.DeleteFunc(p.splittable, is)
}

// jobs returns how many jobs there may be at once, at most a limit.
func (p *plan) jobs(limit int) int {
	n := int64(0)
	for _, i := range p.queued {
		n += 1 + p.blobs[i].size/p.MinSplit
		if n >= int64(limit) {
			return limit
		}
	}
	return int(n)
}
