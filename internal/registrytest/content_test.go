package registrytest

import (
	"bytes"
	"crypto/md5"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestContent(t *testing.T) {
	seen := map[string]bool{}
	for _, size := range []int{64, 65, 100_000, 1 << 20} {
		for seed := range uint64(20) {
			c := ContentOf(size, seed)
			require.Len(t, c.Data, size)
			require.Equal(t, digest.FromBytes(c.Data), c.Digest)
			require.Equal(t, c, ContentOf(size, seed))
			assert.False(t, seen[string(c.Data[:32])], "size %d, seed %d", size, seed)
			seen[string(c.Data[:32])] = true
		}
	}
	for _, size := range []int{0, 1, 7, 8, 9} {
		c := ContentOf(size, 0)
		require.Len(t, c.Data, size)
		require.Equal(t, digest.FromBytes(c.Data), c.Digest)
	}
}

func TestNumberedContent(t *testing.T) {
	c := ContentOf(100_000, 0)
	before := bytes.Clone(c.Data)
	one, two := c.Numbered(1), c.Numbered(2)
	assert.Equal(t, digest.FromBytes(one.Data), one.Digest)
	assert.Equal(t, digest.FromBytes(two.Data), two.Digest)
	assert.NotEqual(t, one.Digest, two.Digest)
	assert.True(t, bytes.Equal(before, c.Data), "the content itself is as it was")
}

func TestRegistryTellsWhatItExpects(t *testing.T) {
	c := ContentOf(1000, 0)
	wrong := bytes.Clone(c.Data)
	wrong[500] ^= 1
	reg := New(Options{})
	for range 2 {
		assert.True(t, reg.Matches(c.Digest, c.Data))
		assert.False(t, reg.Matches(c.Digest, wrong))
		assert.False(t, reg.Matches(c.Digest, c.Data[:999]))
		reg.Expect(c.Digest, c.Data)
	}
	_, there := reg.Blob(c.Digest)
	assert.False(t, there, "it is not uploaded yet")
}

func TestZeros(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 600 << 10, 600 << 10} {
		zeros := make([]byte, n)
		assert.Equal(t, digest.FromBytes(zeros), ZeroDigest(int64(n)))
		for _, rest := range [][]byte{nil, {0, 1}, {1, 0}, append(make([]byte, 300<<10), 1)} {
			body := append(slices.Clone(zeros), rest...)
			sum := new(bodySum)
			for part := range slices.Chunk(body, 32<<10) {
				_, _ = sum.Write(part)
			}
			assert.Equal(t, md5.Sum(body), sum.Sum(), "%d zeros and %d bytes", n, len(rest))
		}
	}
}

// Whatever the sizes of reads and writes are, what is read is what was written.
func TestMemConnKeepsWhatItHolds(t *testing.T) {
	a, b := memPipe("a", "b")
	sent := ContentOf(3<<20, 0).Data
	random := rand.New(rand.NewPCG(1, 1))
	var got []byte
	for at, buf := 0, make([]byte, 2*memBuffer); len(got) < len(sent); {
		free := memBuffer - (at - len(got))
		n := min(random.IntN(free+1), len(sent)-at)
		written, err := a.Write(sent[at : at+n])
		require.NoError(t, err)
		require.Equal(t, n, written)
		if at += n; at == len(got) {
			continue
		}
		n, err = b.Read(buf[:1+random.IntN(len(buf))>>random.IntN(12)])
		require.NoError(t, err)
		got = append(got, buf[:n]...)
	}
	assert.True(t, bytes.Equal(sent, got))
}
