package transfer

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
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

func TestTemporaryStatus(t *testing.T) {
	temporary := map[int]bool{
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true,
		520: true, 521: true, 522: true, 523: true, 524: true, 530: true,
	}
	for code := 200; code < 600; code++ {
		assert.Equal(t, temporary[code], (&StatusError{StatusCode: code}).Temporary(), "%d", code)
	}
}
