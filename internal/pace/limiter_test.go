package pace

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNilLimitsNothing(t *testing.T) {
	l := New(0)
	assert.Nil(t, l)
	assert.EqualValues(t, 1000, l.Chunk(1000))
	assert.NoError(t, l.Pay(t.Context(), 1<<30))
}

func TestChunksAreSmallEnoughToFlow(t *testing.T) {
	assert.EqualValues(t, 20_000, New(1_000_000).Chunk(1<<20))
	assert.EqualValues(t, 100, New(1_000_000).Chunk(100))
	assert.EqualValues(t, minChunk, New(1).Chunk(1<<20))
}

// flow has workers move bytes through the limiter for a time, and returns how
// many each moved.
func flow(t *testing.T, l *Limiter, workers int, d time.Duration) []int {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	moved := make([]int, workers)
	var wg sync.WaitGroup
	for i := range moved {
		wg.Go(func() {
			for n := int(l.Chunk(256 << 10)); l.Pay(ctx, n) == nil; {
				moved[i] += n
			}
		})
	}
	wg.Wait()
	return moved
}

func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		assert.False(t, New(0).Full())
		l := New(1000)
		assert.False(t, l.Full())
		flow(t, l, 2, time.Second)
		assert.True(t, l.Full())
		time.Sleep(time.Second)
		assert.False(t, l.Full())
	})
}

func TestOneCapForAllAndFairShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, workers = 1 << 20, 16
		l := New(rate)
		var sum int
		shares := flow(t, l, workers, time.Minute)
		for _, n := range shares {
			sum += n
		}
		for _, n := range shares {
			assert.InEpsilon(t, sum/workers, n, 0.1)
		}
		assert.InEpsilon(t, 60*rate, sum, 0.05)
	})
}

func TestIdleTimeIsNotSavedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1 << 20)
		require.NoError(t, l.Pay(t.Context(), 1))
		time.Sleep(time.Hour)
		moved := flow(t, l, 1, time.Second)
		assert.InEpsilon(t, 1<<20, moved[0], 0.15)
	})
}

func TestPayEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		start := time.Now()
		require.ErrorIs(t, New(1).Pay(ctx, 1<<30), cause)
		assert.Equal(t, time.Second, time.Since(start))
	})
}

func TestAReaderKeepsToTheCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := strings.Repeat("x", 10<<10)
		start := time.Now()
		got, err := io.ReadAll(New(1<<10).Reader(t.Context(), strings.NewReader(content)))
		require.NoError(t, err)
		assert.Equal(t, content, string(got))
		assert.InEpsilon(t, 10, time.Since(start).Seconds(), 0.05)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = io.ReadAll(New(1).Reader(ctx, strings.NewReader(content)))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// A call keeps to the lower of its own cap and its share of the one that calls share, and a wait for either
// ends with its context.
func TestALimiterIsSharedByCalls(t *testing.T) {
	assert.Nil(t, New(0).Within(nil))
	for name, c := range map[string]struct {
		own, shared, all int // bytes per second
	}{
		"the shared one is lower":  {100_000, 40_000, 40_000},
		"each call's own is lower": {1000, 1_000_000, 40_000},
		"shared alone":             {0, 40_000, 40_000},
		"own alone":                {1000, 0, 40_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared := New(int64(c.shared))
				var all atomic.Int64
				var wg sync.WaitGroup
				for range 40 {
					wg.Go(func() {
						for _, n := range flow(t, New(int64(c.own)).Within(shared), 1, 20*time.Second) {
							all.Add(int64(n))
						}
					})
				}
				wg.Wait()
				assert.InEpsilon(t, 20*c.all, all.Load(), 0.1)
			})
		})
	}
}

func TestAFullSharedLimiterIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := New(1000)
		one, other := New(1_000_000).Within(shared), New(1_000_000).Within(shared)
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		cancel(cause)
		assert.ErrorIs(t, one.Pay(ctx, 10_000), cause)
		assert.True(t, other.Full(), "because of what the other moved")
		time.Sleep(10 * time.Second)
		assert.False(t, other.Full())
	})
}
