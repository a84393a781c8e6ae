package statemachine

import (
	"fmt"
	"os"
	"syscall"
)

// mountDisk makes a directory a disk of that many bytes, if it may.
func mountDisk(dir string, bytes int64) (mounted bool) {
	return os.Geteuid() == 0 && syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)) == nil
}

// shrinkDisk leaves hardly any space on a disk.
func shrinkDisk(dir string) error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return err
	}
	used := (int64(stat.Blocks) - int64(stat.Bfree)) * int64(stat.Bsize)
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", used+1<<20))
}

// growDisk makes space on a disk for all that there is.
func growDisk(dir string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=1g")
}

func unmountDisk(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
