package blobstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

// S23: a piece far into a blob makes the system write no zeros.
func TestS23PartialIsSparse(t *testing.T) {
	p := claim(t, open(t, t.TempDir()), random(large))
	var info windows.ByHandleFileInformation
	require.NoError(t, windows.GetFileInformationByHandle(windows.Handle(p.data.Fd()), &info))
	assert.NotZero(t, info.FileAttributes&windows.FILE_ATTRIBUTE_SPARSE_FILE)
	require.NoError(t, p.Close(false))
}
