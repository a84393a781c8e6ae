//go:build unix

package unpack

import (
	"io/fs"
	"syscall"
)

// written is how much of a file takes room on the disk: its holes do not. Known is false where the system
// does not tell.
func written(info fs.FileInfo) (n int64, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	const block = 512 // POSIX leaves it open; Linux, macOS and the BSDs agree
	return min(int64(stat.Blocks)*block, info.Size()), true
}
