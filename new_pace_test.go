package transfer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestALimiterIsSharedByFortyCalls(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		limiter := transfer.NewLimiter(4 << 20)
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 20 {
			down := w.downloadOptions(w.remote(mebibyte))
			down.DestDir, down.Progress, down.Limiter = fmt.Sprint(down.DestDir, "/", i), nil, limiter
			wg.Go(func() { assert.NoError(t, transfer.Download(t.Context(), down)) })
			up := w.uploadOptions(w.local(mebibyte))
			up.Progress, up.Limiter = nil, limiter
			wg.Go(func() { assert.NoError(t, transfer.Upload(t.Context(), up)) })
		}
		wg.Wait()
		assert.InEpsilon(t, 10, time.Since(start).Seconds(), 0.05)
	})
}

func TestTheLowerOfTwoLimitsRules(t *testing.T) {
	for name, c := range map[string]struct{ own, shared int64 }{
		"its own": {1 << 20, 10 << 20}, "the shared one": {10 << 20, 1 << 20}, "only its own": {1 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				opts := w.downloadOptions(w.remote(10 * mebibyte))
				opts.MaxBytesPerSecond, opts.Limiter = c.own, transfer.NewLimiter(c.shared)
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.InEpsilon(t, 10, took.Seconds(), 0.05)
			})
		})
	}
}

// What one call has used up holds another up, but no longer than its context.
func TestAWaitForASharedLimiterEndsWithTheCall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.remote(10 * mebibyte))
		opts.Limiter = transfer.NewLimiter(1 << 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, transfer.Download(ctx, opts), context.DeadlineExceeded)
		assert.Less(t, time.Since(start), 1100*time.Millisecond)
	})
}
