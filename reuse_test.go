package transfer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/tensorfile/tensortest"
)

// version is a version of a model: a file of 34 MiB.
type version struct {
	tensortest.File
	tensortest.Layout
	seeds []uint64
	data  []byte
	dg    digest.Digest
}

const (
	tensors    = 68
	tensorSize = 512 << 10
)

// newVersion makes a version: changed may change the template, and the seeds of the tensors.
func newVersion(format func(tensortest.File) tensortest.Layout, change func(v *version)) *version {
	v := &version{}
	v.Metadata = []string{"general.architecture", "llama", "tokenizer.chat_template", "{{ messages }}"}
	for i := range tensors {
		v.File.Tensors = append(v.File.Tensors, tensortest.Tensor{
			Name: fmt.Sprintf("blk.%d.ffn.weight", i), Type: 1, Shape: []uint64{512, 512}, Size: tensorSize,
		})
		v.seeds = append(v.seeds, uint64(i))
	}
	if change != nil {
		change(v)
	}
	v.Layout = format(v.File)
	v.data = v.Bytes(v.Layout, v.seeds)
	v.dg = digest.FromBytes(v.data)
	return v
}

// versions are made once: a base, and updates of it.
var versions = sync.OnceValue(func() map[string]*version {
	gguf, safetensors := tensortest.File.GGUF, tensortest.File.Safetensors
	retrain := func(v *version) { v.seeds[20] += 1000 }
	header := func(v *version) { v.Metadata[3] += strings.Repeat(" and more", 20) }
	return map[string]*version{
		"GGUF":               newVersion(gguf, nil),
		"GGUF header":        newVersion(gguf, header),
		"GGUF tensor":        newVersion(gguf, retrain),
		"safetensors":        newVersion(safetensors, nil),
		"safetensors header": newVersion(safetensors, header),
		"safetensors tensor": newVersion(safetensors, retrain),
		"GGUF anew": newVersion(gguf, func(v *version) {
			for i := range v.seeds {
				v.seeds[i] += 1000
			}
		}),
	}
})

// model is the blob of a version, which the registry has.
func (w *world) model(name string) transfer.Blob {
	v := versions()[name]
	w.content[v.dg] = v.data
	w.reg.Replace(repository, v.dg, v.data)
	return transfer.Blob{Digest: v.dg.String(), Size: v.Size}
}

// here is a file that has a version.
func here(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.WriteFile(path, versions()[name].data, 0o644))
	return path
}

// reusing downloads an update beside what is here, and returns how many bytes the registry has sent.
func (w *world) reusing(b transfer.Blob, paths ...string) int64 {
	w.t.Helper()
	opts := w.downloadOptions(b)
	opts.Reuse = paths
	require.NoError(w.t, w.download(opts))
	w.reg.Wait()
	return w.reg.BytesSent()
}

func TestReuse(t *testing.T) {
	cases := map[string]int64{
		"GGUF header": 0, "safetensors header": 0,
		"GGUF tensor": tensorSize, "safetensors tensor": tensorSize,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, name string, changed int64) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.model(name)
		format, _, _ := strings.Cut(name, " ")
		old := here(t, format)
		sent := w.reusing(b, old)
		assert.LessOrEqual(t, sent, changed+b.Size/100)
		assert.Zero(t, w.progress.falls)
		w.requireOnly(b)
		left, err := os.ReadFile(old)
		require.NoError(t, err)
		assert.Equal(t, versions()[format].dg, digest.FromBytes(left), "never written to")
	})
}

// Where nothing is the same, nothing is fetched twice.
func TestReuseOfNothing(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.model("GGUF anew")
		// Fewer where a client has all and resets an HTTP/2 stream before the server has counted the last.
		assert.LessOrEqual(t, w.reusing(b, here(t, "GGUF"), here(t, "safetensors")), b.Size)
		w.requireOnly(b)
	})
}

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
					Name:  fmt.Sprintf("blk.0.expert.%d", n),
					Type:  1,
					Shape: []uint64{expertSize / 2},
					Size:  expertSize,
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

// Several large blobs at once take from the same files, with as few workers as there may be.
func TestReuseForSeveralBlobs(t *testing.T) {
	for _, concurrency := range []int{0, 1, 3} {
		inBubble(t, fmt.Sprint(concurrency), func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			one, two, small := w.model("GGUF header"), w.model("safetensors tensor"), w.remote(1000)
			opts := w.downloadOptions(one, two, small)
			opts.Concurrency = concurrency
			opts.Reuse = []string{here(t, "GGUF"), here(t, "safetensors")}
			require.NoError(t, w.download(opts))
			w.reg.Wait()
			assert.LessOrEqual(t, w.reg.BytesSent(), tensorSize+(one.Size+two.Size)/50)
			w.requireOnly(one, two, small)
		})
	}
}

// A small blob, or one without a table, costs no request more.
func TestReuseIsForLargeModelFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		small := w.remote(mebibyte)
		assert.Equal(t, small.Size, w.reusing(small, here(t, "GGUF")))
		assert.Equal(t, 1, w.gets(small))
		large := w.remoteLarge()
		assert.Equal(t, small.Size+large.Size, w.reusing(large, here(t, "GGUF")))
	})
}

// A file in Reuse may be anything.
func TestReuseOfWhatIsNoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		dir := t.TempDir()
		write := func(name string, data []byte) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, data, 0o644))
			return path
		}
		link := filepath.Join(dir, "link")
		require.NoError(t, os.Symlink(here(t, "GGUF"), link))
		b := w.model("GGUF header")
		assert.Equal(t, b.Size, w.reusing(b, "", "missing", dir, link, write("empty", nil),
			write("text", []byte(strings.Repeat("GGUF", 1000))), write("head only", versions()["GGUF"].Head)))
	})
}

// The source has other bytes than its table says, and where they were not compared.
func TestReuseOfAFileThatIsDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		old := here(t, "GGUF")
		flipBit(t, old, versions()["GGUF"].At[30]+70_001)
		b := w.model("GGUF header")
		assert.LessOrEqual(t, w.reusing(b, old), b.Size)
		w.requireOnly(b)
		assert.Positive(t, w.progress.falls, "what was wrong was thrown away")
	})
}

// Half of some tensors is damaged: where that was not met at first, more is compared before the rest is
// fetched.
func TestReuseOfAFileThatIsPartlyDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		old := here(t, "GGUF")
		f, err := os.OpenFile(old, os.O_RDWR, 0)
		require.NoError(t, err)
		for i := range 10 {
			_, err := f.WriteAt(make([]byte, tensorSize/2), versions()["GGUF"].At[30+i]+tensorSize/4)
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
		b := w.model("GGUF header")
		assert.LessOrEqual(t, w.reusing(b, old), 10*tensorSize+b.Size/25)
		w.requireOnly(b)
	})
}

// The source changes, is cut or vanishes when its bytes were compared and before they are copied.
func TestReuseOfAFileThatChanges(t *testing.T) {
	cases := map[string]func(t *testing.T, path string){
		"cut":    func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 9<<20)) },
		"vanish": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"zeros": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, make([]byte, 40<<20), 0o644))
		},
		"another": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, versions()["GGUF anew"].data, 0o644))
		},
	}
	for name, change := range cases {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.model("GGUF header")
			old := here(t, "GGUF")
			requests := 0
			w.observe(func() {
				if requests++; requests == 45 {
					change(t, old)
				}
			})
			assert.LessOrEqual(t, w.reusing(b, old), b.Size)
			assert.GreaterOrEqual(t, requests, 45)
			w.requireOnly(b)
		})
	}
}

// A call that is cancelled while it copies is continued, without Reuse or with it.
func TestReuseIsContinued(t *testing.T) {
	cases := map[string]int{"copying": 20 << 20, "probing": 100 << 10}
	for name, at := range cases {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.model("GGUF tensor")
			old := here(t, "GGUF")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			opts := w.downloadOptions(b)
			opts.Reuse = []string{old}
			opts.Progress = func(completed, _ int64) {
				if completed >= int64(at) {
					cancel(errOurs)
				}
			}
			require.ErrorIs(t, transfer.Download(ctx, opts), errOurs)
			w.reg.Wait()
			w.requirePartial(b)
			sent := w.reusing(b, old)
			assert.LessOrEqual(t, sent, int64(tensorSize)+b.Size/50)
			w.requireOnly(b)
		})
	}
}

// A registry that does not serve ranges sends the blob once.
func TestReuseWithoutRanges(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.model("GGUF header")
		assert.Equal(t, b.Size, w.reusing(b, here(t, "GGUF")))
		assert.Equal(t, 1, w.gets(b))
	})
}

// Ranges are served no longer when some have come: all that is missing then comes with one body.
func TestReuseWhereRangesStop(t *testing.T) {
	cases := named("10*ok->4*416", "10*ok->**norange")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.model("GGUF tensor")
		w.reg.Fault("GET", b.Digest, script)
		assert.LessOrEqual(t, w.reusing(b, here(t, "GGUF")), 4*b.Size)
		w.requireOnly(b)
	})
}

// The object store's URLs expire, and each is good for some of the probes.
func TestReuseThroughRedirects(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.model("GGUF tensor")
		cdn.Fault("GET", b.Digest, "20*ok->403")
		opts := w.withToken(w.downloadOptions(b))
		opts.Reuse = []string{here(t, "GGUF")}
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		cdn.Wait()
		assert.LessOrEqual(t, cdn.BytesSent(), tensorSize+b.Size/50)
	})
}

// The mirror has all, or lies.
func TestReuseThroughMirrors(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, two, options := mirrored(t, mode)
		b := w.model("GGUF tensor")
		wrong := append([]byte(nil), w.data(b)...)
		wrong[versions()["GGUF tensor"].At[20]+100_000]++
		one.Replace(repository, digest.Digest(b.Digest), wrong)
		two.Fault("GET", "", "**503")
		opts := options(b)
		opts.Reuse = []string{here(t, "GGUF")}
		require.NoError(t, w.download(opts))
		w.requireOnly(b)
	})
}

// What is copied is not held up by the cap on what is fetched.
func TestReuseUnderACap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.model("GGUF tensor")
		opts := w.downloadOptions(b)
		opts.Reuse, opts.MaxBytesPerSecond = []string{here(t, "GGUF")}, 256<<10
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Less(t, took, 10*time.Second)
		assert.Greater(t, took, 2*time.Second)
	})
}
