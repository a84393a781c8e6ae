package pieces

import (
	"sync"
	"time"
)

// headStart is how many bytes a piece is taken to have moved before it began, so that
// one that has only just begun does not look like the slowest of all.
const headStart = 256 << 10 // 256 KiB

// queue hands out the missing ranges of one blob, piece by piece. It is safe for
// concurrent use.
//
// Times are monotonic, since any moment that all calls agree on.
type queue struct {
	// mu guards the fields that follow, and those of all pieces.
	mu        sync.Mutex
	pieceSize int64   // of those that are yet to be taken
	todo      []Range // untaken: in order, disjoint
	deferred  []Range // untaken, and not to be taken yet: in order, disjoint
	active    map[*Piece]struct{}
}

// newQueue returns a queue of the missing ranges, which may come in any order. Pieces
// have at most pieceSize bytes; zero or less means one piece for each range.
func newQueue(missing []Range, pieceSize int64) *queue {
	q := &queue{pieceSize: pieceSize, active: make(map[*Piece]struct{})}
	for _, r := range missing {
		q.todo = insert(q.todo, r)
	}
	return q
}

// resize changes the size of the pieces that are yet to be taken, unless each range is one.
func (q *queue) resize(size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pieceSize > 0 {
		q.pieceSize = size
	}
}

// Next returns the first piece that nobody has taken, or nil where there is none. The
// caller must call its Finish.
func (q *queue) Next(now time.Duration) *Piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.todo) == 0 {
		return nil
	}
	r := q.todo[0]
	if q.pieceSize > 0 && r.Len() > q.pieceSize {
		r.End = r.Start + q.pieceSize
		q.todo[0].Start = r.End
	} else {
		q.todo = q.todo[1:]
	}
	return q.start(r, now)
}

// Steal returns the tail half of what the piece that will take longest has left, judged by
// its speed so far, or nil where no piece whose bytes flow has at least twice the minimum left.
// The worker of that piece sees its End move. The caller must call Finish of what it got.
func (q *queue) Steal(minimum int64, now time.Duration) *Piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	var slowest *Piece
	for p := range q.active {
		if left := p.end - p.pos; p.state != flowing || left <= 1 || left < 2*minimum {
			continue
		}
		if slowest == nil || later(p, slowest, now) {
			slowest = p
		}
	}
	if slowest == nil {
		return nil
	}
	tail := Range{slowest.pos + (slowest.end-slowest.pos+1)/2, slowest.end}
	slowest.end = tail.Start
	return q.start(tail, now)
}

// TakeOver returns a piece of all that p has left, or nil where that is nothing. The worker
// of p sees that its piece has ended, and what it gave OnLost is called. The
// caller must call Finish of what it got.
func (q *queue) TakeOver(p *Piece, now time.Duration) *Piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.active[p]; !ok || p.pos == p.end {
		return nil
	}
	rest := Range{p.pos, p.end}
	p.end = p.pos
	if p.lost != nil {
		p.lost()
	}
	return q.start(rest, now)
}

// Defer keeps ranges from being taken, unless the body of a piece brings them anyway, until the next call,
// which forgets them. They must be part of nothing else.
func (q *queue) Defer(ranges []Range) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deferred = ranges
}

// Pin returns a piece of no bytes, so that the queue is not done before the caller calls its Finish.
func (q *queue) Pin(now time.Duration) *Piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.start(Range{}, now)
}

// Add puts a range back that must be fetched again. It must not be part of an active piece.
func (q *queue) Add(r Range) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.todo = insert(q.todo, r)
}

// Done tells whether nothing is left to take and no piece is active. What is deferred does not count.
func (q *queue) Done() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.todo) == 0 && len(q.active) == 0
}

func (q *queue) start(r Range, now time.Duration) *Piece {
	p := &Piece{q: q, began: now, start: r.Start, pos: r.Start, end: r.End}
	q.active[p] = struct{}{}
	return p
}
