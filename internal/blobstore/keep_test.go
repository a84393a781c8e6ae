package blobstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/filelock"
	"github.com/modeltransfer/transfer/internal/pieces"
)

// S25: what has come of a blob of 64 KiB and more is there for the next claim.
func TestS25CloseKeepsSmallBlobs(t *testing.T) {
	for size, kept := range map[int64]bool{KeepThreshold - 1: false, KeepThreshold: true, 5 << 20: true} {
		content, dir := random(int(size)), t.TempDir()
		d := open(t, dir)
		dg := digestOf(content)
		p := claim(t, d, content)
		write(t, p, content, 0, 1000)
		write(t, p, content, size-10, size)
		require.NoError(t, p.Close(true))
		if !kept {
			assert.Empty(t, files(t, dir))
			continue
		}
		assert.EqualValues(t, 1010, d.BytesOnDisk(dg, size))
		assert.EqualValues(t, 1010, open(t, dir).BytesOnDisk(dg, size), "another process")
		p = claim(t, d, content)
		assert.Equal(t, []pieces.Range{{Start: 1000, End: size - 10}}, p.Missing())
		fill(t, p, content)
		commit(t, p)
		requireBlob(t, dir, content)
		assert.Zero(t, d.BytesOnDisk(dg, size))
	}
}

// S25: a blob that is whole before it is cut short costs no journal.
func TestS25WholeSmallBlobHasNoJournal(t *testing.T) {
	for _, size := range []int{KeepThreshold, smallSegment} {
		content, dir := random(size), t.TempDir()
		p := claim(t, open(t, dir), content)
		write(t, p, content, 0, int64(size))
		assert.Equal(t, []string{p.name + partialSuffix}, files(t, dir))
		commit(t, p)
		requireBlob(t, dir, content)
	}
}

// S25: a killed process loses no more than the last MiB of a body.
func TestS25KilledProcessKeepsAllButAMiB(t *testing.T) {
	dir, content := t.TempDir(), random(5<<20+1)
	dg, size := digestOf(content), int64(len(content))
	cmd, _ := child(t, "hold medium", dir)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	d := open(t, dir)
	half := d.BytesOnDisk(dg, size)
	assert.Greater(t, half, size/2-smallSegment)
	p := claim(t, d, content)
	assert.Equal(t, []pieces.Range{{Start: half, End: size}}, p.Missing())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

// S25, S14: what a crash has damaged of a small blob is found before it counts.
func TestS25DamagedSmallPartial(t *testing.T) {
	content, dir := random(3<<20), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	write(t, p, content, 0, 1<<20)
	write(t, p, content, 1<<20, 2<<20)
	require.NoError(t, p.Close(true))
	flip(t, filepath.Join(dir, p.name+partialSuffix), 5)
	p = claim(t, d, content)
	assert.Equal(t, []pieces.Range{{End: 1 << 20}, {Start: 2 << 20, End: 3 << 20}}, p.Missing())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

// S25, S8: what cannot be kept is no error.
func TestS25DirectoryAtTheJournal(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	p := claim(t, open(t, dir), content)
	write(t, p, content, 0, 1000)
	require.NoError(t, os.Mkdir(filepath.Join(dir, p.name+journalSuffix), 0o755))
	require.NoError(t, p.Close(true))
	assert.Equal(t, []string{p.name + journalSuffix}, files(t, dir))
}

// E15: a blob that is right and cannot get its name is there for the next claim.
func TestE15FailedRenameKeepsTheBlob(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 1 << 20, large} {
		content, dir := random(size), t.TempDir()
		d := open(t, dir)
		p := claim(t, d, content)
		fill(t, p, content)
		inTheWay := filepath.Join(dir, p.name)
		require.NoError(t, os.Mkdir(inTheWay, 0o755))
		require.ErrorIs(t, p.Commit(t.Context()), syscall.EISDIR)
		require.NoError(t, p.Close(true))
		require.NoError(t, os.Remove(inTheWay))
		assert.EqualValues(t, size, d.BytesOnDisk(digestOf(content), int64(size)))
		p = claim(t, d, content)
		assert.Empty(t, p.Missing())
		commit(t, p)
		requireBlob(t, dir, content)
	}
}

// E15: without keep it goes, and the claim is given up in both cases.
func TestE15FailedRenameLetsGo(t *testing.T) {
	content, dir := random(1000), t.TempDir()
	p := claim(t, open(t, dir), content)
	fill(t, p, content)
	require.NoError(t, os.Mkdir(filepath.Join(dir, p.name), 0o755))
	require.ErrorIs(t, p.Commit(t.Context()), syscall.EISDIR)
	require.NoError(t, p.Close(false))
	assert.Equal(t, []string{p.name}, files(t, dir))
}

// E10: whose the wrong bytes are is told: nobody's who was asked in this call, where they were there before.
func TestE10AdoptedBytesAreTold(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	path := filepath.Join(dir, nameOf(digestOf(content))+partialSuffix)
	require.NoError(t, os.WriteFile(path, make([]byte, len(content)), 0o644))
	p := claim(t, open(t, dir), content)
	require.Empty(t, p.Missing())
	for _, adopted := range []bool{true, false} {
		var mismatch *MismatchError
		require.ErrorAs(t, p.Commit(t.Context()), &mismatch)
		assert.Equal(t, adopted, mismatch.Adopted)
		fill(t, p, make([]byte, len(content)))
	}
	require.Error(t, p.Commit(t.Context()))
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

// S21: the journal of a data file that is gone is removed only by who holds that name: another process may
// have made both meanwhile.
func TestS21SweepLeavesWhatAnotherHasMadeMeanwhile(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	d := open(t, dir)
	name := nameOf(digestOf(content))
	data, journal := name+partialSuffix, name+journalSuffix
	require.NoError(t, os.WriteFile(filepath.Join(dir, journal), nil, 0o644))
	var other *os.File
	d.folder.lock = func(f *os.File) error {
		if other == nil { // another process is faster
			var err error
			other, err = os.Open(filepath.Join(dir, data))
			require.NoError(t, err)
			require.NoError(t, filelock.Lock(other))
		}
		return filelock.Lock(f)
	}
	d.stale.removeData(data)
	require.NotNil(t, other)
	defer other.Close()
	assert.Equal(t, []string{journal, data}, files(t, dir))
}

// S21: the lock is held until the journal is gone as well.
func TestS21JournalGoesWithTheLock(t *testing.T) {
	content, dir := random(1<<20), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	write(t, p, content, 0, 1000)
	require.NoError(t, p.Close(true))
	p = claim(t, d, content)
	d.stale.removeData(p.data.name)
	assert.Equal(t, []string{p.name + journalSuffix, p.name + partialSuffix}, files(t, dir))
	require.NoError(t, p.Close(true))
	d.stale.removeData(p.data.name)
	assert.Empty(t, files(t, dir))
	_, err := os.Lstat(filepath.Join(dir, p.data.name))
	require.True(t, errors.Is(err, fs.ErrNotExist))
}
