package pack_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHashingNeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	const count = 300
	for i := range count {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("x"), 0o600))
	}
	files, err := pack.Walk([]string{dir}, pack.Choice{})
	require.NoError(t, err)
	var mu sync.Mutex
	var told []int64
	digests, err := pack.Hash(t.Context(), files, func(done, total int64) {
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		told = append(told, done)
		assert.EqualValues(t, count, total)
	})
	require.NoError(t, err)
	assert.Len(t, digests, count)
	assert.True(t, slices.IsSorted(told))
	assert.EqualValues(t, count, told[len(told)-1])
}

// A container may have TMPDIR from where it was started, and not the directory.
func TestAStageNeedsNoTMPDIR(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	for _, dir := range []string{filepath.Join(cache, "none"), ""} {
		t.Setenv("TMPDIR", dir)
		stage, err := pack.NewStage()
		require.NoError(t, err)
		assert.DirExists(t, stage.Dir)
		require.NoError(t, stage.Close())
		assert.NoDirExists(t, stage.Dir)
	}
}
