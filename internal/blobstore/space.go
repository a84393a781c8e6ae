package blobstore

import (
	"errors"
	"io"
	"syscall"
)

// NoSpace reports whether a file cannot grow: the file system is full, the user's quota is used up, the file
// has the largest size allowed, or less was written than was asked. Partials survive such an error, see
// [Partial.Close].
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EFBIG) || errors.Is(err, io.ErrShortWrite) || platformNoSpace(err)
}
