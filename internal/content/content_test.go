package content

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newFile(t testing.TB, data []byte, dg digest.Digest) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	f, err := os.Open(path)
	require.NoError(t, err)
	c := New(f, dg, int64(len(data)), 1000)
	t.Cleanup(func() { c.Close() })
	return c
}

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func anyUse(int) {}

func TestBodiesOfAnyOrderEndInTheRightDigest(t *testing.T) {
	data := random(10_000)
	for name, spans := range map[string][][2]int64{
		"whole":                   {{0, 10_000}},
		"chunks":                  {{0, 3000}, {3000, 9999}, {9999, 10_000}},
		"again from 0":            {{0, 5000}, {0, 10_000}},
		"again from the chunk":    {{0, 3000}, {3000, 6000}, {4000, 10_000}},
		"again from before it":    {{0, 3000}, {3000, 6000}, {1000, 10_000}},
		"begun in the middle":     {{7000, 10_000}},
		"the end twice":           {{0, 10_000}, {9000, 10_000}, {0, 10_000}},
		"a chunk that was jumped": {{5000, 6000}, {9000, 10_000}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newFile(t, data, digest.FromBytes(data))
			for _, s := range spans {
				body, err := c.Body(t.Context(), s[0], s[1], anyUse)
				require.NoError(t, err)
				got, err := io.ReadAll(body)
				require.NoError(t, err)
				assert.True(t, bytes.Equal(data[s[0]:s[1]], got))
			}
			assert.NoError(t, c.Err())
		})
	}
}

func TestU7LastBytesOfAWrongFileAreNotGivenOut(t *testing.T) {
	data := random(10_000)
	for _, start := range []int64{0, 9_990} {
		c := newFile(t, data, digest.FromString("something else"))
		body, err := c.Body(t.Context(), start, 10_000, anyUse)
		require.NoError(t, err)
		got, err := io.ReadAll(body)
		require.ErrorIs(t, err, ErrDigest)
		assert.Less(t, int64(len(got)), 10_000-start)
		require.ErrorIs(t, c.Err(), ErrDigest)
		_, err = c.Body(t.Context(), 0, 1, anyUse)
		require.ErrorIs(t, err, ErrDigest)
	}
}

func TestU6FileThatChangesItsSize(t *testing.T) {
	data := random(10_000)
	for name, size := range map[string]int64{"shorter": 5000, "longer": 10_001} {
		t.Run(name, func(t *testing.T) {
			c := newFile(t, data, digest.FromBytes(data))
			require.NoError(t, os.Truncate(c.file.Name(), size))
			body, err := c.Body(t.Context(), 0, 10_000, anyUse)
			require.NoError(t, err)
			got, err := io.ReadAll(body)
			require.ErrorIs(t, err, ErrSize)
			assert.Less(t, len(got), 10_000)
		})
	}
}

// E16: a cancel ends the hashing of what was sent before, and the file is none the worse for it.
func TestE16CancelEndsHashingAPrefix(t *testing.T) {
	data := random(3 * readSize)
	c := newFile(t, data, digest.FromBytes(data))
	_, err := c.Body(&reads{t.Context(), 2}, int64(len(data))-1, int64(len(data)), anyUse)
	require.ErrorIs(t, err, context.Canceled)
	assert.EqualValues(t, 2*readSize, c.hash.Len())
	require.NoError(t, c.Err())
	body, err := c.Body(t.Context(), 10, int64(len(data)), anyUse)
	require.NoError(t, err)
	got, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data[10:], got))
}

// reads is a context that ends after so many of the questions whether it has.
type reads struct {
	context.Context
	left int
}

func (c *reads) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestEmptyBlob(t *testing.T) {
	assert.NoError(t, newFile(t, nil, digest.FromString("")).Err())
	assert.ErrorIs(t, newFile(t, nil, digest.FromString("x")).Err(), ErrDigest)
}

func TestOnlyTheLastBodyCanBeRead(t *testing.T) {
	data := random(100)
	c := newFile(t, data, digest.FromBytes(data))
	first, err := c.Body(t.Context(), 0, 100, anyUse)
	require.NoError(t, err)
	second, err := c.Body(t.Context(), 0, 100, anyUse)
	require.NoError(t, err)
	_, err = first.Read(make([]byte, 10))
	require.ErrorIs(t, err, os.ErrClosed)
	require.NoError(t, second.Close())
	_, err = io.ReadAll(second)
	require.NoError(t, err, "a transport may close a body before it asks for it again")
	third, err := c.Body(t.Context(), 0, 100, anyUse)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = third.Read(make([]byte, 10))
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestUseIsTold(t *testing.T) {
	data := random(5000)
	c := newFile(t, data, digest.FromBytes(data))
	told := 0
	body, err := c.Body(t.Context(), 0, 5000, func(n int) {
		assert.LessOrEqual(t, n, 1000, "the chunk that New was told")
		told += n
	})
	require.NoError(t, err)
	_, err = io.CopyN(io.Discard, body, 2500)
	require.NoError(t, err)
	assert.Equal(t, 2500, told, "before the end")
	_, err = io.Copy(io.Discard, body)
	require.NoError(t, err)
	assert.Equal(t, 5000, told)
}

func BenchmarkBody(b *testing.B) {
	data := random(4 << 20)
	c := newFile(b, data, digest.FromBytes(data))
	c.chunk = readSize
	buffer := make([]byte, 128<<10) // what the default client reads at once
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		body, err := c.Body(b.Context(), 0, c.size, anyUse)
		require.NoError(b, err)
		for err == nil {
			_, err = body.Read(buffer)
		}
		require.ErrorIs(b, err, io.EOF)
	}
}
