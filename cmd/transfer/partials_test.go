//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/pack"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLargeBlobsAreSeenOnDisk(t *testing.T) {
	dir := t.TempDir()
	blobs := []transfer.Blob{{Digest: someDigest, Size: 64 << 20}, {Digest: "malformed", Size: 64 << 20}}
	f, err := os.Create(filepath.Join(dir, pack.BlobName(someDigest)+partialSuffix))
	require.NoError(t, err)
	defer f.Close()
	synctest.Test(t, func(t *testing.T) {
		see := partials(dir, blobs, map[string]string{someDigest: "model.gguf"})
		assert.Empty(t, see(), "nothing is written yet")
		require.NoError(t, f.Truncate(64<<20)) // a hole is not written
		_, err = f.WriteAt(make([]byte, 1<<20), 32<<20)
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		assert.Empty(t, see(), "it is not looked at all the time")
		time.Sleep(time.Second)
		seen := see()
		require.Len(t, seen, 1)
		assert.Equal(t, "model.gguf", seen[0].Name)
		assert.EqualValues(t, 64<<20, seen[0].Total)
		assert.GreaterOrEqual(t, seen[0].Done, int64(1<<20))
		assert.Less(t, seen[0].Done, int64(32<<20))
	})
	unnamed := look(dir, blobs[:1], nil)
	require.Len(t, unnamed, 1)
	assert.Equal(t, "sha256:e3b0c44298fc", unnamed[0].Name)
}
