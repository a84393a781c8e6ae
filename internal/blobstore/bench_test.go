package blobstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

func BenchmarkSmallBlob(b *testing.B) {
	content := random(16 << 10)
	dg := digest.FromBytes(content)
	d := open(b, b.TempDir())
	b.ReportAllocs()
	for b.Loop() {
		p, err := d.Claim(b.Context(), dg, int64(len(content)))
		require.NoError(b, err)
		w := p.WriterAt(0)
		_, err = w.Write(content)
		require.NoError(b, err)
		require.NoError(b, w.Close())
		require.NoError(b, p.Commit(b.Context()))
		require.NoError(b, p.Close(false))
		require.NoError(b, os.Remove(filepath.Join(d.path, p.name)))
	}
}

func BenchmarkWrite(b *testing.B) {
	const size = 1 << 40 // more than is written; the file wraps around below
	d := open(b, b.TempDir())
	p, err := d.Claim(b.Context(), digest.FromString("never"), size)
	require.NoError(b, err)
	p.stopHashing()
	chunk := random(256 << 10)
	w := p.WriterAt(0)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if w.end >= 256<<20 {
			require.NoError(b, w.Close())
			p.recorded = nil
			w = p.WriterAt(0)
		}
		_, err := w.Write(chunk)
		require.NoError(b, err)
	}
	require.NoError(b, w.Close())
	require.NoError(b, p.Close(false))
}
