package filelock

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, second := open(), open()
	require.NoError(t, Lock(first))
	require.ErrorIs(t, Lock(second), ErrBusy)
	release, err := Keep(first)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	assert.ErrorIs(t, Lock(second), ErrBusy, "kept after the file was closed")
	release()
	assert.NoError(t, Lock(second))
}
