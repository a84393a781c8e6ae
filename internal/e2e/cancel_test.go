package e2e

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// cancelSizes are one blob in pieces and some small ones.
var cancelSizes = []int{64 * mib, 100_000, 100_001, 100_002, mib, 2 * mib}

// The call is cancelled when it has this much, or when the dam has run dry, which it
// does before the call can end.
const (
	cancelDam   = 56 * mib
	cancelAfter = 32 * mib
)

func TestDownloadCancelledInTheMiddleGoesOn(t *testing.T) {
	d := newDam(newDistribution(t).handler(t))
	s := serve(t, d, false)
	src, dst := t.TempDir(), t.TempDir()
	blobs := addBlobs(t, src, 1, cancelSizes...)
	push(t, upload(s, src, blobs))
	s.forget()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.close(t, cancelDam, cancel)
	opts := download(s, dst, blobs)
	var last int64
	opts.Progress = func(completed, _ int64) {
		last = completed
		if completed >= cancelAfter {
			cancel()
		}
	}
	require.ErrorIs(t, transfer.Download(ctx, opts), context.Canceled)
	d.open()
	s.forget()

	start := int64(-1)
	opts.Progress = func(completed, _ int64) {
		if start < 0 {
			start = completed
		}
	}
	pull(t, opts)
	requireSame(t, src, dst, blobs)
	assert.Greater(t, last, int64(8*mib), "the first run got somewhere")
	assert.GreaterOrEqual(t, start, last-sumOf(blobs[1:]),
		"what was fetched is there, but for small blobs that were half there")
	assert.LessOrEqual(t, sumSent(s.seen(byLibrary)), sumOf(blobs)-start+slack, "fetched again")
}

func TestUploadCancelledInTheMiddleGoesOn(t *testing.T) {
	d := newDam(newDistribution(t).handler(t))
	s := serve(t, d, false)
	src, dst := t.TempDir(), t.TempDir()
	blobs := addBlobs(t, src, 1, cancelSizes...)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.close(t, cancelDam, cancel)
	opts := upload(s, src, blobs)
	opts.Progress = func(completed, _ int64) {
		if completed >= cancelAfter {
			cancel()
		}
	}
	require.ErrorIs(t, transfer.Upload(ctx, opts), context.Canceled)
	d.open()
	before := stored(t, s)
	assert.NotContains(t, before, blobs[0].Digest)

	opts.Progress = nil
	push(t, opts)
	// A blob may be in neither list: distribution also fails after it has stored one for who is gone.
	for _, sent := range stored(t, s)[len(before):] {
		assert.NotContains(t, before, sent, "sent again")
	}
	pull(t, download(s, dst, blobs))
	requireSame(t, src, dst, blobs)
}

// stored are the digests of the uploads that the registry has confirmed.
func stored(t testing.TB, s *server) (digests []string) {
	t.Helper()
	for _, e := range s.seen(kind(kindUpload), status(http.StatusCreated)) {
		query, err := url.ParseQuery(e.query)
		require.NoError(t, err)
		digests = append(digests, query.Get("digest"))
	}
	return digests
}
