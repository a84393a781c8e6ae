package pace

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const largeBody = startBytes / fewBodies

// acquire returns whether there was a slot for a body at once, and then takes it.
func acquire(t *testing.T, l *BodyLimiter, size int64) (*Slot, bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var slot *Slot
	var wg sync.WaitGroup
	wg.Go(func() { slot, _ = l.Acquire(ctx, size) })
	synctest.Wait()
	cancel()
	wg.Wait()
	return slot, slot != nil
}

func TestSmallBodiesDoNotWaitForLargeOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewBodyLimiter(64, false)
		var taken []*Slot
		for range fewBodies {
			slot, ok := acquire(t, l, largeBody)
			require.True(t, ok)
			taken = append(taken, slot)
		}
		assert.Equal(t, fewBodies, l.Large())
		_, ok := acquire(t, l, largeBody)
		require.False(t, ok, "no slot for more large ones")
		for range 64 - fewBodies {
			slot, ok := acquire(t, l, 1000)
			require.True(t, ok)
			showQuick(slot)
			taken = append(taken, slot)
		}
		_, ok = acquire(t, l, 1000)
		assert.False(t, ok, "no more at once than that in all")
		for _, slot := range taken {
			slot.Release()
			slot.Release() // counts once
		}
		for range 64 {
			_, ok := acquire(t, l, 1000)
			assert.True(t, ok)
		}
		_, ok = acquire(t, l, largeBody)
		assert.False(t, ok)
	})
}

func TestBodyLimiterEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewBodyLimiter(1, false)
		_, ok := acquire(t, l, largeBody)
		require.True(t, ok)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := l.Acquire(ctx, 1000)
			assert.ErrorIs(t, err, cause)
		})
		synctest.Wait()
		cancel(cause)
		wg.Wait()
		assert.Zero(t, l.small.active)
	})
}

func TestFixedBodyLimiterHasOneLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewBodyLimiter(2, true)
		for _, size := range []int64{1000, largeBody} {
			_, ok := acquire(t, l, size)
			require.True(t, ok)
		}
		_, ok := acquire(t, l, 1000)
		assert.False(t, ok)
		l.Overloaded()
		assert.Equal(t, 2, l.Large())
	})
}

func TestOverloadHalvesBothLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewBodyLimiter(64, false)
		for _, size := range []int64{1000, largeBody} {
			slot, ok := acquire(t, l, size)
			require.True(t, ok)
			showQuick(slot)
			slot.Release()
		}
		l.Overloaded()
		assert.Equal(t, 32, l.small.limit)
		assert.Equal(t, fewBodies/2, l.Large())
	})
}

// What small bodies move counts when the number of large ones is judged, or a link that they fill would
// seem to have a free slot.
func TestLargeBodiesAreJudgedByWhatAllMove(t *testing.T) {
	l := NewBodyLimiter(64, false)
	large, err := l.Acquire(t.Context(), largeBody)
	require.NoError(t, err)
	small, err := l.Acquire(t.Context(), 1000)
	require.NoError(t, err)
	large.Moved(1)
	small.Moved(1000)
	assert.EqualValues(t, 1001, l.large.controller.epoch.bytes)
}
