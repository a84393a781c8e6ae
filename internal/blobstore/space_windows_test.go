package blobstore

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/windows"
)

func TestS1S3NoSpaceOnWindows(t *testing.T) {
	for _, cause := range []error{
		windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED,
		windows.ERROR_FILE_TOO_LARGE,
	} {
		assert.True(t, NoSpace(&fs.PathError{Op: "write", Path: "x", Err: cause}), cause)
	}
	assert.False(t, NoSpace(windows.ERROR_ACCESS_DENIED))
}
