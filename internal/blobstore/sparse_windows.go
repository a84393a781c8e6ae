package blobstore

import (
	"os"

	"golang.org/x/sys/windows"
)

// makeSparse has the system fill no gaps with zeros when a piece is written far into a new file. A file
// system that has no sparse files fills them.
func makeSparse(f *os.File) {
	var returned uint32
	_ = windows.DeviceIoControl(windows.Handle(f.Fd()), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &returned, nil)
}
