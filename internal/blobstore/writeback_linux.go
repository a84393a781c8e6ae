package blobstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback tells the kernel to write a range of a file to the disk, and does not wait until it is
// there. The sync that follows reports the errors.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
