package blobstore

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
)

const large = LargeThreshold + 12345

// TestCommit commits blobs of all sizes, written in several orders.
func TestCommit(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{
		"I6 empty": 0, "one byte": 1, "small": 300_000,
		"last small": LargeThreshold - 1, "first large": LargeThreshold, "large": large,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content, dir := random(size), t.TempDir()
			d, end := open(t, dir), int64(size)
			p := claim(t, d, content)
			cut := []int64{0, end / 4, end / 2, end}
			var writers sync.WaitGroup
			for i := range 3 {
				writers.Go(func() { write(t, p, content, cut[i], cut[i+1]) })
			}
			writers.Wait()
			assert.Empty(t, p.Missing())
			commit(t, p)
			requireBlob(t, dir, content)
			has, err := d.Has(digestOf(content), end)
			require.NoError(t, err)
			assert.True(t, has)
		})
	}
}

func TestBackToFront(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{90_000, large} {
		content, dir := random(int(size)), t.TempDir()
		p := claim(t, open(t, dir), content)
		write(t, p, content, size/2, size)
		assert.Equal(t, []pieces.Range{{Start: 0, End: size / 2}}, p.Missing())
		require.ErrorIs(t, p.Commit(t.Context()), errIncomplete)
		write(t, p, content, 0, size/2)
		commit(t, p)
		requireBlob(t, dir, content)
	}
}

func TestWriteRefuses(t *testing.T) {
	content, dir := random(100), t.TempDir()
	p := claim(t, open(t, dir), content)
	open, other := p.WriterAt(0), p.WriterAt(50)
	for name, test := range map[string]struct {
		at   int64
		want error
	}{
		"N5 beyond the size":    {95, errSize},
		"far beyond":            {1 << 62, errSize},
		"before the start":      {-1, errSize},
		"what another writes":   {5, errTaken},
		"what is recorded":      {55, errTaken},
		"up to what is taken":   {45, errTaken},
		"from what is recorded": {59, errTaken},
	} {
		if test.want == errTaken && other.mine.end == 50 {
			_, err := open.Write(content[:10])
			require.NoError(t, err)
			_, err = other.Write(content[50:60])
			require.NoError(t, err)
			require.NoError(t, other.Close())
		}
		t.Run(name, func(t *testing.T) {
			w := p.WriterAt(test.at)
			n, err := w.Write(make([]byte, 10))
			require.ErrorIs(t, err, test.want)
			assert.Zero(t, n)
			require.NoError(t, w.Close())
		})
	}
	_, err := open.Write(content[10:50])
	require.NoError(t, err)
	require.NoError(t, open.Close())
	require.NoError(t, open.Close())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

func TestN16WrongBytesAreAllMissing(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1000, large} {
		content, dir := random(int(size)), t.TempDir()
		wrong := append([]byte{content[0] ^ 1}, content[1:]...)
		p := claim(t, open(t, dir), content)
		fill(t, p, wrong)
		for range 2 {
			err := p.Commit(t.Context())
			var mismatch *MismatchError
			require.ErrorAs(t, err, &mismatch)
			assert.Equal(t, digestOf(wrong), mismatch.Got)
			assert.Equal(t, digestOf(content), mismatch.want)
			assert.Empty(t, mismatch.Disk)
			assert.Equal(t, []pieces.Range{{Start: 0, End: size}}, p.Missing())
			assert.NotContains(t, files(t, dir), p.name)
			fill(t, p, wrong)
		}
		require.Error(t, p.Commit(t.Context()))
		fill(t, p, content)
		commit(t, p)
		requireBlob(t, dir, content)
	}
}

// N16: what came wrong is not taken for complete by the next claim either.
func TestN16WrongBytesAreForgotten(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	fill(t, p, make([]byte, large))
	require.Error(t, p.Commit(t.Context()))
	write(t, p, content, 0, 5e6)
	require.NoError(t, p.Close(true))
	p = claim(t, d, content)
	assert.Equal(t, []pieces.Range{{Start: 5e6, End: large}}, p.Missing())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

func TestN16GivenUpLeavesNothing(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	p := claim(t, open(t, dir), content)
	fill(t, p, make([]byte, large))
	require.Error(t, p.Commit(t.Context()))
	require.NoError(t, p.Close(false))
	assert.Empty(t, files(t, dir))
}

func TestDamageOnDiskIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	const segment = 1 << 20 // one Write, and so one record
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	for at := int64(0); at < large; at += segment {
		write(t, p, content, at, min(at+segment, large))
	}
	require.NoError(t, p.Close(true))
	flip(t, filepath.Join(dir, nameOf(digestOf(content))+".partial"), segment+5, 5*segment)

	p = claim(t, d, content)
	err := p.Commit(t.Context())
	var mismatch *MismatchError
	require.ErrorAs(t, err, &mismatch)
	want := []pieces.Range{{Start: segment, End: 2 * segment}, {Start: 5 * segment, End: 6 * segment}}
	assert.Equal(t, want, mismatch.Disk)
	assert.Equal(t, want, p.Missing())
	require.ErrorIs(t, p.Commit(t.Context()), errIncomplete, "it was told once")
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

// flip changes one byte at each offset.
func flip(t *testing.T, path string, offsets ...int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	for _, off := range offsets {
		var b [1]byte
		_, err = f.ReadAt(b[:], off)
		require.NoError(t, err)
		b[0] ^= 0x10
		_, err = f.WriteAt(b[:], off)
		require.NoError(t, err)
	}
}

func TestCommitEndsWithContext(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	p.hasher.stop() // so that all is left to Commit
	fill(t, p, content)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Commit(ctx), context.Canceled)
	require.NoError(t, p.Close(true))

	p = claim(t, d, content)
	assert.Empty(t, p.Missing())
	commit(t, p)
	requireBlob(t, dir, content)
}

// reads is a context that ends after so many of the questions whether it has.
type reads struct {
	context.Context
	left int
}

func (c *reads) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// An extent that was hashed in part, when its claim's context ended, is hashed from its beginning again.
func TestCommitGoesOnAfterItsContext(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	d := open(t, dir)
	p := claim(t, d, content)
	fill(t, p, content)
	require.NoError(t, p.Close(true))
	p = claim(t, d, content)
	p.hasher.stop()
	p.hasher.ordered.hash.Reset()
	require.Error(t, p.hasher.advance(&reads{t.Context(), 6}))
	assert.EqualValues(t, 1<<20, p.hasher.ordered.hash.Len(), "one extent of four reads")
	commit(t, p)
	requireBlob(t, dir, content)
}

// S1, S2: after a write has failed nothing is kept, not even what was recorded before.
func TestS1S2NothingIsKeptAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	p := claim(t, open(t, dir), content)
	write(t, p, content, 0, 5e6)
	p.hasher.stop()
	require.NoError(t, p.data.Close()) // so that no write can succeed
	w := p.WriterAt(5e6)
	_, err := w.Write(content[5e6:6e6])
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	require.ErrorIs(t, w.Close(), fs.ErrClosed)
	require.NoError(t, p.Close(true))
	assert.Empty(t, files(t, dir))
}

// S2: bytes that a failed sync may have lost are not kept, though it was for want of space.
func TestS2NothingIsKeptAfterAFailedSync(t *testing.T) {
	t.Parallel()
	content, dir := random(large), t.TempDir()
	p := claim(t, open(t, dir), content)
	write(t, p, content, 0, 5e6)
	p.record.state.failWrite(syscall.ENOSPC)
	p.record.state.fail(syscall.ENOSPC)
	require.NoError(t, p.Close(true))
	assert.Empty(t, files(t, dir))
}

func TestCloseKeeps(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size, written int64
		keep, kept    bool
	}{
		"large":               {large, 1000, true, true},
		"large, without keep": {large, 1000, false, false},
		"large, nothing yet":  {large, 0, true, false},
		"small":               {KeepThreshold - 1, 1000, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			content, dir := random(int(test.size)), t.TempDir()
			p := claim(t, open(t, dir), content)
			write(t, p, content, 0, test.written)
			require.NoError(t, p.Close(test.keep))
			require.NoError(t, p.Close(!test.keep), "the second call does nothing")
			if !test.kept {
				assert.Empty(t, files(t, dir))
				return
			}
			assert.Equal(t, []string{p.name + ".journal", p.name + ".partial"}, files(t, dir))
			_, err := p.WriterAt(0).Write(content[:1])
			require.ErrorIs(t, err, fs.ErrClosed)
			require.ErrorIs(t, p.Commit(t.Context()), fs.ErrClosed)
		})
	}
}

// N16: bytes of this claim that were damaged on the disk before they were hashed are told from bytes that
// came wrong.
func TestN16DamageBeforeItIsHashed(t *testing.T) {
	t.Parallel()
	const segment = 1 << 20
	content, dir := random(large), t.TempDir()
	p := claim(t, open(t, dir), content)
	for at := int64(segment); at < large; at += segment {
		write(t, p, content, at, min(at+segment, large))
	}
	flip(t, filepath.Join(dir, p.data.name), 3*segment+5)
	write(t, p, content, 0, segment)
	var mismatch *MismatchError
	require.ErrorAs(t, p.Commit(t.Context()), &mismatch)
	assert.Equal(t, []pieces.Range{{Start: 3 * segment, End: 4 * segment}}, mismatch.Disk)
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}

// What comes in order is hashed as it comes, and not read back.
func TestInOrderNothingIsReadBack(t *testing.T) {
	t.Parallel()
	content := random(large)
	p := claim(t, open(t, t.TempDir()), content)
	w := p.WriterAt(0)
	for at := int64(0); at < large; at += 100_000 {
		end := min(at+100_000, large)
		_, err := w.Write(content[at:end])
		require.NoError(t, err)
		require.Equal(t, end, p.hasher.ordered.hash.Len())
	}
	require.NoError(t, w.Close())
	commit(t, p)
}

// A writer that goes on elsewhere leaves nothing behind.
func TestWriterMoves(t *testing.T) {
	content, dir := random(large), t.TempDir()
	p := claim(t, open(t, dir), content)
	w := p.WriterAt(100)
	_, err := w.Write(content[100:200])
	require.NoError(t, err)
	require.NoError(t, w.Move(5000))
	assert.Equal(t, []pieces.Range{{End: 100}, {Start: 200, End: large}}, p.Missing())
	var got [100]byte
	_, err = p.ReadAt(got[:], 100)
	require.NoError(t, err)
	assert.Equal(t, content[100:200], got[:])
	_, err = w.Write(content[5000 : 2<<20])
	require.NoError(t, err)
	require.NoError(t, w.Close())
	fill(t, p, content)
	commit(t, p)
	requireBlob(t, dir, content)
}
