package blobstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback has the kernel begin to write a range of a file to the disk, and does not wait until it is
// there. Errors are for the sync that follows, which reports them.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
