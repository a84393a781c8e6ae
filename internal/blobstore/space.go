package blobstore

import (
	"errors"
	"io"
	"syscall"
)

// NoSpace reports whether a write failed because there is no room left: on the file system, in the user's
// quota, or in a file of the largest size allowed. Partials survive such an error, see [Partial.Close].
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) ||
		errors.Is(err, io.ErrShortWrite) || platformNoSpace(err)
}
