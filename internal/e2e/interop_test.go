package e2e

import (
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// mixedSizes are around the borders at which a client may change its ways.
var mixedSizes = []int{1, 2, 4095, 4096, 64 * kib, mib - 1, mib, mib + 1, 5*mib + 3, 40*mib + 7}

func TestRoundTripAtEveryRegistry(t *testing.T) {
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			blobs := addBlobs(t, src, 100, mixedSizes...)
			push(t, upload(s, src, blobs))
			assert.Equal(t, sumOf(blobs), sumReceived(s.seen(byLibrary)), "bytes sent")

			p := newPeer(t, s, repository)
			for _, b := range blobs {
				p.requireBlob(t, src, b)
			}
			s.forget()
			pull(t, download(s, dst, blobs))
			requireSame(t, src, dst, blobs)
			if s.client != nil {
				assert.Equal(t, "HTTP/2.0", s.seen(byLibrary)[0].proto)
			}
		})
	}
}

func TestBlobsOfAnotherClient(t *testing.T) {
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			blobs := addBlobs(t, src, 200, mixedSizes...)
			p := newPeer(t, s, repository)
			for i, b := range blobs {
				p.writeBlob(t, randomBytes(t, 200+uint64(i), int(b.Size)))
			}
			s.forget()
			pull(t, download(s, dst, blobs))
			requireSame(t, src, dst, blobs)
		})
	}
}

func TestEmptyBlobAtEveryRegistry(t *testing.T) {
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			blobs := []transfer.Blob{addBlob(t, src, nil)}
			push(t, upload(s, src, blobs))
			pull(t, download(s, dst, blobs))
			requireSame(t, src, dst, blobs)
		})
	}
}

func TestMissingBlobIsAnError(t *testing.T) {
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			blobs := addBlobs(t, src, 1, 1000)
			err := transfer.Download(t.Context(), download(s, dst, blobs))
			var refused *transfer.StatusError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, http.StatusNotFound, refused.StatusCode)
			var about *transfer.BlobError
			require.ErrorAs(t, err, &about)
			assert.Equal(t, blobs[0].Digest, about.Digest)
			assert.NoFileExists(t, pathOf(dst, blobs[0]))
			assert.Len(t, s.seen(byLibrary), 1, "404 is final")
		})
	}
}

func TestCorruptSourceNeverReachesTheRegistry(t *testing.T) {
	s := newDistribution(t).serve(t)
	src := t.TempDir()
	blobs := addBlobs(t, src, 1, 100_000, 6*mib)
	for _, b := range blobs {
		content, err := os.ReadFile(pathOf(src, b))
		require.NoError(t, err)
		content[len(content)/2] ^= 1
		require.NoError(t, os.WriteFile(pathOf(src, b), content, 0o644))
		err = transfer.Upload(t.Context(), upload(s, src, []transfer.Blob{b}))
		require.ErrorIs(t, err, transfer.ErrDigestMismatch)
	}
	err := transfer.Download(t.Context(), download(s, t.TempDir(), blobs))
	var refused *transfer.StatusError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusNotFound, refused.StatusCode)
}
