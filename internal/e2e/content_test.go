package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// Sizes that the tests use again and again.
const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// stream returns the same random bytes for the same seed, without end.
func stream(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func randomBytes(t testing.TB, seed uint64, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	_, err := io.ReadFull(stream(seed), b)
	require.NoError(t, err)
	return b
}

// pathOf is where a blob has to be in dir, written down here a second time.
func pathOf(dir string, b transfer.Blob) string {
	return filepath.Join(dir, "sha256-"+strings.TrimPrefix(b.Digest, "sha256:"))
}

// addBlob puts content into dir under its final name.
func addBlob(t testing.TB, dir string, content []byte) transfer.Blob {
	t.Helper()
	b := transfer.Blob{Digest: digest.FromBytes(content).String(), Size: int64(len(content))}
	require.NoError(t, os.WriteFile(pathOf(dir, b), content, 0o644))
	return b
}

// addStream puts size bytes of the seeded stream into dir, for blobs that are
// too large to be held in memory.
func addStream(t testing.TB, dir string, seed uint64, size int64) transfer.Blob {
	t.Helper()
	f, err := os.CreateTemp(dir, "new-*")
	require.NoError(t, err)
	defer f.Close()
	hash := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, hash), mib)
	_, err = io.CopyN(w, stream(seed), size)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	b := transfer.Blob{Digest: digest.NewDigest(digest.SHA256, hash).String(), Size: size}
	require.NoError(t, os.Rename(f.Name(), pathOf(dir, b)))
	return b
}

// addBlobs puts one random blob of each size into dir.
func addBlobs(t testing.TB, dir string, seed uint64, sizes ...int) []transfer.Blob {
	t.Helper()
	blobs := make([]transfer.Blob, 0, len(sizes))
	for i, size := range sizes {
		blobs = append(blobs, addBlob(t, dir, randomBytes(t, seed+uint64(i), size)))
	}
	return blobs
}

func sumOf(blobs []transfer.Blob) (total int64) {
	for _, b := range blobs {
		total += b.Size
	}
	return total
}

// requireSame fails unless dir holds the blobs of want, byte for byte, and
// nothing else.
func requireSame(t testing.TB, want, dir string, blobs []transfer.Blob) {
	t.Helper()
	for _, b := range blobs {
		requireSameFile(t, pathOf(want, b), pathOf(dir, b))
	}
	names := make(map[string]bool, len(blobs))
	for _, b := range blobs {
		names[filepath.Base(pathOf(dir, b))] = true
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.Truef(t, names[e.Name()], "%s was left behind", e.Name())
	}
}

func requireSameFile(t testing.TB, want, got string) {
	t.Helper()
	w, err := os.Open(want)
	require.NoError(t, err)
	defer w.Close()
	g, err := os.Open(got)
	require.NoError(t, err)
	defer g.Close()
	requireSameContent(t, w, g, got)
}

// requireSameContent fails unless both readers have the same bytes to their ends.
func requireSameContent(t testing.TB, want, got io.Reader, name string) {
	t.Helper()
	wb, gb := make([]byte, 256*kib), make([]byte, 256*kib)
	for {
		wn, werr := io.ReadFull(want, wb)
		gn, gerr := io.ReadFull(got, gb)
		require.Truef(t, bytes.Equal(wb[:wn], gb[:gn]) && werr == gerr, "%s has other bytes", name)
		if werr != nil {
			return
		}
	}
}

// slack is what a server may have sent, beyond what was needed, before it saw that the
// rest of a piece was given to another worker: some full socket buffers.
const slack = 24 * mib
