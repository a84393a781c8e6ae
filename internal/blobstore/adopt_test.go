package blobstore

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/rootfile"
)

// source opens a file with this content.
func source(t *testing.T, content []byte) *os.File {
	path := filepath.Join(t.TempDir(), "earlier")
	require.NoError(t, os.WriteFile(path, content, 0o644))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// waysToCopy are the kernel's and that which works everywhere.
var waysToCopy = map[string]func(dst, src *os.File, to, from, n int64) (int64, error){
	"in the kernel": copyRange,
	"refused": func(_, _ *os.File, _, _, _ int64) (int64, error) {
		return 0, syscall.EXDEV
	},
	"a little at once": func(dst, src *os.File, to, from, n int64) (int64, error) {
		return copyRange(dst, src, to, from, min(n, 100_000))
	},
	"nothing at all": func(_, _ *os.File, _, _, _ int64) (int64, error) { return 0, nil },
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	for what, way := range waysToCopy {
		for _, size := range []int64{300_000, large} {
			content, dir := random(int(size)), t.TempDir()
			earlier := source(t, append([]byte("a longer header"), content...))
			d := open(t, dir)
			d.folder.copy = way
			p := claim(t, d, content)
			n, err := p.Adopt(t.Context(), earlier, 15+1000, 1000, size-2000)
			require.NoError(t, err, what)
			assert.Equal(t, size-2000, n)
			assert.Equal(t, []pieces.Range{{End: 1000}, {Start: size - 1000, End: size}}, p.Missing())
			fill(t, p, content)
			commit(t, p)
			requireBlob(t, dir, content)
		}
	}
}

// What was adopted and is wrong is missing again, and nothing else.
func TestAdoptedBytesThatAreWrong(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{300_000, large} {
		content, dir := random(int(size)), t.TempDir()
		p := claim(t, open(t, dir), content)
		_, err := p.Adopt(t.Context(), source(t, make([]byte, 1000)), 0, 5000, 1000)
		require.NoError(t, err)
		_, err = p.Adopt(t.Context(), source(t, content), 20_000, 20_000, 1000)
		require.NoError(t, err)
		fill(t, p, content)
		var mismatch *MismatchError
		require.ErrorAs(t, p.Commit(t.Context()), &mismatch)
		assert.True(t, mismatch.Adopted)
		adopted := []pieces.Range{{Start: 5000, End: 6000}, {Start: 20_000, End: 21_000}}
		assert.Equal(t, adopted, p.Missing())
		fill(t, p, content)
		commit(t, p)
		requireBlob(t, dir, content)
	}
}

func TestAdoptFromAFileThatIsCut(t *testing.T) {
	t.Parallel()
	for what, way := range waysToCopy {
		content, dir := random(large), t.TempDir()
		d := open(t, dir)
		d.folder.copy = way
		p := claim(t, d, content)
		n, err := p.Adopt(t.Context(), source(t, content[:9e6]), 1000, 1000, 20e6)
		var failed *SourceError
		require.ErrorAs(t, err, &failed, what)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.EqualValues(t, 9e6-1000, n)
		assert.Equal(t, []pieces.Range{{End: 1000}, {Start: 9e6, End: large}}, p.Missing())
		fill(t, p, content)
		commit(t, p)
		requireBlob(t, dir, content)
	}
}

func TestAdoptRefuses(t *testing.T) {
	content, dir := random(100_000), t.TempDir()
	p := claim(t, open(t, dir), content)
	write(t, p, content, 0, 1000)
	own, err := os.Open(filepath.Join(dir, p.data.name))
	require.NoError(t, err)
	defer own.Close()
	folder, err := os.Open(dir)
	require.NoError(t, err)
	defer folder.Close()
	empty := source(t, nil)
	good := source(t, content)
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	defer reader.Close()
	defer writer.Close()
	for what, test := range map[string]struct {
		src  *os.File
		at   int64
		want error
	}{
		"itself":           {own, 2000, errSameFile},
		"a pipe":           {reader, 2000, rootfile.ErrNotRegular},
		"a directory":      {folder, 2000, rootfile.ErrNotRegular},
		"an empty file":    {empty, 2000, io.ErrUnexpectedEOF},
		"what is there":    {good, 500, errTaken},
		"beyond the end":   {good, 99_999, errSize},
		"before the first": {good, -1, errSize},
	} {
		n, err := p.Adopt(t.Context(), test.src, 2000, test.at, 100)
		require.ErrorIs(t, err, test.want, what)
		assert.Zero(t, n, what)
	}
	n, err := p.Adopt(t.Context(), good, 2000, 2000, 100)
	require.NoError(t, err)
	assert.EqualValues(t, 100, n)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
	_, err = p.Adopt(t.Context(), good, 0, 0, 10)
	require.ErrorIs(t, err, fs.ErrClosed)
}

// A cancel ends it, and a crash in the middle loses one step at most.
func TestAdoptIsCutShort(t *testing.T) {
	t.Parallel()
	content, dir, crashed := random(large), t.TempDir(), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	n, err := p.Adopt(&reads{t.Context(), 2}, source(t, content), 0, 0, large)
	require.ErrorIs(t, err, context.Canceled)
	assert.EqualValues(t, 2*adoptStep, n)
	require.NoError(t, os.CopyFS(filepath.Join(crashed, "as it is now"), os.DirFS(dir)))
	require.NoError(t, p.Close(true))
	for _, dir := range []string{dir, filepath.Join(crashed, "as it is now")} {
		p := claim(t, open(t, dir), content)
		assert.Equal(t, []pieces.Range{{Start: 2 * adoptStep, End: large}}, p.Missing())
		fill(t, p, content)
		commit(t, p)
		requireBlob(t, dir, content)
	}
}

// Ranges that others write meanwhile, and the source, are left alone.
func TestAdoptBesideWriters(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	earlier := source(t, content)
	p := claim(t, open(t, dir), content)
	w := p.WriterAt(10e6)
	_, err := w.Write(content[10e6:11e6])
	require.NoError(t, err)
	_, err = p.Adopt(t.Context(), earlier, 9e6, 9e6, 2e6)
	require.ErrorIs(t, err, errTaken)
	_, err = p.Adopt(t.Context(), earlier, 11e6, 11e6, 2e6)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
	left, err := os.ReadFile(earlier.Name())
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, left))
}

// A shortcut that was refused is not tried again.
func TestAdoptRemembersWhatIsRefused(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	d := open(t, dir)
	tried := 0
	d.folder.copy = func(_, _ *os.File, _, _, _ int64) (int64, error) {
		tried++
		return 0, syscall.EXDEV
	}
	p := claim(t, d, content)
	earlier := source(t, content)
	for at := int64(0); at < 1<<20; at += 1 << 18 {
		_, err := p.Adopt(t.Context(), earlier, at, at, 1<<18)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, tried)
	commit(t, p)
	requireBlob(t, dir, content)
}
