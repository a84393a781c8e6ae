//go:build !race

// What follows computes for long in one goroutine: the race detector would only make it slower.

package pace

import (
	"math"
	"slices"
	"time"
)

// What a download does with pieces.
const (
	mostBodies = 64
	pieceSize  = 8 << 20
	minSplit   = 128 << 10
	splitAfter = 250 * time.Millisecond
)

// limiter is what a simulated download asks for its limit: a controller, or a fixed number.
type limiter interface {
	now() int
	acquire(size int64) (generation int)
	firstByte(latency time.Duration, generation int)
	moved(now time.Duration, n, active int)
	recalls() bool
}

// fixedLimit never changes.
type fixedLimit int

func (f fixedLimit) now() int                      { return int(f) }
func (f fixedLimit) acquire(int64) int             { return 0 }
func (f fixedLimit) firstByte(time.Duration, int)  {}
func (f fixedLimit) moved(time.Duration, int, int) {}
func (f fixedLimit) recalls() bool                 { return false }

// foundLimit is that of a controller.
type foundLimit struct{ *controller }

func (f foundLimit) now() int      { return f.limit }
func (f foundLimit) recalls() bool { return f.recall }

func (f foundLimit) moved(now time.Duration, n, active int) {
	f.controller.moved(time.Unix(0, 0).Add(now), n, active)
}

func (f foundLimit) acquire(size int64) int {
	f.fit(size)
	f.admitted()
	return f.generation
}

// transfer is what is to be moved over a link.
type transfer struct {
	link
	count int
	size  int64
}

// bodies cuts blobs into pieces.
func (t *transfer) bodies() (all []int64) {
	for range t.count {
		for left := t.size; left > 0; left -= pieceSize {
			all = append(all, min(left, pieceSize))
		}
	}
	return all
}

// simulate returns how long a transfer takes, or the deadline if that comes first.
func (t *transfer) simulate(l limiter, seed uint64, deadline time.Duration) time.Duration {
	s := &simulation{
		network: newNetwork(&t.link, seed), limit: l, queued: t.bodies(), share: min(t.size, pieceSize),
	}
	return s.run(deadline)
}

// body is a request under way.
type body struct {
	conn       *conn
	got        float64 // bytes; conn.wants is how many are left
	asked      time.Duration
	ready      time.Duration // when the server begins to send
	started    time.Duration // when the first byte came
	generation int
}

// simulation downloads bodies over a link.
type simulation struct {
	*network
	limit  limiter
	share  int64   // how many bytes each body asks a slot for
	queued []int64 // the sizes of bodies that wait
	active []*body
	idle   []*conn
}

func (s *simulation) run(deadline time.Duration) time.Duration {
	var sending []*conn
	var flowing []*body
	s.start()
	for len(s.active) > 0 && s.now < deadline {
		sending, flowing = sending[:0], flowing[:0]
		for _, b := range s.active {
			if s.now >= b.ready {
				sending, flowing = append(sending, b.conn), append(flowing, b)
			}
		}
		s.advance(sending)
		for _, b := range flowing {
			s.take(b)
		}
		s.start()
	}
	return s.now
}

// start begins bodies while slots are free.
func (s *simulation) start() {
	for {
		if len(s.queued) == 0 && !s.split() {
			return
		}
		size := s.queued[0]
		generation := 0
		if s.limit.now() == 0 {
			generation = s.limit.acquire(s.share) // the first body decides how many there are
		} else if len(s.active) >= s.limit.now() {
			return
		} else {
			generation = s.limit.acquire(s.share)
		}
		s.queued = s.queued[1:]
		b := &body{asked: s.now, generation: generation}
		if n := len(s.idle); n > 0 {
			b.conn, s.idle = s.idle[n-1], s.idle[:n-1]
			s.reuse(b.conn)
		} else {
			b.conn = s.newConn()
			b.asked += time.Duration(s.handshakes) * s.rtt
		}
		b.ready = b.asked + s.rtt + s.think
		b.conn.wants = float64(size)
		s.active = append(s.active, b)
	}
}

// take gives a body what came for it, and ends it when that was all.
func (s *simulation) take(b *body) {
	n := s.receive(b.conn)
	if n < 1 {
		return
	}
	if b.got == 0 {
		b.started = s.now
		s.limit.firstByte(s.now-b.asked, b.generation)
	}
	b.got, b.conn.wants = b.got+n, b.conn.wants-n
	s.limit.moved(s.now, int(n), len(s.active))
	if s.limit.recalls() {
		s.recall()
	}
	if b.conn.wants >= 1 {
		return
	}
	b.conn.idleSince, b.conn.queued, b.conn.held = s.now, 0, 0
	s.idle = append(s.idle, b.conn)
	s.active = slices.DeleteFunc(s.active, func(o *body) bool { return o == b })
	s.start()
}

// recall ends the youngest of the bodies beyond the limit, with their connections.
func (s *simulation) recall() {
	for len(s.active) > s.limit.now() {
		last := len(s.active) - 1
		c := s.active[last].conn
		s.active = s.active[:last]
		if c.wants >= 1 {
			s.queued = slices.Insert(s.queued, 0, int64(c.wants))
		}
		c.queued, c.held, c.wants = 0, 0, math.Inf(1)
	}
}

// split takes half of what the slowest body has left, where a slot is free for it.
func (s *simulation) split() bool {
	if len(s.active) >= s.limit.now() {
		return false
	}
	var slowest *body
	longest := splitAfter
	for _, b := range s.active {
		if b.got == 0 || b.conn.wants < 2*minSplit {
			continue
		}
		speed := b.got / max(s.now-b.started, time.Millisecond).Seconds()
		if left := time.Duration(b.conn.wants / speed * float64(time.Second)); left > longest {
			slowest, longest = b, left
		}
	}
	if slowest == nil {
		return false
	}
	half := slowest.conn.wants / 2
	slowest.conn.wants -= half
	s.queued = append(s.queued, int64(half))
	return true
}
