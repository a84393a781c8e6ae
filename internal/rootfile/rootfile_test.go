package rootfile_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/rootfile"
)

func root(t *testing.T) (r *os.Root, dir string) {
	t.Helper()
	dir = t.TempDir()
	r, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, dir
}

func TestS8OnlyRegularFilesAreOpened(t *testing.T) {
	r, dir := root(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "directory"), 0o755))
	require.NoError(t, os.Symlink("file", filepath.Join(dir, "link")))
	for name, want := range map[string]error{
		"file": nil, "directory": syscall.EISDIR, "link": rootfile.ErrNotRegular, "nothing": fs.ErrNotExist,
	} {
		f, err := rootfile.Open(r, name, os.O_RDWR)
		require.ErrorIs(t, err, want, name)
		if err == nil {
			require.NoError(t, f.Close())
		}
	}
	for _, name := range []string{"file", "directory", "link"} {
		_, err := rootfile.Create(r, name, 0o666)
		require.ErrorIs(t, err, fs.ErrExist, name)
	}
}

func TestS7LinksAreFollowedToRegularFiles(t *testing.T) {
	_, dir := root(t)
	elsewhere := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(elsewhere, []byte("content"), 0o644))
	for name, target := range map[string]string{
		"good": elsewhere, "directory": dir, "device": os.DevNull, "dangling": "nowhere",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	f, err := rootfile.OpenLinked(filepath.Join(dir, "good"))
	require.NoError(t, err)
	content, err := io.ReadAll(f)
	require.NoError(t, err)
	assert.Equal(t, "content", string(content))
	require.NoError(t, f.Close())
	for name, want := range map[string]error{
		"directory": syscall.EISDIR, "device": rootfile.ErrNotRegular, "dangling": fs.ErrNotExist,
	} {
		_, err := rootfile.OpenLinked(filepath.Join(dir, name))
		require.ErrorIs(t, err, want, name)
	}
}

func TestS12Named(t *testing.T) {
	r, dir := root(t)
	f, err := rootfile.Create(r, "a", 0o666)
	require.NoError(t, err)
	defer f.Close()
	named := func(name string) error {
		_, err := rootfile.Named(r, f, name)
		return err
	}
	require.NoError(t, named("a"))
	require.NoError(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	require.ErrorIs(t, named("a"), rootfile.ErrReplaced)
	require.NoError(t, named("b"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o644))
	require.ErrorIs(t, named("a"), rootfile.ErrReplaced)
}
