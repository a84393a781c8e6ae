package blobstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// copyRange has the kernel copy bytes from one file to another, or share their blocks where the file system
// can. It may copy fewer than n, and none at the end of src.
func copyRange(dst, src *os.File, to, from, n int64) (int64, error) {
	for {
		copied, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(n), 0)
		if err != unix.EINTR {
			return int64(copied), err
		}
	}
}
