package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lock locks one byte far behind all data, because a lock on Windows also keeps others from reading what it
// covers.
func lock(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &at)
	switch {
	case err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING:
		return ErrBusy
	case errors.Is(err, errors.ErrUnsupported), err == windows.ERROR_INVALID_FUNCTION:
		return ErrUnsupported
	}
	return err
}

func keep(f *os.File) (release func(), err error) {
	self, from := windows.CurrentProcess(), windows.Handle(f.Fd())
	var h windows.Handle
	err = windows.DuplicateHandle(self, from, self, &h, 0, false, windows.DUPLICATE_SAME_ACCESS)
	if err != nil {
		return nil, err
	}
	return func() { _ = windows.CloseHandle(h) }, nil
}
