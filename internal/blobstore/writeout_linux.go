package blobstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeOut has the system begin to write a range of a file to the disk, and does not wait for that. Errors are
// for the sync that follows, which reports them.
func writeOut(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
