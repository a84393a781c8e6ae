package blobstore

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// S21: stale files go when the blob is there, also when it was there from the start.
func TestS21LeftoversOfAFinishedBlobAreRemoved(t *testing.T) {
	content := random(1000)
	dg := digestOf(content)
	name := nameOf(dg)
	for what, find := range map[string]func(d *Dir) (bool, error){
		"Has":   func(d *Dir) (bool, error) { return d.Has(dg, 1000) },
		"Check": func(d *Dir) (bool, error) { return d.Check(t.Context(), dg, 1000) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
			suffixes := []string{".tmp", ".partial", ".journal", ".partial-dead", ".partial.1", ".journal.1"}
			for _, suffix := range suffixes {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name+suffix), nil, 0o644))
			}
			held, err := os.OpenFile(filepath.Join(dir, name+".partial.2"), os.O_RDWR|os.O_CREATE, 0o644)
			require.NoError(t, err)
			defer held.Close()
			require.NoError(t, filelock.Lock(held))
			ok, err := find(open(t, dir))
			require.NoError(t, err)
			require.True(t, ok)
			left := files(t, dir)
			assert.ElementsMatch(t, []string{name, name + ".partial.2"}, left)
		})
	}
}

// S21: where files cannot be locked, age tells what a killed process has left.
func TestS21LeftoversAreToldByTheirAge(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	name := nameOf(digestOf(content))
	for suffix, age := range map[string]time.Duration{
		"old": abandonedAfter + time.Hour, "new": abandonedAfter - time.Hour,
	} {
		path := filepath.Join(dir, name+uniqueSuffix+suffix)
		require.NoError(t, os.WriteFile(path, nil, 0o644))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	d := open(t, dir)
	d.folder.lock = func(*os.File) error { return filelock.ErrUnsupported }
	p := claim(t, d, content)
	fill(t, p, content)
	commit(t, p)
	assert.ElementsMatch(t, []string{name, name + uniqueSuffix + "new"}, files(t, dir))
}

// S12: what has taken the name of the data file meanwhile neither becomes the blob nor is removed.
func TestS12DataFileThatHasLostItsName(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	p := claim(t, open(t, dir), content)
	fill(t, p, content)
	path := filepath.Join(dir, p.data.name)
	require.NoError(t, os.Rename(path, path+"x"))
	require.NoError(t, os.WriteFile(path, []byte("theirs"), 0o644))
	require.ErrorIs(t, p.Commit(t.Context()), rootfile.ErrReplaced)
	require.NoError(t, p.Close(true))
	assert.ElementsMatch(t, []string{filepath.Base(path), filepath.Base(path) + "x"}, files(t, dir))
}
