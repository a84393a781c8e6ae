package transfer

import (
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
