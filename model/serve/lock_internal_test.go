package serve

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestH7WithoutALockWhatIsKeptIsHashedAgain(t *testing.T) {
	u := &upload{path: filepath.Join(t.TempDir(), "upload"), size: 4, summed: 4, sum: digest.Canonical.Hash()}
	_, _ = u.sum.Write([]byte("mine"))
	require.NoError(t, os.WriteFile(u.path, []byte("your"), 0o600))
	got, err := u.digest(digest.Canonical, false)
	require.NoError(t, err)
	assert.Equal(t, digest.FromString("your"), got)
}
