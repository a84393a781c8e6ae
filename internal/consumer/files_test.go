package consumer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// elsewhere moves a blob of the program to another disk and leaves a link. It returns where the blob is then.
func (w *world) elsewhere(l layer, relative bool) string {
	w.t.Helper()
	disk := filepath.Join(filepath.Dir(w.blobs), "disk")
	require.NoError(w.t, os.MkdirAll(disk, 0o755))
	moved := filepath.Join(disk, filepath.Base(w.path(l)))
	require.NoError(w.t, os.Rename(w.path(l), moved))
	target := moved
	if relative {
		target = filepath.Join("..", "disk", filepath.Base(moved))
	}
	if err := os.Symlink(target, w.path(l)); err != nil {
		w.t.Skip("no symbolic links:", err)
	}
	return moved
}

// eachLink runs a test with absolute and relative links, small blobs and large ones.
func eachLink(t *testing.T, test func(t *testing.T, w *world, l layer, relative bool)) {
	for _, c := range []struct {
		size     int
		relative bool
	}{{1000, false}, {1000, true}, {40 << 20, false}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, "registry.test", mode, registrytest.Options{})
				w.blobs = filepath.Join(t.TempDir(), "blobs")
				require.NoError(t, os.Mkdir(w.blobs, 0o755))
				test(t, w, w.local(c.size), c.relative)
			})
		})
	}
}

func requireLink(t *testing.T, path string) {
	t.Helper()
	fi, err := os.Lstat(path)
	require.NoError(t, err)
	require.NotZero(t, fi.Mode()&os.ModeSymlink, "the link is still one")
}

// Users keep their blobs on another disk, with links at their names.
func TestS7LinkedBlobsArePushed(t *testing.T) {
	eachLink(t, func(t *testing.T, w *world, l layer, relative bool) {
		w.elsewhere(l, relative)
		require.NoError(t, w.push(t.Context(), repository, "latest", []layer{l}, manifestOf(t, l), nil))
		w.requirePushed(l)
		requireLink(t, w.path(l))
	})
}

func TestS7LinkedBlobsAreThere(t *testing.T) {
	eachLink(t, func(t *testing.T, w *world, l layer, relative bool) {
		w.elsewhere(l, relative)
		w.stored(repository, l)
		other := w.remote(500)
		require.NoError(t, w.pull(t.Context(), repository, []layer{l, other}, nil))
		assert.Equal(t, 0, w.reg.Count("", l.Digest), "it is not fetched")
		requireLink(t, w.path(l))
		w.requirePulled(l, other)
	})
}

// Verify hashes what a link leads to. What is wrong replaces the link, and stays as it is where it is.
func TestS7WrongBlobReplacesItsLink(t *testing.T) {
	eachLink(t, func(t *testing.T, w *world, l layer, relative bool) {
		moved := w.elsewhere(l, relative)
		w.stored(repository, l)
		wrong := make([]byte, l.Size)
		require.NoError(t, os.WriteFile(moved, wrong, 0o644))
		require.NoError(t, transfer.Download(t.Context(), transfer.DownloadOptions{
			Blobs: blobsOf([]layer{l}), BaseURL: w.base.String(), DestDir: w.blobs, Repository: repository,
			Client: w.client, Verify: true,
		}))
		w.requirePulled(l)
		fi, err := os.Lstat(w.path(l))
		require.NoError(t, err)
		assert.True(t, fi.Mode().IsRegular())
		kept, err := os.ReadFile(moved)
		require.NoError(t, err)
		assert.Equal(t, wrong, kept, "nothing is written through a link")
	})
}

// Also the directory itself may be a link.
func TestS7LinkedDirectory(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{})
		link := filepath.Join(t.TempDir(), "blobs")
		if err := os.Symlink(w.blobs, link); err != nil {
			t.Skip("no symbolic links:", err)
		}
		w.blobs = link
		own, there := w.local(1000), w.remote(2000)
		require.NoError(t, w.push(t.Context(), repository, "latest", []layer{own}, manifestOf(t, own), nil))
		require.NoError(t, w.pull(t.Context(), repository, []layer{own, there}, nil))
		w.requirePulled(own, there)
	})
}
