package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAgainMovesNothing(t *testing.T) {
	s := newDistribution(t).serve(t)
	src, dst := t.TempDir(), t.TempDir()
	blobs := addBlobs(t, src, 1, 10, 70_000, 2*mib, 35*mib)
	var last [2]int64
	remember := func(completed, total int64) { last = [2]int64{completed, total} }
	total := sumOf(blobs)

	push(t, upload(s, src, blobs))
	s.forget()
	opts := upload(s, src, blobs)
	opts.Progress = remember
	push(t, opts)
	assert.Zero(t, sumReceived(s.seen(byLibrary)), "bytes sent again")
	assert.Len(t, s.seen(byLibrary, method(http.MethodHead), kind(kindBlob)), len(blobs))
	assert.Len(t, s.seen(byLibrary), len(blobs), "one question for each blob and no more")
	assert.Equal(t, [2]int64{total, total}, last)

	pull(t, download(s, dst, blobs))
	requireSame(t, src, dst, blobs)
	s.forget()
	last = [2]int64{}
	again := download(s, dst, blobs)
	again.Progress = remember
	pull(t, again)
	assert.Empty(t, s.seen(byLibrary), "requests for what is there")
	assert.Equal(t, [2]int64{total, total}, last)
}

func TestAgainWithOneBlobMore(t *testing.T) {
	s := newDistribution(t).serve(t)
	src, dst := t.TempDir(), t.TempDir()
	blobs := addBlobs(t, src, 1, 10, 70_000, 2*mib)
	push(t, upload(s, src, blobs[:2]))
	pull(t, download(s, dst, blobs[:2]))
	s.forget()

	push(t, upload(s, src, blobs))
	assert.Equal(t, blobs[2].Size, sumReceived(s.seen(byLibrary)))
	s.forget()
	pull(t, download(s, dst, blobs))
	requireSame(t, src, dst, blobs)
	assert.Equal(t, blobs[2].Size, sumSent(s.seen(byLibrary)))
	require.Len(t, s.seen(byLibrary), 1)
}
