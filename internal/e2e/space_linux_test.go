package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// tmpfs returns a directory of a file system of its own, of that size.
func tmpfs(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput()
	if err != nil {
		t.Skipf("no file system can be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// Somebody fills the disk in the middle of a pull, and frees it again.
func TestS1FullDiskInTheMiddleOfAPull(t *testing.T) {
	const size = 96 * mib
	d := newDam(newDistribution(t).handler(t))
	s := serve(t, d, false)
	src, dst := t.TempDir(), tmpfs(t, "160m")
	blobs := addBlobs(t, src, 1, size, 100_000)
	push(t, upload(s, src, blobs))
	s.forget()

	filler := filepath.Join(dst, "filler")
	d.close(t, size/2, func() {
		fillDisk(filler)
		d.open()
	})
	var last int64
	opts := download(s, dst, blobs)
	opts.Progress = func(completed, _ int64) { last = completed }
	begun := time.Now()
	err := transfer.Download(t.Context(), opts)
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.ErrorIs(t, err, transfer.ErrInsufficientSpace)
	assert.Less(t, time.Since(begun), 10*time.Second, "a full disk is not waited for")
	assert.NoFileExists(t, pathOf(dst, blobs[0]))

	first := sumSent(s.seen(byLibrary))
	s.forget()
	require.NoError(t, os.Remove(filler))
	pull(t, opts)
	requireSame(t, src, dst, blobs)
	second := sumSent(s.seen(byLibrary))
	t.Logf("%d bytes fetched, then %d of %d", first, second, int64(size))
	assert.Equal(t, sumOf(blobs), last)
	assert.Less(t, second, int64(size)*3/4, "what was on the disk is not fetched again")
	assert.LessOrEqual(t, first+second, int64(size)*13/10)
}

// fillDisk writes a file until there is no space for more.
func fillDisk(path string) {
	f, err := os.Create(path)
	if err != nil {
		return
	}
	defer f.Close()
	for block := make([]byte, mib); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
}
