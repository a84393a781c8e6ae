package transfer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// A registry that answers each HEAD with a bare 200 is believed, until it refuses the manifest for a blob.
func TestU28BelievedInVain(t *testing.T) {
	const unknown = `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"%s}]}`
	cases := map[string]func(b transfer.Blob) string{
		"named, one at a time": func(b transfer.Blob) string {
			return fmt.Sprintf(unknown, fmt.Sprintf(`,"detail":{"Digest":%q}`, b.Digest))
		},
		"not named": func(transfer.Blob) string { return fmt.Sprintf(unknown, "") },
	}
	eachInBubbles(t, cases, func(
		t *testing.T, mode registrytest.Mode, _ string, says func(transfer.Blob) string,
	) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions()
		for _, size := range []int{1000, 3 << 20, 10 << 20} {
			opts.Blobs = append(opts.Blobs, w.local(size))
		}
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					_ = http.NewResponseController(rw).Flush()
					return true
				}
				for _, b := range opts.Blobs {
					if strings.Contains(r.URL.Path, "/manifests/") && !w.reg.Has(repository, digest.Digest(b.Digest)) {
						rw.WriteHeader(http.StatusBadRequest)
						_, _ = rw.Write([]byte(says(b)))
						return true
					}
				}
				return false
			}
		})
		opts.Manifest, opts.ManifestRef = []byte(`{"schemaVersion":2}`), "latest"
		require.NoError(t, w.upload(opts))
		_, pushed := w.reg.Manifest(repository, "latest")
		assert.True(t, pushed)
	})
}

// What is sent again is sent once: a registry that lacks it all the same is the one at fault.
func TestU28ManifestThatIsRefusedForEver(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/manifests/", `**says(400, {"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]})`)
		w.reg.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, r *http.Request) bool {
				bare := r.Method == http.MethodHead
				if bare {
					_ = http.NewResponseController(rw).Flush()
				}
				return bare
			}
		})
		opts := w.uploadOptions(w.local(1000), w.local(3<<20))
		opts.Manifest, opts.ManifestRef = []byte(`{"schemaVersion":2}`), "latest"
		requireStatus(t, w.upload(opts), http.StatusBadRequest)
		assert.Equal(t, 2, w.reg.Count("PUT", "/manifests/"))
	})
}

// The digest is told to the Ollama registry with each large blob, which it may have in another repository.
func TestU24LargeBlobsAreMountedByTheirDigest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.ServeOllama(w.net, "store.test", mode, registrytest.Ollama{})
		opts := w.uploadOptions(w.local(5<<20), w.local(1000), w.local(3<<20))
		tell := func(rw http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			for _, b := range opts.Blobs {
				if b.Size > mebibyte && r.URL.Query().Get("digest") == b.Digest {
					w.reg.Put(repository, w.data(b))
					rw.Header().Set("Docker-Content-Digest", b.Digest)
					rw.WriteHeader(http.StatusCreated)
					return true
				}
			}
			return false
		}
		w.reg.Configure(func(o *registrytest.Options) { o.Before = tell })
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 3, w.reg.Count("POST", ""))
		assert.Zero(t, w.reg.Count("DELETE", ""))
	})
}

// A digest that is listed twice is mounted from where the second says.
func TestE18FromOfABlobThatIsListedTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.local(3 << 20)
		w.reg.Put("library/other", w.data(b))
		again := b
		again.From = "other"
		require.NoError(t, w.upload(w.uploadOptions(b, again)))
		assert.Zero(t, w.reg.BytesReceived())
	})
}
