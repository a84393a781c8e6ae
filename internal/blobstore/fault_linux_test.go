package blobstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// mount mounts a tmpfs of so many MiB.
func mount(t *testing.T, size int) string {
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size))
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

func TestS1FullDisk(t *testing.T) {
	t.Parallel()
	dir := mount(t, 1)
	for _, size := range []int{2 << 20, large} {
		content := random(size)
		large := size == large
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
		assert.Equal(t, filepath.Join(dir, p.data.name), pe.Path)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorIs(t, w.Close(), syscall.ENOSPC)
		require.ErrorIs(t, p.Commit(t.Context()), syscall.ENOSPC)
		require.NoError(t, p.Close(true))
		require.NoError(t, d.Close())
		if !large {
			assert.Empty(t, files(t, dir))
		}
	}
}

// fillDisk writes a file that takes all the space that is left.
func fillDisk(t *testing.T, dir string) (remove func()) {
	hog, err := os.Create(filepath.Join(dir, "hog"))
	require.NoError(t, err)
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, hog.Close())
	return func() { require.NoError(t, os.Remove(hog.Name())) }
}

// S1: what was written before the disk was full is not fetched again.
func TestS1FullDiskKeepsWhatIsRecorded(t *testing.T) {
	t.Parallel()
	content := random(large)
	const step = 1 << 10
	for what, write := range map[string]func(t *testing.T, p *Partial, fill func() func()) (removeHog func()){
		"no space for data": func(t *testing.T, p *Partial, fill func() func()) func() {
			other := p.WriterAt(20e6)
			_, err := other.Write(content[20e6:20.1e6])
			require.NoError(t, err)
			w := p.WriterAt(0)
			_, err = w.Write(content[:5e6])
			require.NoError(t, err)
			remove := fill()
			_, err = w.Write(content[5e6:6e6])
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.True(t, NoSpace(err))
			require.ErrorIs(t, w.Close(), syscall.ENOSPC)
			require.ErrorIs(t, other.Close(), syscall.ENOSPC)
			missing := []pieces.Range{{Start: 5e6, End: 20e6}, {Start: 20.1e6, End: large}}
			require.Equal(t, missing, p.Missing(), "also what was not recorded yet")
			return remove
		},
		"no space for the journal": func(t *testing.T, p *Partial, fill func() func()) func() {
			at := int64(0)
			for ; at < 100*step; at += step {
				write(t, p, content, at, at+step)
			}
			w := p.WriterAt(100 * step)
			_, err := w.Write(content[100*step : 1e6]) // space for the data
			require.NoError(t, err)
			require.NoError(t, w.Close())
			other := p.WriterAt(25e6)
			_, err = other.Write(content[25e6:25.1e6])
			require.NoError(t, err)
			remove := fill()
			at = 1e6 // in a page that has its block
			for err = nil; err == nil; at += 1 {
				w := p.WriterAt(at)
				if _, err = w.Write(content[at : at+1]); err == nil {
					err = w.Close()
				}
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
			remove()
			require.ErrorIs(t, other.Close(), syscall.ENOSPC, "recorded behind the record that was cut off")
			return fill()
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := mount(t, 40)
			d, err := Open(dir)
			require.NoError(t, err)
			p := claim(t, d, content)
			removeHog := write(t, p, func() func() { return fillDisk(t, dir) })
			_, err = p.WriterAt(30e6).Write(content[30e6:31e6])
			require.ErrorIs(t, err, syscall.ENOSPC, "one failure is enough")
			require.ErrorIs(t, p.Commit(t.Context()), syscall.ENOSPC)
			missing := p.Missing()
			require.NoError(t, p.Close(true))

			again := claim(t, d, content) // on a disk that is still full
			assert.Equal(t, missing, again.Missing())
			require.NoError(t, again.Close(true))
			removeHog()
			p = claim(t, d, content)
			assert.Equal(t, missing, p.Missing())
			fill(t, p, content)
			commit(t, p)
			requireBlob(t, dir, content)
			require.NoError(t, d.Close())
		})
	}
}

// S1: a prefix of an older program stays where it is while there is no space for its journal.
func TestS1FullDiskKeepsThePrefix(t *testing.T) {
	t.Parallel()
	content, dir := random(large), mount(t, 40)
	name := nameOf(digestOf(content))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+prefixSuffix), content[:5e6], 0o644))
	d, err := Open(dir)
	require.NoError(t, err)
	removeHog := fillDisk(t, dir)
	_, err = d.Claim(t.Context(), digestOf(content), large)
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.EqualValues(t, 5e6, d.BytesOnDisk(digestOf(content), large))
	removeHog()
	p := claim(t, d, content)
	assert.Equal(t, []pieces.Range{{Start: 5e6, End: large}}, p.Missing())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
	require.NoError(t, d.Close())
}

func TestS4ReadOnlyFileSystem(t *testing.T) {
	dir := mount(t, 1)
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	d, err := Open(dir)
	require.NoError(t, err)
	_, err = d.Claim(t.Context(), digestOf(nil), 0)
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	require.ErrorIs(t, err, syscall.EROFS)
	require.NoError(t, d.Close())
}
