package blobstore

import (
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

func freeSpace(root *os.Root) (n int64, known bool) {
	path, err := windows.UTF16PtrFromString(root.Name())
	if err != nil {
		return 0, false
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(path, &free, nil, nil); err != nil {
		return 0, false
	}
	return int64(min(free, math.MaxInt64)), true
}

// allocated returns how many bytes a file takes at most.
func allocated(fi fs.FileInfo) int64 { return fi.Size() }
