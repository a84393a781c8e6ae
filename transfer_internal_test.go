package transfer

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A digest that passes is a plain file name of the directory, whatever it was made of.
func FuzzDigest(f *testing.F) {
	f.Fuzz(func(t *testing.T, dg string) {
		c := call{options: options{blobs: []Blob{{Digest: dg}}}}
		if err := c.checkBlobs(); err != nil {
			require.ErrorIs(t, err, ErrInvalidDigest)
			return
		}
		name := digestToPath(dg)
		require.True(t, filepath.IsLocal(name), name)
		require.Equal(t, name, filepath.Base(name))
		require.False(t, strings.ContainsAny(name, "/\\:\x00%?#"), name)
	})
}
