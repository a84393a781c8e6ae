//go:build unix

package blobstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
)

// stranger is another user.
const stranger = 65534

// plant puts files of another user, which all may write, beside a blob.
func plant(t *testing.T, dir, final string, files map[string][]byte) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of another user")
	}
	for suffix, content := range files {
		path := filepath.Join(dir, final+suffix)
		require.NoError(t, os.WriteFile(path, content, 0o666))
		require.NoError(t, os.Chmod(path, 0o666))
		require.NoError(t, os.Chown(path, stranger, stranger))
	}
}

// H8: what another user has made before becomes no part of a blob: he could write to it afterwards. He may
// lock it too, which nobody waits for.
func TestH8FilesOfAnotherUser(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 1 << 20, large} {
		content, dir := random(size), t.TempDir()
		dg, name := digestOf(content), nameOf(digestOf(content))
		journal := appendRecord(nil, at(0, int64(size), 1))
		journal = append(appendHeader(nil, int64(size)), journal...)
		planted := map[string][]byte{
			partialSuffix: content, prefixSuffix: content[:size/2],
			journalSuffix: journal, ".partial.1": content,
		}
		plant(t, dir, name, planted)
		theirs, err := os.OpenFile(filepath.Join(dir, name+partialSuffix), os.O_RDWR, 0)
		require.NoError(t, err)
		defer theirs.Close()
		require.NoError(t, filelock.Lock(theirs))

		d := open(t, dir)
		assert.Zero(t, d.BytesOnDisk(dg, int64(size)))
		assert.Zero(t, d.Reclaim(dg))
		p := claim(t, d, content)
		assert.Equal(t, []pieces.Range{{Start: 0, End: int64(size)}}, p.Missing())
		fill(t, p, content)
		commit(t, p)
		fi, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		named, err := theirs.Stat()
		require.NoError(t, err)
		assert.False(t, os.SameFile(fi, named))
		assert.NoError(t, d.folder.check(name, fi))
		for suffix, content := range planted {
			path := filepath.Join(dir, name+suffix)
			assert.True(t, holds(t, path, content), "theirs, and not touched: %s", suffix)
		}
	}
}

// H8: own files that others have made before are agreed on, and continued.
func TestH8OwnFilesBesideThoseOfAnotherUser(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	name := nameOf(digestOf(content))
	plant(t, dir, name, map[string][]byte{partialSuffix: []byte("theirs"), ".journal.1": []byte("theirs")})
	p := claim(t, open(t, dir), content)
	assert.Equal(t, name+".partial.1", p.data.name)
	write(t, p, content, 0, 1000)
	require.NoError(t, p.Close(true))
	d := open(t, dir)
	assert.EqualValues(t, 1000, d.BytesOnDisk(digestOf(content), 1<<20))
	p = claim(t, d, content)
	assert.Equal(t, []pieces.Range{{Start: 1000, End: 1 << 20}}, p.Missing())
	fill(t, p, content)
	commit(t, p)
}

// H8: a file that somebody needs under another name is never written.
func TestH8HardLinks(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 1 << 20, large} {
		for _, suffix := range []string{partialSuffix, journalSuffix, prefixSuffix} {
			content, dir := random(size), t.TempDir()
			name := nameOf(digestOf(content))
			victim := filepath.Join(t.TempDir(), "victim")
			precious := append(appendHeader(nil, int64(size)), "precious"...)
			require.NoError(t, os.WriteFile(victim, precious, 0o644))
			require.NoError(t, os.Link(victim, filepath.Join(dir, name+suffix)))
			if suffix == journalSuffix { // of a file that is ours
				path := filepath.Join(dir, name+partialSuffix)
				require.NoError(t, os.WriteFile(path, content[:size/2], 0o644))
			}
			d := open(t, dir)
			p := claim(t, d, content)
			write(t, p, content, 0, int64(size/2))
			require.NoError(t, p.Close(true))
			p = claim(t, d, content)
			fill(t, p, content)
			commit(t, p)
			requireBlob(t, dir, content)
			left, err := os.ReadFile(victim)
			require.NoError(t, err)
			assert.Equal(t, precious, left)
		}
	}
}

// H8: where the file system gives all files to one user, as NFS may do with those of root, own partials are
// continued all the same.
func TestH8FileSystemThatGivesAllToAnother(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	name := nameOf(digestOf(content))
	d := open(t, dir)
	p := claim(t, d, content)
	write(t, p, content, 0, 1000)
	require.NoError(t, p.Close(true))
	for _, suffix := range []string{partialSuffix, journalSuffix} {
		require.NoError(t, os.Chown(filepath.Join(dir, name+suffix), stranger, stranger))
	}
	d.folder.owner.once.Do(func() {
		fi, err := os.Stat(filepath.Join(dir, name+partialSuffix))
		require.NoError(t, err)
		d.folder.owner.probe = fi
	})
	p = claim(t, d, content)
	assert.Equal(t, []pieces.Range{{Start: 1000, End: 1 << 20}}, p.Missing())
	require.NoError(t, p.Close(false))
	assert.Empty(t, files(t, dir))
}

// H8: a link to what another call is writing does not have it taken away from that call.
func TestH8LinkToWhatIsBeingWritten(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	holder := claim(t, open(t, dir), content)
	name := filepath.Join(dir, holder.data.name)
	require.NoError(t, os.Link(name, filepath.Join(t.TempDir(), "link")))
	other := claim(t, open(t, dir), content)
	fill(t, other, content)
	commit(t, other)
	require.FileExists(t, name)
	require.NoError(t, holder.Close(true))
	requireBlob(t, dir, content)
}
