package transfer

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/blobstore"
)

func TestI19ConcurrencyIsClamped(t *testing.T) {
	for given, want := range map[int]int{
		math.MinInt: 64, -1: 64, 0: 64, 1: 1, 1024: 1024, 1025: 1024, math.MaxInt: 1024,
	} {
		c, err := newCall(options{baseURL: "http://registry.test", concurrency: given, defaultConcurrency: 64})
		require.NoError(t, err)
		assert.Equal(t, want, c.concurrency, given)
	}
}

// E16: planning ends with the context, however many blobs there are. There is no directory that could be
// looked at.
func TestE16CancelEndsPlanning(t *testing.T) {
	ours := errors.New("the caller's own reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ours)
	c := &call{list: make([]blob, 3)}
	d := &downloader{call: c, missing: []pending{{}}}
	for _, verify := range []bool{false, true} {
		_, err := d.present(ctx, verify)
		require.ErrorIs(t, err, ours)
		require.ErrorIs(t, d.plan(ctx, verify), ours)
	}
	require.ErrorIs(t, (&uploader{call: c}).checkSources(ctx), ours)
}

// E14: a call that was cancelled says so, though there is no room either.
func TestE14CancelledCallSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir, err := blobstore.Open(t.TempDir())
	require.NoError(t, err)
	d := &downloader{call: &call{}, dir: dir, missing: []pending{{blob{size: math.MaxInt64}, 0}}}
	require.ErrorIs(t, d.checkSpace(ctx, math.MaxInt64), context.Canceled)
	require.NoError(t, dir.Close())
}
