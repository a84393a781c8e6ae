package exchange

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// What buffers took at once says nothing of the link. What followed does.
func TestE19LinkTimeOfABody(t *testing.T) {
	for name, c := range map[string]struct {
		size, buffer, speed int64
		seconds             float64
	}{
		"slow link":         {1 << 20, 384 << 10, 8 << 10, 128},
		"large body":        {16 << 20, 384 << 10, 64 << 10, 16},
		"quick link":        {16 << 20, 384 << 10, 64 << 20, 0},
		"all of it at once": {256 << 10, 384 << 10, 8 << 10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s strides
				for given := int64(0); given < c.size; {
					n := min(s.next(128<<10), c.size-given)
					s.given(int(n))
					if given += n; given > c.buffer {
						time.Sleep(time.Duration(n) * time.Second / time.Duration(c.speed))
					}
				}
				assert.InDelta(t, c.seconds, s.linkTime(c.size).Seconds(), c.seconds/4)
			})
		})
	}
}

// Strides grow while they are taken quickly, and are small where the link is slow.
func TestE19StridesFitTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s strides
		var sizes []int64
		for _, wait := range []time.Duration{0, 0, 0, 200 * time.Millisecond, 0, 0} {
			n := s.next(128 << 10)
			sizes = append(sizes, n>>10)
			s.given(int(n))
			time.Sleep(wait)
		}
		assert.Equal(t, []int64{64, 128, 128, 128, 16, 32}, sizes)
	})
}
