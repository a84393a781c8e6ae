package pack_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A file that is named and excluded is left out, also where each path is one layer; nothing is no model.
func TestWhatIsNamedAndExcludedIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"notes.txt", "weights.bin"} {
		paths = append(paths, filepath.Join(dir, name))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	stage, err := pack.NewStage()
	require.NoError(t, err)
	defer stage.Close()
	some := pack.Choice{Exclude: []string{"*.txt"}}
	part, err := stage.Archives(t.Context(), paths, pack.Options{}, some)
	require.NoError(t, err)
	assert.Contains(t, string(part.Manifest), "weights.bin")
	assert.NotContains(t, string(part.Manifest), "notes.txt")
	files, err := pack.Walk(paths, some)
	require.NoError(t, err)
	assert.Len(t, files, 1)

	all := pack.Choice{Exclude: []string{"*"}}
	_, err = stage.Archives(t.Context(), paths, pack.Options{}, all)
	require.ErrorIs(t, err, pack.ErrEmpty)
	_, err = pack.Walk(paths, all)
	require.ErrorIs(t, err, pack.ErrEmpty)
}

// Who has made a directory may have meant what belongs to it and is nobody's business, such as a token in
// .git/config.
func TestH12LinksToWhatIsLeftOutAreNotFollowed(t *testing.T) {
	for _, target := range []string{".git/config", "sub/.GIT/x", ".transfer/record.json", "../outside"} {
		dir := filepath.Join(t.TempDir(), "dir")
		path := filepath.Join(dir, filepath.FromSlash(target))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(path, []byte("token"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
		if err := os.Symlink(path, filepath.Join(dir, "weights.bin")); err != nil {
			t.Skip(err)
		}
		_, err := pack.Walk([]string{dir}, pack.Choice{})
		require.ErrorIs(t, err, pack.ErrLink, target)
		_, err = pack.Walk([]string{dir}, pack.Choice{Exclude: []string{"weights.bin"}})
		require.NoError(t, err)
		files, err := pack.Walk([]string{dir}, pack.Choice{FollowLinks: true})
		require.NoError(t, err)
		assert.Equal(t, "weights.bin", files[len(files)-1].Title)
	}
}
