//go:build unix

package unpack

import (
	"io/fs"
	"syscall"
)

// sizeOnDisk is what the disk gets back of a file: a partial has holes.
func sizeOnDisk(info fs.FileInfo) int64 {
	const block = 512 // POSIX leaves it open; Linux, macOS and the BSDs agree
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(int64(stat.Blocks)*block, info.Size())
	}
	return info.Size()
}
