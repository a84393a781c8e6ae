package watchdog

import (
	"slices"
	"sync"
	"time"
)

// When a connection counts as slow (see [Speeds.slow]), and what is done about it. A new connection in its
// place will likely be as fast as its peers.
const (
	// slowShare is the share of the median speed of its peers below which a connection is slow.
	slowShare = 0.1

	// replaceAfter is how long a connection must have been slow to be replaced while no worker is idle. That
	// is long, because what the server has sent and we have not read is lost.
	replaceAfter = 5 * time.Second

	// takeOverAfter is how long it must have been slow for an idle worker to take over what it has left.
	// takeOverLate is how long where that is little: then a busy machine is the likelier reason.
	takeOverAfter = 300 * time.Millisecond
	takeOverLate  = time.Second

	// MaxReplaced is how often slow connections of one transfer are replaced. Then it may be slow.
	MaxReplaced = 3

	// minSample is how many bytes a connection must have moved for its speed to say something.
	minSample = 64 << 10 // 64 KiB

	// speedSamples is how many recent speeds the median is taken of.
	speedSamples = 64
)

// Speeds knows the median of recent speeds, in bytes per second. The zero value knows none. It is safe for
// concurrent use.
type Speeds struct {
	mu     sync.Mutex // guards the fields that follow
	recent [speedSamples]float64
	count  int
}

// Record adds a speed. Only the last speedSamples count.
func (s *Speeds) Record(speed float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent[s.count%speedSamples] = speed
	s.count++
}

// Median returns the median, 0 as long as nothing was recorded.
func (s *Speeds) Median() float64 {
	s.mu.Lock()
	recent, count := s.recent, min(s.count, speedSamples)
	s.mu.Unlock()
	if count == 0 {
		return 0
	}
	slices.Sort(recent[:count])
	return recent[count/2]
}

// tell tells whether connections move so much in a time that their speeds can be compared. Where many share a
// slow link, one gets a portion of it meanwhile, and another none.
func (s *Speeds) tell(elapsed time.Duration) bool {
	return s.Median()*elapsed.Seconds() >= minSample
}

// slow tells whether a connection of that speed is slow beside its peers.
func (s *Speeds) slow(speed float64) bool { return speed < slowShare*s.Median() }

// TakeOver tells whether an idle worker should take over a piece, on a new connection. Where its body flows,
// it has done so for age at that speed, in bytes per second. Otherwise age is how long its first byte has
// been waited for. little says that few bytes are left.
func (w *Watchdog) TakeOver(flows bool, age time.Duration, speed float64, little bool) bool {
	after := takeOverAfter
	switch {
	case !flows:
		return age > w.stallTimeout/3 && !w.linkIsSlow(age)
	case little:
		after = takeOverLate
	}
	return age > after && w.Speeds.tell(age) && w.Speeds.slow(speed)
}
