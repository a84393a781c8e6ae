//go:build !linux

package blobstore

import (
	"errors"
	"os"
)

// copyRange refuses: only Linux is known to copy a range of a file to a range of another.
func copyRange(_, _ *os.File, _, _, _ int64) (int64, error) { return 0, errors.ErrUnsupported }
