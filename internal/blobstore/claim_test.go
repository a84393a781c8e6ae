package blobstore

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// S12: the data file may be renamed or removed by the holder before, until it is locked.
func TestS12FileThatLosesItsNameBeforeItIsLocked(t *testing.T) {
	for what, meddle := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o644))
		},
	} {
		t.Run(what, func(t *testing.T) {
			content, dir := random(1000), t.TempDir()
			d := open(t, dir)
			path := filepath.Join(dir, nameOf(digestOf(content))+partialSuffix)
			locked := 0
			d.folder.lock = func(f *os.File) error {
				if locked++; locked == 1 {
					require.NoError(t, meddle(path))
				}
				return filelock.Lock(f)
			}
			_, err := d.tryClaim(t.Context(), digestOf(content), 1000, 0)
			require.ErrorIs(t, err, rootfile.ErrReplaced)
			p := claim(t, d, content)
			fill(t, p, content)
			commit(t, p)
			requireBlob(t, dir, content)
		})
	}
}

// S12: who waits does not get the file while the holder gives it its final name, and so cannot cut it.
func TestS12NobodyComesBetweenTheLastByteAndTheName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	for i := range 100 {
		content := random(100 + i)
		dg := digestOf(content)
		p := claim(t, d, content)
		fill(t, p, content)
		done := make(chan struct{})
		var others sync.WaitGroup
		for range 2 {
			others.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if other, err := d.tryClaim(t.Context(), dg, int64(len(content)), 0); err == nil {
						assert.NoError(t, other.Close(false))
						assert.Fail(t, "claimed before it had its name")
						return
					}
				}
			})
		}
		err := p.Commit(t.Context())
		close(done)
		others.Wait()
		require.NoError(t, err)
		require.NoError(t, p.Close(false))
		ok, err := d.Check(t.Context(), dg, int64(len(content)))
		require.NoError(t, err)
		require.True(t, ok)
	}
}

// S12: a data file with a name of its own is not taken for a stale file while it is written.
func TestS12UniqueFileOfAnotherIsNotSwept(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	name := nameOf(digestOf(content))
	for n := range sharedNames { // so that none can be shared
		require.NoError(t, os.Mkdir(filepath.Join(dir, dataName(name, n)), 0o755))
	}
	first := claim(t, open(t, dir), content)
	second := claim(t, open(t, dir), content)
	fill(t, first, content)
	commit(t, first)
	got, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	assert.Equal(t, content, got)
	fill(t, second, content)
	commit(t, second)
	assert.Len(t, files(t, dir), 1+sharedNames)
}

// S11: a prefix that another program is still writing is left to it.
func TestS11PrefixInUseIsLeftAlone(t *testing.T) {
	content, dir := random(100_000), t.TempDir()
	name := nameOf(digestOf(content))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+prefixSuffix), content[:600], 0o644))
	held, err := os.OpenFile(filepath.Join(dir, name+prefixSuffix), os.O_RDWR, 0)
	require.NoError(t, err)
	defer held.Close()
	require.NoError(t, filelock.Lock(held))
	p := claim(t, open(t, dir), content)
	assert.Equal(t, []pieces.Range{{Start: 0, End: 100_000}}, p.Missing())
	assert.Contains(t, files(t, dir), name+prefixSuffix)
	fill(t, p, content)
	commit(t, p)
}

// S12: nobody needs a partial whose blob is finished.
func TestS12PartialOfAFinishedBlobIsRemoved(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	write(t, p, content, 0, 1e6)
	require.NoError(t, p.Close(true))
	name := nameOf(digestOf(content))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	_, err := d.Claim(t.Context(), digestOf(content), large)
	require.ErrorIs(t, err, ErrThere)
	assert.NotContains(t, files(t, dir), name+partialSuffix)
}

// S14: the prefix that an older program has left beside a partial goes when the blob has its name.
func TestS14PrefixBesideAPartialIsSwept(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	name := nameOf(digestOf(content))
	for _, suffix := range []string{partialSuffix, prefixSuffix} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+suffix), content[:10], 0o644))
	}
	p := claim(t, open(t, dir), content)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}
