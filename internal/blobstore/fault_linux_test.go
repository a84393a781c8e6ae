package blobstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mount mounts a tmpfs of 1 MiB.
func mount(t *testing.T) string {
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

func TestS1FullDisk(t *testing.T) {
	dir := mount(t)
	for _, size := range []int{2 << 20, large} {
		content := random(size)
		d, err := Open(dir)
		require.NoError(t, err)
		free, known := d.Free()
		assert.True(t, known)
		assert.LessOrEqual(t, free, int64(1<<20))
		p := claim(t, d, content)
		w := p.WriterAt(0)
		_, err = w.Write(content)
		var pe *fs.PathError
		require.ErrorAs(t, err, &pe)
		assert.Equal(t, filepath.Join(dir, p.data), pe.Path)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorIs(t, w.Close(), syscall.ENOSPC)
		require.ErrorIs(t, p.Commit(t.Context()), syscall.ENOSPC)
		require.NoError(t, p.Close(true))
		require.NoError(t, d.Close())
		assert.Empty(t, files(t, dir))
	}
}

func TestS4ReadOnlyFileSystem(t *testing.T) {
	dir := mount(t)
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	d, err := Open(dir)
	require.NoError(t, err)
	_, err = d.Claim(t.Context(), digest.FromBytes(nil), 0)
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	require.ErrorIs(t, err, syscall.EROFS)
	require.NoError(t, d.Close())
}
