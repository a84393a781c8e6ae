package blobstore

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

func BenchmarkSmallBlob(b *testing.B) {
	content := random(16 << 10)
	dg := digestOf(content)
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
		require.NoError(b, os.Remove(filepath.Join(d.folder.path, p.name)))
	}
}

func BenchmarkWrite(b *testing.B) {
	const size = 1 << 40 // more than is written; the file wraps around below
	d := open(b, b.TempDir())
	p, err := d.Claim(b.Context(), digest.FromString("never"), size)
	require.NoError(b, err)
	p.hasher.stop()
	chunk := random(256 << 10)
	w := p.WriterAt(0)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if w.mine.end >= 256<<20 {
			require.NoError(b, w.Close())
			p.record.recorded = nil
			w = p.WriterAt(0)
		}
		_, err := w.Write(chunk)
		require.NoError(b, err)
	}
	require.NoError(b, w.Close())
	require.NoError(b, p.Close(false))
}

// BenchmarkLargeBlob writes a large blob with that many writers at once, and commits it.
func BenchmarkLargeBlob(b *testing.B) {
	const size, chunk = 256 << 20, 128 << 10
	content := random(size)
	dg := digestOf(content)
	for _, writers := range []int64{1, 2, 4} {
		b.Run(strconv.FormatInt(writers, 10), func(b *testing.B) {
			d := open(b, b.TempDir())
			b.SetBytes(size)
			for b.Loop() {
				p, err := d.Claim(b.Context(), dg, size)
				require.NoError(b, err)
				var all sync.WaitGroup
				for i := range writers {
					all.Go(func() {
						w := p.WriterAt(i * size / writers)
						for at := i * size / writers; at < (i+1)*size/writers; at += chunk {
							_, _ = w.Write(content[at : at+chunk])
						}
						_ = w.Close()
					})
				}
				all.Wait()
				require.NoError(b, p.Commit(b.Context()))
				require.NoError(b, p.Close(false))
				require.NoError(b, os.Remove(filepath.Join(d.folder.path, p.name)))
			}
		})
	}
}
