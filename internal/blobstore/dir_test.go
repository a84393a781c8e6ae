package blobstore

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestS5OpenCreatesParents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	open(t, path)
	fi, err := os.Stat(path)
	require.NoError(t, err)
	assert.True(t, fi.IsDir())
}

func TestS5OpenOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	for name, path := range map[string]string{"itself": file, "as a parent": filepath.Join(file, "x")} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(path)
			var pe *fs.PathError
			require.ErrorAs(t, err, &pe)
			require.ErrorIs(t, err, syscall.ENOTDIR)
			_, err = OpenSource(path)
			require.ErrorIs(t, err, syscall.ENOTDIR)
		})
	}
	_, err := OpenSource(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOpenThroughALink(t *testing.T) {
	base := t.TempDir()
	real, link := filepath.Join(base, "real"), filepath.Join(base, "link")
	require.NoError(t, os.Mkdir(real, 0o755))
	require.NoError(t, os.Symlink(real, link))
	content := random(1000)
	p := claim(t, open(t, link), content)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, real, content)
}

func TestFree(t *testing.T) {
	n, known := open(t, t.TempDir()).Free()
	assert.True(t, known)
	assert.Positive(t, n)
}

// TestHasCheckSource tells of each thing that may have a final name how it is taken.
func TestHasCheckSource(t *testing.T) {
	content := random(5000)
	dg := digestOf(content)
	wrong := append([]byte{content[0] ^ 1}, content[1:]...)
	put := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, b, 0o644)) }
	}
	for name, test := range map[string]struct {
		put        func(t *testing.T, path string)
		has, check bool
		source     error
	}{
		"good":           {put(content), true, true, nil},
		"S9 wrong bytes": {put(wrong), true, false, nil},
		"S10 longer":     {put(append(content, 0)), false, false, errSize},
		"S10 shorter":    {put(content[1:]), false, false, errSize},
		"nothing":        {func(*testing.T, string) {}, false, false, fs.ErrNotExist},
		"S7 link":        {linkTo(content), true, true, nil},
		"S7 wrong link":  {linkTo(wrong), true, false, nil},
		"S7 longer link": {linkTo(append(content, 0)), false, false, errSize},
		"S7 dangling link": {func(t *testing.T, path string) {
			require.NoError(t, os.Symlink("nowhere", path))
		}, false, false, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test.put(t, filepath.Join(dir, nameOf(dg)))
			d := open(t, dir)
			has, err := d.Has(dg, 5000)
			require.NoError(t, err)
			assert.Equal(t, test.has, has)
			check, err := d.Check(t.Context(), dg, 5000)
			require.NoError(t, err)
			assert.Equal(t, test.check, check)
			f, err := d.Source(dg, 5000)
			require.ErrorIs(t, err, test.source)
			if err == nil {
				got, err := io.ReadAll(f)
				require.NoError(t, err)
				assert.Len(t, got, 5000)
				require.NoError(t, f.Close())
			}
		})
	}
}

// linkTo makes a link to a file with the content, in the same directory, where os.Root would follow it.
func linkTo(content []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		require.NoError(t, os.WriteFile(path+".victim", content, 0o644))
		require.NoError(t, os.Symlink(filepath.Base(path)+".victim", path))
	}
}

func TestS6DirectoryAtFinalName(t *testing.T) {
	content := random(10)
	dg, dir := digestOf(content), t.TempDir()
	path := filepath.Join(dir, nameOf(dg))
	require.NoError(t, os.Mkdir(path, 0o755))
	d := open(t, dir)
	_, err := d.Has(dg, 10)
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	assert.Equal(t, path, pe.Path)
	require.ErrorIs(t, err, syscall.EISDIR)
	_, err = d.Claim(t.Context(), dg, 10)
	require.ErrorIs(t, err, syscall.EISDIR)
	_, err = d.Source(dg, 10)
	require.ErrorIs(t, err, syscall.EISDIR)
	assert.Equal(t, []string{nameOf(dg)}, files(t, dir))
}

func TestCheckEndsWithContext(t *testing.T) {
	content := random(10)
	d := open(t, t.TempDir())
	p := claim(t, d, content)
	fill(t, p, content)
	commit(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.Check(ctx, digestOf(content), 10)
	require.ErrorIs(t, err, context.Canceled)
}

func TestS9CheckedFileIsReplaced(t *testing.T) {
	content := random(100)
	dg, dir := digestOf(content), t.TempDir()
	path := filepath.Join(dir, nameOf(dg))
	require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o644))
	wrong, err := os.Stat(path)
	require.NoError(t, err)
	d := open(t, dir)
	_, err = d.Claim(t.Context(), dg, 100)
	require.ErrorIs(t, err, ErrThere, "nobody has found it wrong")

	ok, err := d.Check(t.Context(), dg, 100)
	require.NoError(t, err)
	require.False(t, ok)
	p := claim(t, d, content)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
	require.NoError(t, os.Chtimes(path, time.Time{}, wrong.ModTime())) // as on a disk with coarse times
	_, err = d.Claim(t.Context(), dg, 100)
	require.ErrorIs(t, err, ErrThere, "what was repaired is there")
}

// S9: what was found wrong may have been replaced since, by another process.
func TestS9RepairedByAnother(t *testing.T) {
	content, dir := random(100), t.TempDir()
	dg := digestOf(content)
	path := filepath.Join(dir, nameOf(dg))
	require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o644))
	d := open(t, dir)
	ok, err := d.Check(t.Context(), dg, 100)
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, os.WriteFile(path, content, 0o644))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)))
	_, err = d.Claim(t.Context(), dg, 100)
	require.ErrorIs(t, err, ErrThere)
}

func TestSha512(t *testing.T) {
	content := random(100)
	dg := digest.SHA512.FromBytes(content)
	d := open(t, t.TempDir())
	p, err := d.Claim(t.Context(), dg, 100)
	require.NoError(t, err)
	fill(t, p, content)
	commit(t, p)
	ok, err := d.Check(t.Context(), dg, 100)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, []string{"sha512-" + dg.Encoded()}, files(t, d.folder.path))
}

// S7: the length of a link itself says nothing, even when it is that of the blob.
func TestS7LinkOfTheSizeOfTheBlob(t *testing.T) {
	dir := t.TempDir()
	victim := "a-file-that-is-not-the-blob"
	content := random(len(victim))
	dg := digestOf(content)
	require.NoError(t, os.WriteFile(filepath.Join(dir, victim), []byte("shorter"), 0o644))
	require.NoError(t, os.Symlink(victim, filepath.Join(dir, nameOf(dg))))
	d := open(t, dir)
	has, err := d.Has(dg, int64(len(content)))
	require.NoError(t, err)
	assert.False(t, has)
	p := claim(t, d, content)
	fill(t, p, content)
	commit(t, p)
	fi, err := os.Lstat(filepath.Join(dir, nameOf(dg)))
	require.NoError(t, err)
	assert.True(t, fi.Mode().IsRegular())
}

// S7: people keep their blobs on another disk.
func TestS7BlobBehindALink(t *testing.T) {
	content := random(1000)
	dg := digestOf(content)
	elsewhere, dir := filepath.Join(t.TempDir(), "blob"), t.TempDir()
	link := filepath.Join(dir, nameOf(dg))
	require.NoError(t, os.WriteFile(elsewhere, content, 0o644))
	require.NoError(t, os.Symlink(elsewhere, link))
	d := open(t, dir)
	has, err := d.Has(dg, 1000)
	require.NoError(t, err)
	assert.True(t, has)
	_, err = d.Claim(t.Context(), dg, 1000)
	require.ErrorIs(t, err, ErrThere)

	require.NoError(t, os.WriteFile(elsewhere, make([]byte, 1000), 0o644)) // spoilt
	ok, err := d.Check(t.Context(), dg, 1000)
	require.NoError(t, err)
	assert.False(t, ok)
	p := claim(t, d, content)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
	left, err := os.ReadFile(elsewhere)
	require.NoError(t, err)
	assert.Equal(t, make([]byte, 1000), left, "nothing is written through the link")
}

// S17: what was hashed is closed again at once, and not when the garbage is collected.
func TestS17CheckLeavesNothingOpen(t *testing.T) {
	content := random(10)
	d := open(t, t.TempDir())
	p := claim(t, d, content)
	fill(t, p, content)
	commit(t, p)
	before := openFiles()
	for range 20 {
		ok, err := d.Check(t.Context(), digestOf(content), 10)
		require.NoError(t, err)
		require.True(t, ok)
	}
	assert.LessOrEqual(t, openFiles(), before)
}
