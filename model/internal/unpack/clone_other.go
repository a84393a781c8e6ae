//go:build !linux

package unpack

import (
	"errors"
	"os"
)

// clone cannot be done here.
func clone(_, _ *os.File) error { return errors.ErrUnsupported }
