//go:build darwin || dragonfly || freebsd || linux

package blobstore

import (
	"io/fs"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func freeSpace(root *os.Root) (n int64, known bool) {
	f, err := root.Open(".")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Blocks == 0 || st.Bsize <= 0 {
		return 0, false
	}
	// Bavail is signed on some systems, and negative where only root may still write.
	blocks, size := max(0, int64(st.Bavail)), int64(st.Bsize)
	if blocks > math.MaxInt64/size {
		return math.MaxInt64, true
	}
	return blocks * size, true
}

// allocated returns how many bytes a file takes on the disk.
func allocated(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return fi.Size()
}
