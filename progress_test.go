package transfer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pace"
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
				s.record(speed)
			}
			assert.Equal(t, c.median, s.median())
		})
	}
}

func TestSpeedTrackerForgets(t *testing.T) {
	var s speedTracker
	for range 1000 {
		s.record(1)
	}
	for range speedSamples/2 + 1 {
		s.record(9)
	}
	assert.Equal(t, 9.0, s.median())
}

// I6: one call at a time, from what is there to the end, and what came meanwhile in one.
func TestProgressTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls [][2]int64
		p := newProgressTracker(10, func(completed, total int64) {
			calls = append(calls, [2]int64{completed, total})
			time.Sleep(time.Second)
		})
		p.add(3)
		p.start(nil)
		synctest.Wait()
		p.add(1)
		p.add(2)
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		p.add(4)
		p.add(0)
		assert.Nil(t, p.finish())
		assert.Equal(t, [][2]int64{{3, 10}, {6, 10}, {10, 10}}, calls)
	})
}

func TestProgressTrackerWithoutCallback(t *testing.T) {
	p := newProgressTracker(10, nil)
	p.add(10)
	p.start(nil)
	assert.Nil(t, p.finish())
	var none *progressTracker
	none.add(1)
}

func TestProgressTrackerPanic(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic("ours") })
	p.start(func() { stopped.Store(true) })
	p.add(5)
	assert.Equal(t, "ours", p.finish())
	assert.True(t, stopped.Load())
}

func TestProgressTrackerNilPanicAndExit(t *testing.T) {
	var stopped atomic.Bool
	p := newProgressTracker(10, func(int64, int64) { panic(nil) })
	p.start(func() { stopped.Store(true) })
	assert.NotNil(t, p.finish())
	assert.True(t, stopped.Load())
}

func newWatchdog(stallTimeout time.Duration) *watchdog {
	start := time.Now()
	return &watchdog{
		stallTimeout: stallTimeout, clock: func() time.Duration { return time.Since(start) }, attempts: make(map[*attempt]struct{}),
	}
}

// watched runs a test with a watchdog that looks.
func watched(t *testing.T, stallTimeout time.Duration, test func(t *testing.T, w *watchdog)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatchdog(stallTimeout)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.run(ctx)
		test(t, w)
	})
}

func TestWatchdogEndsWhatStalls(t *testing.T) {
	for _, timeout := range []time.Duration{time.Millisecond, time.Second, time.Minute} {
		t.Run(timeout.String(), func(t *testing.T) {
			watched(t, timeout, func(t *testing.T, w *watchdog) {
				start := time.Now()
				a := w.watch(t.Context(), false)
				<-a.ctx.Done()
				require.ErrorIs(t, a.end(a.ctx.Err()), ErrStalled)
				assert.InDelta(t, timeout, time.Since(start), float64(max(timeout/4, 2*time.Millisecond)))
				assert.Empty(t, w.attempts)
			})
		})
	}
}

func TestWatchdogSparesWhatMovesOrWaitsForUs(t *testing.T) {
	watched(t, time.Second, func(t *testing.T, w *watchdog) {
		a := w.watch(t.Context(), false)
		for range 100 {
			time.Sleep(700 * time.Millisecond)
			a.moved(1)
		}
		a.held.Add(1)
		time.Sleep(time.Hour)
		a.held.Add(-1)
		require.NoError(t, a.ctx.Err())
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, a.end(errors.New("read")), ErrStalled)
	})
}

// A registry that hashes what it was sent has longer, by its size.
func TestWatchdogGivesTimeToHash(t *testing.T) {
	watched(t, time.Second, func(t *testing.T, w *watchdog) {
		start := time.Now()
		a := w.watch(t.Context(), false)
		a.sent(digestTime(60 * digestRate))
		<-a.ctx.Done()
		require.ErrorIs(t, a.end(a.ctx.Err()), ErrStalled)
		assert.InDelta(t, 61, time.Since(start).Seconds(), 1)
	})
}

// N9: only an attempt that is far slower than the median is ended, and only while others flow.
func TestWatchdogEndsWhatCrawls(t *testing.T) {
	for name, c := range map[string]struct {
		peers, speed int
		crawl, ended bool
		cap          int64
	}{
		"far slower":         {4, 9, false, true, 0},
		"slower":             {4, 20, false, false, 0},
		"alone":              {0, 9, false, false, 0},
		"known to be slower": {4, 9, true, false, 0},
		"held up by the cap": {4, 9, false, false, 1},
		"below the cap":      {4, 9, false, true, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, 10*time.Second, func(t *testing.T, w *watchdog) {
				for range 9 {
					w.speeds.record(100)
				}
				if w.pace = pace.New(c.cap); c.cap > 0 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					defer cancel()
					_ = w.pace.Pay(ctx, 60)
				}
				slow := w.watch(t.Context(), c.crawl)
				peers := make([]*attempt, c.peers)
				for i := range peers {
					peers[i] = w.watch(t.Context(), false)
				}
				for range 20 {
					time.Sleep(time.Second)
					slow.moved(c.speed)
					for _, p := range peers {
						p.moved(100)
					}
				}
				err := slow.end(slow.ctx.Err())
				assert.Equal(t, c.ended, errors.Is(err, errSlow))
				for _, p := range peers {
					require.NoError(t, p.end(nil))
				}
			})
		})
	}
}

func TestAttemptKeepsOtherErrors(t *testing.T) {
	w := newWatchdog(time.Second)
	ours := errors.New("ours")
	assert.Same(t, ours, w.watch(t.Context(), false).end(ours))
	a := w.watch(t.Context(), false)
	a.cancel(ErrStalled)
	assert.NoError(t, a.end(nil), "it was finished before the watchdog came")
}

func BenchmarkProgress(b *testing.B) {
	p := newProgressTracker(1<<62, func(int64, int64) {})
	p.start(func() {})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.add(bufferSize)
		}
	})
	require.Nil(b, p.finish())
}

// One attempt as the watchdog sees it.
func BenchmarkAttempt(b *testing.B) {
	w := &watchdog{stallTimeout: time.Minute, clock: func() time.Duration { return 0 }, attempts: make(map[*attempt]struct{})}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a := w.watch(b.Context(), false)
			a.moved(bufferSize)
			_ = a.end(nil)
		}
	})
}
