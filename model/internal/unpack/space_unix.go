//go:build darwin || freebsd || linux

package unpack

import "golang.org/x/sys/unix"

// FreeSpace is how many bytes may still be written where a directory is.
func FreeSpace(dir string) (n int64, known bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return max(0, int64(s.Bavail)) * int64(s.Bsize), true
}
