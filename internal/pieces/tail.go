package pieces

import "time"

// Active returns how many pieces are being fetched.
func (q *queue) Active() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.active)
}

// Slowest returns the piece that was asked for and will take longest, and how long that is by its
// speed so far; nil when there is none.
func (q *queue) Slowest(now time.Duration) (slowest *Piece, left time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.active {
		if p.pos < p.end && p.state != taken && (slowest == nil || later(p, slowest, now)) {
			slowest = p
		}
	}
	if slowest == nil {
		return nil, 0
	}
	const longest = float64(1<<53) / 1e9 // seconds; more would overflow
	return slowest, time.Duration(min(slowest.remaining(now), longest) * float64(time.Second))
}

// Extend moves the end of an active piece over the untaken range that follows it directly,
// if there is one. Nothing is deferred any longer.
func (q *queue) Extend(p *Piece) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.active[p]; !ok {
		return
	}
	for _, r := range q.deferred {
		q.todo = insert(q.todo, r)
	}
	q.deferred = nil
	for i, r := range q.todo {
		if r.Start == p.end {
			p.end = r.End
			q.todo = append(q.todo[:i], q.todo[i+1:]...)
			return
		}
	}
}

// Follow moves a piece that has come to its end on to the first untaken range behind it, because its body
// brings that too. It returns how many bytes lie between, and false where there is no such range.
func (q *queue) Follow(p *Piece) (gap int64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.active[p]; !ok || p.pos < p.end {
		return 0, false
	}
	for i, r := range q.todo {
		if gap = r.Start - p.end; gap >= 0 {
			p.pos, p.end, p.start = r.Start, r.End, p.start+gap
			q.todo = append(q.todo[:i], q.todo[i+1:]...)
			return gap, true
		}
	}
	return 0, false
}
