//go:build unix

package blobstore

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// S23: a piece far into a blob takes no more space than its bytes.
func TestS23PartialIsSparse(t *testing.T) {
	content := random(large)
	p := claim(t, open(t, t.TempDir()), content)
	write(t, p, content, large-1000, large)
	info, err := p.data.Stat()
	require.NoError(t, err)
	assert.EqualValues(t, large, info.Size())
	const block = 512 // of st_blocks
	assert.Less(t, info.Sys().(*syscall.Stat_t).Blocks*block, int64(large/10))
	require.NoError(t, p.Close(false))
}
