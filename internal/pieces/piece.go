package pieces

import (
	"cmp"
	"time"
)

// Piece is a range that one worker fetches. Its methods are safe for concurrent use.
type Piece struct {
	q *queue

	// Guarded by q.mu.
	began    time.Duration // when it entered its state
	start    int64         // pos then
	state    state
	pos, end int64
	paused   bool          // what has come of it is being stored
	pausedAt time.Duration // since then
	lost     func()        // called when its worker must not go on
}

// state is how far the request for a piece is.
type state int

const (
	taken state = iota // and nothing is expected
	requested
	flowing
)

// Pos returns the offset of the next byte to take.
func (p *Piece) Pos() int64 {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	return p.pos
}

// End returns the offset behind the piece's last byte. It may shrink while the piece is
// fetched, and is Pos once the piece has ended.
func (p *Piece) End() int64 {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	return p.end
}

// Take makes the next n bytes the worker's own for good, so that nobody takes them
// any more, and moves Pos behind them. It returns how many they were: fewer than n where the
// piece ends before, and 0 once it has ended.
func (p *Piece) Take(n int) int {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	own := max(0, min(int64(n), p.end-p.pos))
	p.pos += own
	return int(own)
}

// Requested notes that the piece was asked for.
func (p *Piece) Requested(now time.Duration) { p.enter(requested, now) }

// Flowing notes that the bytes of the piece have begun to come: from then on its speed is judged.
func (p *Piece) Flowing(now time.Duration) { p.enter(flowing, now) }

// Rest notes that no request for the piece is under way. Until the next one it is not slow.
func (p *Piece) Rest(now time.Duration) { p.enter(taken, now) }

// Pause notes that what has come is being stored. Until Resume is called the piece is not slow.
func (p *Piece) Pause(now time.Duration) {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	p.paused, p.pausedAt = true, now
}

// Resume ends a Pause.
func (p *Piece) Resume(now time.Duration) {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	p.paused = false
	p.began += now - p.pausedAt
}

// elapsed is for how long the piece has been in its state, without what was spent on storing. The caller
// holds q.mu.
func (p *Piece) elapsed(now time.Duration) time.Duration {
	if p.paused {
		now = p.pausedAt
	}
	return max(0, now-p.began)
}

func (p *Piece) enter(s state, now time.Duration) {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	p.state, p.began, p.start = s, now, p.pos
}

// Judge tells whether the bytes of the piece flow, for how long they have or have been waited for, and
// how many there were a second.
func (p *Piece) Judge(now time.Duration) (flows bool, age time.Duration, speed float64) {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	age = p.elapsed(now)
	if age > 0 {
		speed = float64(p.pos-p.start) / age.Seconds()
	}
	return p.state == flowing, age, speed
}

// OnLost sets what is called, and must not block, when its worker must not go on: another has taken over
// what the piece has left, or [Piece.Lose] was called.
func (p *Piece) OnLost(f func()) {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	p.lost = f
}

// Lose makes its worker give up. What the piece has left goes back to the queue when that calls Finish.
func (p *Piece) Lose() {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	if p.lost != nil {
		p.lost()
	}
}

// Finish ends the piece, whether it is complete or not: what is left goes back to the
// queue. Only the first call counts.
func (p *Piece) Finish() {
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	if _, ok := p.q.active[p]; !ok {
		return
	}
	delete(p.q.active, p)
	p.q.todo = insert(p.q.todo, Range{p.pos, p.end})
	p.end = p.pos
}

// later tells whether a will be done later than b. Pieces that began just now are told
// apart by what they have left.
func later(a, b *Piece, now time.Duration) bool {
	return cmp.Or(
		cmp.Compare(a.remaining(now), b.remaining(now)),
		cmp.Compare(a.end-a.pos, b.end-b.pos),
		cmp.Compare(b.start, a.start),
	) > 0
}

// remaining estimates how many seconds the piece still takes.
func (p *Piece) remaining(now time.Duration) float64 {
	return float64(p.end-p.pos) * p.elapsed(now).Seconds() / float64(p.pos-p.start+headStart)
}
