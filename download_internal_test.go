package transfer

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// Workers whose last pieces end at the same moment do not both commit the blob.
func TestOneWorkerFinishesABlob(t *testing.T) {
	var d downloader
	f := &fetch{queue: pieces.NewQueue([]pieces.Range{{Start: 0, End: 20}}, 10)}
	one, two := f.queue.Next(0), f.queue.Next(0)
	require.NotNil(t, two)
	one.Claim(10)
	one.Finish()
	assert.False(t, d.complete(f), "a piece is still being fetched")
	two.Claim(10)
	two.Finish()
	assert.True(t, d.complete(f))
	assert.False(t, d.complete(f))
}

func TestI19ConcurrencyIsClamped(t *testing.T) {
	for given, want := range map[int]int{math.MinInt: 64, -1: 64, 0: 64, 1: 1, 1024: 1024, 1025: 1024, math.MaxInt: 1024} {
		s, err := newSession(shared{baseURL: "http://registry.test", concurrency: given, defaultConcurrency: 64, bodyConcurrency: given})
		require.NoError(t, err)
		assert.Equal(t, want, s.concurrency, given)
	}
}
