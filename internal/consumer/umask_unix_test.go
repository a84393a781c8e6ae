//go:build unix

package consumer_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// Directories that are shared by a group have what the umask of the program says, no less.
func TestUmask(t *testing.T) {
	for _, c := range []struct {
		umask           int
		file, directory fs.FileMode
	}{{0o002, 0o664, 0o775}, {0o022, 0o644, 0o755}, {0o077, 0o600, 0o700}} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, "registry.test", mode, registrytest.Options{})
			w.blobs = filepath.Join(w.blobs, "models", "blobs")
			layers := []layer{w.remote(0), w.remote(1000), w.remote(40 << 20)}

			before := syscall.Umask(c.umask)
			err := w.pull(t.Context(), repository, layers, nil)
			syscall.Umask(before)

			require.NoError(t, err)
			for _, l := range layers {
				requireMode(t, c.file, w.path(l))
			}
			requireMode(t, c.directory, w.blobs)
			requireMode(t, c.directory, filepath.Dir(w.blobs))
			left, err := os.ReadDir(w.blobs)
			require.NoError(t, err)
			for _, e := range left {
				requireMode(t, c.file, filepath.Join(w.blobs, e.Name()))
			}
		})
	}
}

func requireMode(t *testing.T, want fs.FileMode, path string) {
	t.Helper()
	fi, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, want, fi.Mode().Perm(), path)
}
