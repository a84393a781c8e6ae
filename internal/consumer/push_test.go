package consumer_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// The layers of a model that was made from another one have that one's name, as its user wrote it.
func TestU24ModelMadeFromAnother(t *testing.T) {
	for _, c := range []struct{ from, repository string }{
		{"llama3.2", "library/llama3.2"},
		{"llama3.2:latest", "library/llama3.2"},
		{"me/tensors:latest", "me/tensors"},
		{"127.0.0.1:5055/me/tensors:latest", "me/tensors"},
		{"http://127.0.0.1:5055/me/tensors:latest", "me/tensors"},
		{"registry.ollama.ai/me/tensors:latest", ""},
		{"hf.co/me/tensors:Q4_K_M", ""},
		{"../tensors", ""},
		{"C:\\models\\tensors.gguf", ""},
		{"/home/me/models/tensors.gguf", ""},
	} {
		t.Run(c.from, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, "127.0.0.1:5055", mode, registrytest.Options{CheckManifest: true})
				l := w.local(1000)
				l.From = c.from
				if c.repository != "" {
					w.stored(c.repository, l)
				}
				own := w.local(2000)
				manifest := manifestOf(t, l, own)
				require.NoError(t, w.push(t.Context(), repository, "latest", []layer{l, own}, manifest, nil))
				w.requirePushed(l, own)
				pushed, ok := w.reg.Manifest(repository, "latest")
				require.True(t, ok)
				assert.Equal(t, manifest, pushed)
				sent := own.Size
				if c.repository == "" {
					sent += l.Size
				}
				received := w.reg.BytesReceived() - int64(len(manifest))
				assert.Equal(t, sent, received, "a blob is mounted and not sent")
			})
		})
	}
}

// unread answers 201 to each PUT that has a body, and reads none.
func unread(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPut || r.ContentLength == 0 || r.URL.Query().Get("digest") == "" {
		return false
	}
	w.WriteHeader(http.StatusCreated)
	return true
}

// A success that is told before the body is asked for is none.
func TestU25CreatedWithoutReading(t *testing.T) {
	cases := registrytest.Named(2<<20, 70<<20)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, size int) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{Before: unread})
		l := w.local(size)
		var book bookkeeper
		require.NoError(t, w.push(t.Context(), repository, "", []layer{l}, nil, book.tell))
		w.requirePushed(l)
		book.requireFromTo(t, 0, l.Size)
	})
}

// The file is hashed before a registry can have all of it, also a small one that needs not be asked for.
func TestU25FileThatIsNotItsDigestIsNoSuccess(t *testing.T) {
	cases := registrytest.Named(1000, 100<<10, 2<<20)
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, size int) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{Before: unread})
		l := w.local(size)
		require.NoError(t, os.WriteFile(w.path(l), make([]byte, size), 0o644))
		require.Error(t, w.push(t.Context(), repository, "", []layer{l}, nil, nil))
	})
}

// zeros returns a layer of zeros that takes no space on the disk of the program.
func (w *world) zeros(size int64) layer {
	l := layer{Digest: registrytest.ZeroDigest(size).String(), Size: size}
	f, err := os.Create(w.path(l))
	require.NoError(w.t, err)
	require.NoError(w.t, f.Truncate(size))
	require.NoError(w.t, f.Close())
	return l
}

// The object store wants parts of one size, the last no larger, and the sum of their sums.
func TestU26PartsOfOneSize(t *testing.T) {
	cases := map[string]bool{"told by POST": false, "told by PATCH": true}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, late bool) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{MaxBody: 1 << 20})
		w.guard(0)
		store := w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{
			ExactParts: true, LateLocation: late, Discard: true,
		})
		l := w.zeros(201 << 20)
		var book bookkeeper
		require.NoError(t, w.push(t.Context(), repository, "", []layer{l}, nil, book.tell))
		assert.Empty(t, store.Violations())
		assert.Empty(t, store.Tokens(), "the store gets no token")
		require.Len(t, store.Uploads(), 1)
		assert.Equal(t, []int64{100 << 20, 100 << 20, 1 << 20}, store.Uploads()[0].Sizes)
		assert.Equal(t, l.Size, store.BytesReceived(), "no byte is sent twice")
		book.requireFromTo(t, 0, l.Size)
	})
}

// A model of many tensors goes to both kinds of Ollama registry, and comes back from them.
func TestU26ModelOfManyTensors(t *testing.T) {
	cases := map[string]registrytest.Ollama{
		"direct": {Direct: true, SignedHeaders: http.Header{"X-Amz-Checksum-Sha256": {"abc"}}},
		"parts":  {ExactParts: false, MinPart: 1},
		"late":   {LateLocation: true, MinPart: 1},
	}
	registrytest.Each(t, cases, func(t *testing.T, mode registrytest.Mode, o registrytest.Ollama) {
		w := newWorld(t, "registry.test", mode, registrytest.Options{CheckManifest: true})
		w.guard(0)
		store := w.reg.ServeOllama(w.net, "store.test", mode, o)
		var layers []layer
		for i := range 60 {
			layers = append(layers, w.local(1000+100*i))
		}
		layers = append(layers, w.local(3<<20))
		manifest := manifestOf(t, layers...)
		require.NoError(t, w.push(t.Context(), repository, "latest", layers, manifest, nil))
		assert.Empty(t, store.Violations())
		w.requirePushed(layers...)

		w.blobs = t.TempDir()
		require.NoError(t, w.pull(t.Context(), repository, layers, nil))
		w.requirePulled(layers...)
	})
}

// The manifest is pushed where it, the tag and the repository are all given.
func TestManifestNeedsARepository(t *testing.T) {
	for _, c := range []struct {
		repository, tag string
		manifest        bool
		pushed          int
	}{
		{repository, "latest", true, 1}, {"", "latest", true, 0},
		{repository, "", true, 0}, {repository, "latest", false, 0},
	} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, "registry.test", mode, registrytest.Options{})
			layers := []layer{w.local(100)}
			var manifest []byte
			if c.manifest {
				manifest = manifestOf(t, layers...)
			}
			require.NoError(t, w.push(t.Context(), c.repository, c.tag, layers, manifest, nil))
			assert.Equal(t, c.pushed, w.reg.Count("PUT", "/manifests/"), c)
			_, there := w.reg.Blob(digest.Digest(layers[0].Digest))
			assert.True(t, there)
		})
	}
}
