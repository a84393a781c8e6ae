package transfer

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/watchdog"
)

func TestSpeedTrackerMedian(t *testing.T) {
	for name, c := range map[string]struct {
		speeds []float64
		median float64
	}{
		"none":    {nil, 0},
		"one":     {[]float64{7}, 7},
		"outlier": {[]float64{1000000, 3, 1, 2, 4}, 3},
		"even":    {[]float64{4, 1, 3, 2}, 3},
		"same":    {[]float64{5, 5, 5}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			var s speedTracker
			for _, speed := range c.speeds {
				s.Record(speed)
			}
			assert.Equal(t, c.median, s.Median())
		})
	}
}

func TestSpeedTrackerForgets(t *testing.T) {
	var s speedTracker
	for range 1000 {
		s.Record(1)
	}
	for range watchdog.SpeedSamples/2 + 1 {
		s.Record(9)
	}
	assert.Equal(t, 9.0, s.Median())
}

// One call at a time, from what is there to the end, and what came meanwhile in one.
func TestProgressTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls [][2]int64
		p := newProgressTracker(10, func(completed, total int64) {
			calls = append(calls, [2]int64{completed, total})
			time.Sleep(time.Second)
		}, nil)
		p.start(3)
		synctest.Wait()
		p.add(1)
		p.add(2)
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		p.add(4)
		p.add(0)
		assert.Nil(t, p.finish(t.Context()))
		assert.Equal(t, [][2]int64{{3, 10}, {6, 10}, {10, 10}}, calls)
	})
}

func TestProgressTrackerWithoutCallback(t *testing.T) {
	p := newProgressTracker(10, nil, nil)
	p.start(10)
	assert.Nil(t, p.finish(t.Context()))
	var none *progressTracker
	none.add(1)
}

func TestProgressTrackerPanic(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic("ours") }, func() { stopped.Store(true) })
	p.start(0)
	p.add(5)
	assert.Equal(t, "ours", p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func TestProgressTrackerNilPanicAndExit(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic(nil) }, func() { stopped.Store(true) })
	p.start(0)
	assert.NotNil(t, p.finish(t.Context()))
	assert.True(t, stopped.Load())
}

func BenchmarkProgress(b *testing.B) {
	p := newProgressTracker(1<<62, func(int64, int64) {}, func() {})
	p.start(0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.add(128 << 10)
		}
	})
	require.Nil(b, p.finish(b.Context()))
}
