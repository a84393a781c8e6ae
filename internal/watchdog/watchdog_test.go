package watchdog_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

// watched runs a test with a watchdog that scans.
func watched(
	t *testing.T, stall time.Duration, rate int64, test func(*testing.T, *watchdog.Watchdog, *pace.Limiter),
) {
	synctest.Test(t, func(t *testing.T) {
		limiter := pace.New(rate)
		w := watchdog.New(stall, limiter)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		test(t, w, limiter)
	})
}

func TestWatchdogEndsWhatStalls(t *testing.T) {
	for _, timeout := range []time.Duration{time.Millisecond, time.Second, time.Minute} {
		t.Run(timeout.String(), func(t *testing.T) {
			watched(t, timeout, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
				start := time.Now()
				a := w.Watch(t.Context(), false)
				<-a.Context().Done()
				require.ErrorIs(t, a.End(a.Context().Err()), watchdog.ErrStalled)
				assert.InDelta(t, timeout, time.Since(start), float64(max(timeout/4, 2*time.Millisecond)))
			})
		})
	}
}

func TestWatchdogSparesWhatMovesOrWaitsForUs(t *testing.T) {
	watched(t, time.Second, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
		a := w.Watch(t.Context(), false)
		for range 100 {
			time.Sleep(700 * time.Millisecond)
			a.Moved(1)
		}
		a.Pause()
		time.Sleep(time.Hour)
		a.Resume()
		require.NoError(t, a.Context().Err())
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, a.End(errors.New("read")), watchdog.ErrStalled)
	})
}

// A registry that hashes what it was sent has longer.
func TestWatchdogAllowsLonger(t *testing.T) {
	watched(t, time.Second, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
		start := time.Now()
		a := w.Watch(t.Context(), false)
		a.Allow(time.Minute)
		<-a.Context().Done()
		require.ErrorIs(t, a.End(a.Context().Err()), watchdog.ErrStalled)
		assert.InDelta(t, 61, time.Since(start).Seconds(), 1)
	})
}

// Only a request that is far slower than the median is ended, and only while others flow.
func TestN9WatchdogEndsWhatIsSlow(t *testing.T) {
	for name, c := range map[string]struct {
		peers, speed   int
		maySlow, ended bool
		cap            int64
	}{
		"far slower":         {4, 9, false, true, 0},
		"slower":             {4, 20, false, false, 0},
		"alone":              {0, 9, false, false, 0},
		"known to be slower": {4, 9, true, false, 0},
		"held up by the cap": {4, 9, false, false, 1},
		"below the cap":      {4, 9, false, true, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, 10*time.Second, c.cap, func(t *testing.T, w *watchdog.Watchdog, rate *pace.Limiter) {
				for range 9 {
					w.Speeds.Record(100 << 10)
				}
				if rate != nil {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					defer cancel()
					_ = rate.Pay(ctx, 60)
				}
				slow := w.Watch(t.Context(), c.maySlow)
				peers := make([]*watchdog.Watch, c.peers)
				for i := range peers {
					peers[i] = w.Watch(t.Context(), false)
				}
				for range 20 {
					time.Sleep(time.Second)
					slow.Moved(c.speed << 10)
					for _, p := range peers {
						p.Moved(100 << 10)
					}
				}
				err := slow.End(slow.Context().Err())
				assert.Equal(t, c.ended, watchdog.IsSlow(err))
				for _, p := range peers {
					require.NoError(t, p.End(nil))
				}
			})
		})
	}
}

func TestWatchKeepsOtherErrors(t *testing.T) {
	w := watchdog.New(time.Second, nil)
	ours := errors.New("ours")
	assert.Same(t, ours, w.Watch(t.Context(), false).End(ours))
}

// A request that has all it wanted has succeeded, though the watchdog has ended it.
func TestSuccessStandsAfterTheWatchdog(t *testing.T) {
	watched(t, time.Second, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
		a := w.Watch(t.Context(), false)
		<-a.Context().Done()
		assert.NoError(t, a.End(nil))
	})
}

// One request as the watchdog sees it.
func BenchmarkWatch(b *testing.B) {
	w := watchdog.New(time.Minute, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a := w.Watch(b.Context(), false)
			a.Moved(128 << 10)
			_ = a.End(nil)
		}
	})
}

// Requests that share a link wait for it while others move what buffers may hold, and no longer.
func TestE19WaitingForTheLinkIsNoStall(t *testing.T) {
	for name, c := range map[string]struct{ others, seconds int }{
		"slow link":       {100 << 10, 30}, // 2 MiB in 20 s, and then 10 s
		"quick link":      {10 << 20, 10},
		"nobody moves":    {0, 10},
		"slower than all": {1 << 10, 200},
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, 10*time.Second, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
				start := time.Now()
				silent, other := w.Watch(t.Context(), true), w.Watch(t.Context(), true)
				for silent.Context().Err() == nil && time.Since(start) < 200*time.Second {
					other.Moved(c.others)
					time.Sleep(time.Second)
				}
				assert.InDelta(t, c.seconds, time.Since(start).Seconds(), 2.5)
				_ = silent.End(nil)
				_ = other.End(nil)
			})
		})
	}
}

// A request that has moved next to nothing says nothing of how fast others are, though it is the first of all
// that could be judged: it is ended when the first of its peers has said that.
func TestN9FirstOfAllIsTheSlowOne(t *testing.T) {
	watched(t, 10*time.Second, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
		start := time.Now()
		slow := w.Watch(t.Context(), false)
		time.Sleep(time.Second)
		peer := w.Watch(t.Context(), false)
		for slow.Context().Err() == nil && time.Since(start) < time.Minute {
			slow.Moved(100)
			peer.Moved(100 << 10)
			time.Sleep(time.Second)
		}
		assert.InDelta(t, 7, time.Since(start).Seconds(), 1)
		assert.True(t, watchdog.IsSlow(slow.End(slow.Context().Err())))
		_ = peer.End(nil)
	})
}

// Requests that share a slow link are compared when each has had its share of it: until then one has got a
// portion, and another none.
func TestE19SharesOfASlowLinkAreNotSlow(t *testing.T) {
	watched(t, time.Hour, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
		for range 9 {
			w.Speeds.Record(1 << 10)
		}
		start := time.Now()
		late, other := w.Watch(t.Context(), false), w.Watch(t.Context(), false)
		late.Moved(1)
		for late.Context().Err() == nil && time.Since(start) < 2*time.Minute {
			other.Moved(1 << 10)
			time.Sleep(time.Second)
			if time.Since(start) < time.Minute {
				assert.False(t, w.TakeOver(true, time.Since(start), 0, false), "%v", time.Since(start))
			}
		}
		assert.InDelta(t, 64, time.Since(start).Seconds(), 2)
		assert.True(t, w.TakeOver(true, time.Since(start), 0, false))
		assert.True(t, watchdog.IsSlow(late.End(late.Context().Err())))
		_ = other.End(nil)
	})
}

// What leaves the kernel moves, though nothing more is given to it.
func TestE19DrainingIsNoStall(t *testing.T) {
	watched(t, time.Second, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
		start := time.Now()
		a := w.Watch(t.Context(), true)
		a.Drains(func() int64 { return min(time.Since(start), 10*time.Second).Milliseconds() })
		<-a.Context().Done()
		require.ErrorIs(t, a.End(a.Context().Err()), watchdog.ErrStalled)
		assert.InDelta(t, 11, time.Since(start).Seconds(), 0.5)
	})
}

// A first byte may wait for the link: no new connection is faster while the others move what buffers may
// hold.
func TestE19FirstByteThatWaitsForTheLinkIsNotTakenOver(t *testing.T) {
	const age = 11 * time.Second // more than a third of the timeout
	for name, c := range map[string]struct {
		others int // bytes a second
		taken  bool
	}{"slow link": {50 << 10, false}, "fast link": {10 << 20, true}, "nothing moves": {0, true}} {
		t.Run(name, func(t *testing.T) {
			watched(t, 30*time.Second, 0, func(t *testing.T, w *watchdog.Watchdog, _ *pace.Limiter) {
				peer := w.Watch(t.Context(), true)
				peer.Moved(1)
				for range 12 {
					time.Sleep(time.Second)
					peer.Moved(c.others)
				}
				assert.Equal(t, c.taken, w.TakeOver(false, age, 0, false))
				require.NoError(t, peer.End(nil))
			})
		})
	}
}
