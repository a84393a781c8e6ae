//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package blobstore

import (
	"time"

	"golang.org/x/sys/unix"
)

// setModified sets the time when an open file was changed last.
func setModified(fd uintptr, at time.Time) {
	tv := unix.NsecToTimeval(at.UnixNano())
	_ = unix.Futimes(int(fd), []unix.Timeval{tv, tv})
}
