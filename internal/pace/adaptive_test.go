package pace

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// server serves bodies of reads of 64 KiB each, whose speed depends on how many it serves at once.
type server struct {
	speed func(busy int) float64 // bytes a second of all together
	reads int
	size  int // what the bodies are said to be
}

// serve runs 64 workers for a time.
func (v *server) serve(t *testing.T, s *adaptiveLimit, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var mu sync.Mutex
	busy := 0
	each := func() float64 {
		mu.Lock()
		defer mu.Unlock()
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
}

// How close to the best a limit comes is judged by the simulations of the controller. This is about what goes
// through the lock: that slots are given as the limit grows, and taken as it shrinks.
func TestAdaptiveLimitFollowsItsController(t *testing.T) {
	for name, tt := range map[string]struct {
		speed       func(busy int) float64
		first       int // what the limit begins with
		least, most int // what it is in the end
	}{
		"each connection has its own speed": {func(n int) float64 { return float64(n) * 14e6 }, 4, 64, 64},
		"the link is full with a few":       {func(int) float64 { return 50e6 }, 64, 1, 32},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mostBusy := 0
				v := server{reads: 64, size: startBytes / tt.first, speed: func(n int) float64 {
					mostBusy = max(mostBusy, n)
					return tt.speed(n)
				}}
				s := newAdaptiveLimit(64, false)
				v.serve(t, s, 30*time.Second)
				assert.GreaterOrEqual(t, s.controller.best, tt.least)
				assert.LessOrEqual(t, s.controller.best, tt.most)
				assert.Equal(t, 64, mostBusy)
				assert.Zero(t, s.active)
			})
		})
	}
}

// A settled limit is probed again at once when the speed falls.
func TestAdaptiveLimitNoticesAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		v := server{reads: 16, size: startBytes / 4, speed: func(n int) float64 {
			if time.Since(start) < 17*time.Second {
				return 50e6
			}
			return float64(n) * 1e6
		}}
		s := newAdaptiveLimit(64, false)
		v.serve(t, s, 16*time.Second)
		require.Less(t, s.controller.best, 32)
		left := time.Until(s.controller.reprobe.since.Add(s.controller.reprobe.wait))
		require.Greater(t, left, 12*time.Second, "it is not probed again before long")
		v.serve(t, s, 9*time.Second)
		assert.Equal(t, 64, s.controller.best)
	})
}

// Many small bodies follow a few large ones, as in a model of one large blob and many small ones.
func TestSmallerBodiesGetALargerLimit(t *testing.T) {
	s := newAdaptiveLimit(64, false)
	for _, c := range []struct{ size, limit int }{
		{8 << 20, 4}, {3 << 20, 4}, {2 << 20, 16}, {512 << 10, 64}, {0, 64}, {8 << 20, 64},
	} {
		s.controller.start.limit = 0 // as when the link has shown that it is quick
		slot, err := s.Acquire(t.Context(), int64(c.size))
		require.NoError(t, err)
		assert.Equal(t, c.limit, s.limit, c.size)
		slot.Release()
	}
	harmed := newAdaptiveLimit(64, false)
	harmed.controller.harmful = 17
	slot, err := harmed.Acquire(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, startFew, harmed.limit)
	harmed.controller.startWith(64)
	assert.Equal(t, 16, harmed.controller.limit, "not as many as did harm")
	slot.Release()
}

func TestFixedLimitStaysFixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAdaptiveLimit(5, true)
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
		s := newAdaptiveLimit(64, false)
		slot, err := s.Acquire(t.Context(), 1)
		require.NoError(t, err)
		showQuick(slot)
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
		s := newAdaptiveLimit(1, true)
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
	s := newAdaptiveLimit(64, false)
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

// acquired acquires slots for large bodies, which can be called back where end is not nil.
func acquired(t *testing.T, l *adaptiveLimit, count int, end func(i int)) (slots []*Slot) {
	t.Helper()
	for i := range count {
		slot, err := l.Acquire(t.Context(), 8<<20)
		require.NoError(t, err)
		if end != nil {
			slot.OnRecall(func() { end(i) })
		}
		slots = append(slots, slot)
	}
	return slots
}

// The first bytes tell that the link is far. Who waits begins then, and not when one of the first bodies
// ends.
func TestAFarLinkStartsWithMoreBodiesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newAdaptiveLimit(64, false)
		slots := acquired(t, l, fewBodies, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var begun atomic.Int32
		for range 2 * farStart {
			go func() {
				if _, err := l.Acquire(ctx, 8<<20); err == nil {
					begun.Add(1)
				}
			}()
		}
		time.Sleep(2 * farLatency)
		assert.Zero(t, begun.Load())
		for _, slot := range slots {
			slot.Moved(1)
		}
		synctest.Wait()
		assert.EqualValues(t, farStart-fewBodies, begun.Load())
	})
}

// The youngest bodies have the least to lose. Those that cannot go on later are left alone.
func TestBodiesBeyondALimitThatDoesHarmAreCalledBack(t *testing.T) {
	l := newAdaptiveLimit(8, false)
	l.controller.startWith(8)
	var ended []int
	slots := acquired(t, l, 6, func(i int) { ended = append(ended, i) })
	slots = append(slots, acquired(t, l, 1, nil)...)
	slots[5].Release()
	for _, harm := range []bool{false, true} {
		l.controller.change(3)
		l.controller.recall = harm
		slots[0].Moved(1)
		if !harm {
			assert.Empty(t, ended)
			l.controller.change(8)
			slots[0].Moved(1)
		}
	}
	assert.Equal(t, []int{4, 3, 2}, ended)
	for _, slot := range slots {
		slot.Release()
	}
	assert.Zero(t, l.active)
	assert.Empty(t, l.recallable)
}

// showQuick moves so many bytes at once that the link seems quick.
func showQuick(s *Slot) { s.Moved(epochBytes) }

// A body in a crowd over a slow link takes long. All begin at once where the link is quick enough for that,
// be it far or near.
func TestS25FirstBodiesShowHowQuickTheLinkIs(t *testing.T) {
	for name, c := range map[string]struct {
		wait  time.Duration // for the first byte
		speed int           // bytes a second
		limit int           // a second later
	}{
		"near and quick": {0, 100 << 20, 64}, "far and quick": {300 * time.Millisecond, 20 << 20, 64},
		"near and slow": {0, 1 << 20, startFew}, "slower": {0, 64 << 10, startFew},
	} {
		t.Run(name, func(t *testing.T) {
			s := newController(64)
			s.fit(256 << 10)
			assert.Equal(t, startFew, s.limit, "with which it begins")
			now := time.Now().Add(c.wait)
			for range startFew {
				s.firstByte(c.wait, s.generation)
			}
			most := s.limit
			for range 20 {
				s.moved(now, c.speed/100, startFew)
				now = now.Add(10 * time.Millisecond)
				most = max(most, s.limit)
			}
			if c.wait > farLatency {
				assert.GreaterOrEqual(t, most, c.limit)
				return
			}
			assert.Equal(t, c.limit, most)
		})
	}
}
