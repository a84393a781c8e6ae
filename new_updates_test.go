package transfer_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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
