package pace

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// server serves bodies of reads of 64 KiB each, whose speed depends on how many it serves at once.
type server struct {
	speed func(busy int) float64 // bytes a second of all together
	late  time.Duration          // until the first byte
	reads int
	size  int // what the bodies are said to be
}

// serve runs 64 workers for a time, and returns what was moved.
func (v *server) serve(t *testing.T, s *AdaptiveLimit, d time.Duration) (moved float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var mu sync.Mutex
	busy := 0
	each := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			moved += epochBytes
		}
		return v.speed(busy) / float64(busy)
	}
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		busy += n
	}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				slot, err := s.Acquire(ctx, int64(v.size))
				if err != nil {
					return
				}
				time.Sleep(v.late)
				count(1)
				for range v.reads {
					time.Sleep(time.Duration(epochBytes / each() * float64(time.Second)))
					slot.Moved(epochBytes)
				}
				count(-1)
				slot.Release()
			}
		})
	}
	wg.Wait()
	return moved
}

func TestAdaptiveLimitFindsTheBest(t *testing.T) {
	own := func(n int) float64 { return float64(n) * 14e6 }
	full := func(int) float64 { return 50e6 }
	fast := func(int) float64 { return 1e9 }
	collapse := func(n int) float64 { return 400e6 * min(1, 256/float64(n*n)) }
	const short, long = 3 * time.Second, 30 * time.Second
	all, many, few := []int{4, 16, 64}, []int{16, 64}, []int{4, 16}
	for name, tt := range map[string]struct {
		server
		share    float64 // of what the best fixed limit moves
		min, max int     // what the limit is in the end
		from     []int
	}{
		"each connection has its own speed": {server{speed: own, reads: 256}, 0.95, 64, 64, all},
		"the same, far away":                {server{speed: own, late: 300 * ms, reads: 256}, 0.85, 48, 64, all},
		"small bodies mostly wait":          {server{speed: fast, late: 50 * ms, reads: 1}, 0.95, 64, 64, many},
		"the link is full with a few":       {server{speed: full, reads: 64}, 0.95, 4, 32, all},
		"the server collapses above 16":     {server{speed: collapse, reads: 64}, 0.9, 4, 16, few},
		"the server collapses, far away":    {server{speed: collapse, late: 50 * ms, reads: 64}, 0.9, 4, 16, few},
		"the server collapses, small bodies": {
			server{speed: collapse, late: 10 * ms, reads: 2}, 0.75, 16, 48, many,
		},
	} {
		for _, start := range tt.from {
			t.Run(fmt.Sprintf("%s, from %d", name, start), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					most := 0.0
					for _, n := range []int{2, 4, 8, 12, 16, 20, 24, 32, 48, 64} {
						most = max(most, tt.serve(t, NewAdaptiveLimit(n, true), short)/short.Seconds())
					}
					s := NewAdaptiveLimit(64, false)
					tt.size = startBytes / start
					share := tt.serve(t, s, long) / most / long.Seconds()
					t.Logf("%d at once, %.2f of what the best fixed limit moves", s.controller.search.best, share)
					assert.Greater(t, share, tt.share)
					assert.GreaterOrEqual(t, s.controller.search.best, tt.min)
					assert.LessOrEqual(t, s.controller.search.best, tt.max)
				})
			})
		}
	}
}

// A settled limit is probed again at once when the speed falls.
func TestAdaptiveLimitNoticesAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		v := server{reads: 16, size: startBytes / 4, speed: func(n int) float64 {
			if time.Since(start) < 29*time.Second {
				return 50e6
			}
			return float64(n) * 1e6
		}}
		s := NewAdaptiveLimit(64, false)
		v.serve(t, s, 28*time.Second)
		require.Less(t, s.controller.search.best, 32)
		left := time.Until(s.controller.reprobe.at)
		require.Greater(t, left, 12*time.Second, "it is not probed again before long")
		v.serve(t, s, 9*time.Second)
		assert.Equal(t, 64, s.controller.search.best)
	})
}

// Many small bodies follow a few large ones, as in a model of one large blob and many small ones.
func TestSmallerBodiesGetALargerLimit(t *testing.T) {
	s := NewAdaptiveLimit(64, false)
	for _, c := range []struct{ size, limit int }{
		{8 << 20, 4}, {3 << 20, 4}, {2 << 20, 16}, {512 << 10, 64}, {0, 64}, {8 << 20, 64},
	} {
		slot, err := s.Acquire(t.Context(), int64(c.size))
		require.NoError(t, err)
		assert.Equal(t, c.limit, s.limit, c.size)
		slot.Release()
	}
	harmed := NewAdaptiveLimit(64, false)
	harmed.controller.search.harmful = 17
	slot, err := harmed.Acquire(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, 16, harmed.limit, "not as many as did harm")
	slot.Release()
}

func TestFixedLimitStaysFixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewAdaptiveLimit(5, true)
		s.Overloaded()
		v := server{reads: 4, speed: func(n int) float64 {
			assert.LessOrEqual(t, n, 5)
			return float64(n) * 1e6
		}}
		v.serve(t, s, time.Second)
		assert.Equal(t, 5, s.limit)
	})
}

func TestOverloadHalvesOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewAdaptiveLimit(64, false)
		slot, err := s.Acquire(t.Context(), 1)
		require.NoError(t, err)
		slot.Release()
		require.Equal(t, 64, s.limit)
		for range 10 {
			s.Overloaded()
		}
		assert.Equal(t, 64/2, s.limit)
		time.Sleep(2 * overloadedEvery)
		s.Overloaded()
		assert.Equal(t, 64/4, s.limit)
		for range 10 {
			time.Sleep(2 * overloadedEvery)
			s.Overloaded()
		}
		assert.Equal(t, 1, s.limit)
	})
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewAdaptiveLimit(1, true)
		slot, err := s.Acquire(t.Context(), 1)
		require.NoError(t, err)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := s.Acquire(ctx, 1)
			assert.ErrorIs(t, err, cause)
		})
		synctest.Wait()
		cancel(cause)
		wg.Wait()
		slot.Release()
		slot.Release() // counts once
		slot, err = s.Acquire(t.Context(), 1)
		require.NoError(t, err, "who left is not waited for")
		slot.Release()
		assert.Zero(t, s.active)
	})
}

func BenchmarkMoved(b *testing.B) {
	s := NewAdaptiveLimit(64, false)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		slot, err := s.Acquire(b.Context(), 1)
		require.NoError(b, err)
		defer slot.Release()
		for pb.Next() {
			slot.Moved(256 << 10)
		}
	})
}
