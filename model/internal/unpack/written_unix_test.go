//go:build unix

package unpack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestL3HolesAreNotCounted(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sha256-"+strings.Repeat("0", 64)+".partial"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(1<<30))
	_, err = f.WriteAt(make([]byte, 1<<20), 1<<29)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	found, err := unpack.Leftovers(dir, pack.Blobs, nil)
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.GreaterOrEqual(t, found[0].Size, int64(1<<20))
	assert.Less(t, found[0].Size, int64(2<<20))
}
