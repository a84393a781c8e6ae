package transfer_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

const (
	experts    = 800
	expertSize = 80 << 10
)

// mixture are a model of many small tensors, 62 MiB in all, and an update of it that changes a tenth of them.
var mixture = sync.OnceValue(func() (both [2]*version) {
	for i := range both {
		both[i] = newVersion(tensortest.File.GGUF, func(v *version) {
			v.File.Tensors, v.seeds = nil, nil
			for n := range experts {
				v.File.Tensors = append(v.File.Tensors, tensortest.Tensor{
					Name: fmt.Sprintf("blk.0.expert.%d", n), Type: 1, Shape: []uint64{expertSize / 2}, Size: expertSize,
				})
				v.seeds = append(v.seeds, uint64(n))
			}
			if i > 0 {
				for _, n := range rand.New(rand.NewPCG(1, 2)).Perm(experts)[:experts/10] {
					v.seeds[n] += experts
				}
			}
		})
	}
	return both
})

// Of many small tensors a tenth has changed. To find out which takes no longer than to fetch all, from a
// registry that is far away.
func TestReuseOfManySmallTensors(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		old, now := mixture()[0], mixture()[1]
		path := filepath.Join(t.TempDir(), "old")
		require.NoError(t, os.WriteFile(path, old.data, 0o644))
		pull := func(paths ...string) (took time.Duration, sent int64, requests int) {
			w := newWorld(t, mode, registrytest.Options{Latency: 25 * time.Millisecond})
			w.content[now.dg] = now.data
			w.reg.Replace(repository, now.dg, now.data)
			b := transfer.Blob{Digest: now.dg.String(), Size: now.Size}
			opts := w.downloadOptions(b)
			opts.Reuse, opts.MaxBytesPerSecond = paths, 100e6
			took, err := w.timed(opts)
			require.NoError(t, err)
			return took, w.reg.BytesSent(), w.gets(b)
		}
		plain, size, _ := pull()
		took, sent, requests := pull(path)
		assert.Less(t, took, plain*3/5)
		assert.LessOrEqual(t, sent, size/10+size/50)
		assert.LessOrEqual(t, requests, experts*2/3)
	})
}

// Trace is told which files had which bytes of a blob, again where the digest was wrong. None is told of a file
// that had none.
func TestTraceOfWhatIsReused(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for name, c := range map[string]struct {
			damaged bool
			files   []string
			want    []string // which file had bytes, and that the digest was wrong
		}{
			"one file":       {false, []string{"GGUF"}, []string{"0"}},
			"one is no help": {false, []string{"GGUF anew", "GGUF"}, []string{"1"}},
			"damaged":        {true, []string{"GGUF"}, []string{"0", "wrong", "0"}},
		} {
			w := newWorld(t, mode, registrytest.Options{})
			b := w.model("GGUF header")
			opts := w.downloadOptions(b)
			for _, file := range c.files {
				opts.Reuse = append(opts.Reuse, here(t, file))
			}
			if c.damaged {
				flipHalf(t, opts.Reuse[0], versions()["GGUF"].At[30])
			}
			var order []string
			var last transfer.ReuseInfo
			log, trace := newTraceLog()
			trace.Reused = func(i transfer.ReuseInfo) {
				log.note(i.Blob.Digest, "Reused", func() {
					order, last = append(order, fmt.Sprint(slices.Index(opts.Reuse, i.Path))), i
				})
			}
			trace.Retried = func(i transfer.RetryInfo) {
				assert.ErrorIs(t, i.Err, transfer.ErrDigestMismatch)
				log.note(i.Blob.Digest, "Retried", func() { order = append(order, "wrong") })
			}
			opts.Trace = trace
			require.NoError(t, w.download(opts))
			log.check(t, opts.Blobs, nil)
			assert.Equal(t, c.want, order, name)
			done := log.done[b.Digest]
			assert.Equal(t, b, last.Blob)
			assert.Equal(t, done.Reused, last.Bytes)
			assert.Equal(t, b.Size, done.Moved+done.Reused)
			assert.Greater(t, done.Reused, b.Size*9/10)
		}
	})
}

// flipHalf damages the middle of a tensor, which is not compared at first.
func flipHalf(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, tensorSize/2), at+tensorSize/4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A panic of Reused ends the call as that of any other function.
func TestTracePanicsWhereBytesAreReused(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.model("GGUF header"))
		opts.Reuse = []string{here(t, "GGUF")}
		opts.Trace = &transfer.Trace{Reused: func(transfer.ReuseInfo) { panic("ours") }}
		assert.PanicsWithValue(t, "ours", func() { _ = transfer.Download(t.Context(), opts) })
	})
}
