package transfer

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/retry"
)

func TestTemporaryStatus(t *testing.T) {
	temporary := map[int]bool{
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true,
		520: true, 521: true, 522: true, 523: true, 524: true, 530: true,
	}
	for code := 200; code < 600; code++ {
		assert.Equal(t, temporary[code], (&StatusError{StatusCode: code}).Temporary(), "%d", code)
	}
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for attempt, want := range []time.Duration{200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
			want *= time.Millisecond
			start := time.Now()
			require.NoError(t, backoff(t.Context(), attempt, retry.MaxDelay))
			assert.LessOrEqual(t, time.Since(start), want)
			assert.GreaterOrEqual(t, time.Since(start), want/2)
		}
		for _, attempt := range []int{-1, 63, 64, math.MaxInt} {
			start := time.Now()
			require.NoError(t, backoff(t.Context(), attempt, time.Second))
			assert.InDelta(t, 750*time.Millisecond, time.Since(start), float64(250*time.Millisecond))
		}
		require.NoError(t, backoff(t.Context(), 5, 0))
	})
}

// Every wait ends with the context, for its reason.
func TestBackoffEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := errors.New("ours")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(ours) })
		start := time.Now()
		require.ErrorIs(t, backoff(ctx, 20, time.Hour), ours)
		require.ErrorIs(t, backoff(ctx, 20, time.Hour), ours)
		assert.Equal(t, time.Second, time.Since(start))
	})
}
