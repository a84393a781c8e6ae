package exchange

import (
	"time"

	"github.com/modeltransfer/transfer/internal/watchdog"
)

const (
	// A body is read in strides that begin with firstStride, the size of most small blobs, and double while
	// the transport is back for the next one before slowStride has passed. Otherwise they begin anew with
	// leastStride: a large one would be seen to move only once all of it has.
	firstStride = 64 << 10 // 64 KiB
	leastStride = 16 << 10 // 16 KiB
	slowStride  = 100 * time.Millisecond

	// minMeasured is how many bytes the speed of a link is measured by at least: a kernel takes as many at
	// once.
	minMeasured = 128 << 10 // 128 KiB
)

// strides is how a transport takes a body. The zero value has not begun.
type strides struct {
	size   int64         // of the last
	since  time.Time     // when that was given out; zero before the first
	waited time.Duration // for the transport, from the first slow stride on: before, buffers were filled
	taken  int64         // bytes, from then on
}

// next returns how large the next stride is, for which the transport has come.
func (s *strides) next(most int) int64 {
	took := time.Duration(0)
	if !s.since.IsZero() {
		took = time.Since(s.since)
	}
	slow := took > slowStride
	if slow || s.waited > 0 {
		s.waited += took
	}
	switch {
	case slow:
		s.size = leastStride
	case s.size == 0:
		s.size = firstStride
	case s.size < int64(most):
		s.size *= 2
	}
	return min(s.size, int64(most))
}

// given notes that the transport has got n bytes.
func (s *strides) given(n int) {
	s.since = time.Now()
	if s.waited > 0 {
		s.taken += int64(n)
	}
}

// linkTime is how long the link may need for what buffers hold of a body of that size, when all of it was
// given out: as long as for as much of it before.
func (s *strides) linkTime(size int64) time.Duration {
	hidden, measured := float64(min(size, watchdog.MaxHidden)), float64(max(s.taken, minMeasured))
	return time.Duration(float64(s.waited) * hidden / measured)
}
