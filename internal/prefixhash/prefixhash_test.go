package prefixhash

import (
	"hash"
	"io"
	"testing"

	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, h *Hash, s string) {
	t.Helper()
	_, err := io.WriteString(h, s)
	require.NoError(t, err)
}

func TestRestore(t *testing.T) {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		t.Run(a.String(), func(t *testing.T) {
			h := New(a)
			write(t, &h, "first ")
			point := h.Snapshot()
			assert.EqualValues(t, 6, point.Len())
			write(t, &h, "wrong")
			assert.EqualValues(t, 11, h.Len())
			h.Restore(point)
			assert.EqualValues(t, 6, h.Len())
			write(t, &h, "second")
			assert.EqualValues(t, 12, h.Len())
			assert.Equal(t, a.FromString("first second"), h.Digest())
			h.Reset()
			assert.Zero(t, h.Len())
			assert.Equal(t, a.FromString(""), h.Digest())
		})
	}
}

// A state that cannot be copied is hashed again from the first byte.
func TestRestoreWithoutACopy(t *testing.T) {
	h := New(digest.SHA256)
	h.state = struct{ hash.Hash }{h.state}
	write(t, &h, "first")
	point := h.Snapshot()
	assert.Zero(t, point.Len())
	write(t, &h, "second")
	h.Restore(point)
	assert.Zero(t, h.Len())
	write(t, &h, "all")
	assert.Equal(t, digest.FromString("all"), h.Digest())
}
