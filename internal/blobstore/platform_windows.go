package blobstore

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func sharingViolation(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
}

func platformNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED) || errors.Is(err, windows.ERROR_FILE_TOO_LARGE)
}

func platformLeadsNowhere(err error) bool {
	return errors.Is(err, windows.ERROR_CANT_RESOLVE_FILENAME) || errors.Is(err, windows.ERROR_DIRECTORY) ||
		errors.Is(err, windows.ERROR_INVALID_NAME)
}

// syncDir does nothing: a directory cannot be synced here, and NTFS journals its names.
func syncDir(*os.Root) error { return nil }

// makeSparse tells the file system to store nothing for what was not written. Otherwise it writes zeros up to
// each piece that is far into the file. FAT cannot, which is no error.
func makeSparse(f *os.File) {
	var returned uint32
	handle := windows.Handle(f.Fd())
	_ = windows.DeviceIoControl(handle, windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &returned, nil)
}
