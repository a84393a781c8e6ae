package blobstore

import (
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// S1, S3: all the ways to say that there is no space are the same to a caller.
func TestS1S3NoSpace(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, io.ErrShortWrite} {
		err := fmt.Errorf("blob: %w", &fs.PathError{Op: "write", Path: "x", Err: cause})
		assert.True(t, NoSpace(err), cause)
	}
	for _, cause := range []error{nil, syscall.EIO, syscall.EROFS, syscall.EMFILE, io.ErrUnexpectedEOF} {
		assert.False(t, NoSpace(cause), cause)
	}
}
