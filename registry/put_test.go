package registry_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func TestPutManifest(t *testing.T) {
	index := registry.NewManifest([]byte(`{"schemaVersion":2,"manifests":[]}`), "")
	sha512 := digest.SHA512.FromBytes(index.Data).String()
	for ref, stored := range map[string]string{
		"latest": "latest", "": index.Digest, index.Digest: index.Digest, sha512: sha512,
	} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode).protect()
			repo := w.open(person)
			require.NoError(t, repo.PutManifest(t.Context(), ref, index))
			got, err := repo.Manifest(t.Context(), stored)
			require.NoError(t, err)
			assert.Equal(t, index.Data, got.Data)
			assert.Equal(t, registry.MediaTypeIndex, got.MediaType)
			assert.Len(t, w.tokens.asked(), 1)
		})
	}
}

func TestPutManifestKeepsMediaType(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		m := registry.NewManifest([]byte(`{"schemaVersion":2}`), "application/vnd.example+json")
		require.NoError(t, w.open().PutManifest(t.Context(), "latest", m))
		require.NoError(t, w.open().PutManifest(t.Context(), "other", registry.Manifest{Data: m.Data}))
		list := w.reg.Requests()
		assert.Equal(t, "application/vnd.example+json", list[0].Header.Get("Content-Type"))
		assert.Equal(t, registry.MediaTypeDockerManifest, list[1].Header.Get("Content-Type"))
	})
}

func TestPutManifestOfAnotherDigest(t *testing.T) {
	w := newWorld(t, registrytest.H1)
	other := digest.FromString("x").String()
	err := w.open().PutManifest(t.Context(), other, registry.NewManifest([]byte("{}"), ""))
	require.ErrorIs(t, err, transfer.ErrDigestMismatch)
	assert.Empty(t, w.reg.Requests())
}

func TestPutManifestIsTriedAgain(t *testing.T) {
	for _, script := range []string{
		"503->reset->hangup", "swallow->swallow+reset", "stallheaders", "429(retry-after: 5)",
	} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.reg.Fault("PUT", "/manifests/", script)
			m := registry.NewManifest([]byte(`{"schemaVersion":2}`), "")
			require.NoError(t, w.open().PutManifest(t.Context(), "latest", m))
			data, ok := w.reg.Manifest(repository, "latest")
			require.True(t, ok)
			assert.Equal(t, m.Data, data)
		})
	}
}

func TestPutManifestIsRefused(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		w.reg.Configure(func(o *registrytest.Options) { o.CheckManifest = true })
		data := manifestOf(t, func(string) {}, "weights")
		begun := time.Now()
		err := w.open().PutManifest(t.Context(), "latest", registry.NewManifest(data, ""))
		requireStatus(t, err, 400)
		assert.Contains(t, err.Error(), "MANIFEST_BLOB_UNKNOWN")
		assert.Less(t, time.Since(begun), noBackoff)
	})
}

// Only 201, 202, the right digest, or the manifest itself say that the registry has it.
func TestU15PutManifestIsConfirmed(t *testing.T) {
	m := registry.NewManifest([]byte(`{"schemaVersion":2}`), "")
	other := "sha256:" + strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		status int
		digest string
		serves string // what the registry has under the tag then
		want   error
	}{
		"201":                   {201, "", "", nil},
		"202":                   {202, "", "", nil},
		"200 with the digest":   {200, m.Digest, "", nil},
		"200":                   {200, "", "", transfer.ErrProtocol},
		"200, and it is there":  {200, "", string(m.Data), nil},
		"204, and it is there":  {204, "", string(m.Data), nil},
		"200, another is there": {200, "", `{"schemaVersion":3}`, transfer.ErrProtocol},
		"204":                   {204, "", "", transfer.ErrProtocol},
		"304":                   {304, "", "", &transfer.StatusError{}},
		"200, malformed digest": {200, "sha256:abc", "", transfer.ErrProtocol},
		"200, another digest":   {200, other, string(m.Data), transfer.ErrDigestMismatch},
		"201, another digest":   {201, other, "", transfer.ErrDigestMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode)
				if c.serves != "" {
					w.reg.PutManifest(repository, "latest", registry.MediaTypeManifest, []byte(c.serves))
				}
				w.answers("PUT", func(rw http.ResponseWriter, r *http.Request) {
					if c.digest != "" {
						rw.Header().Set("Docker-Content-Digest", c.digest)
					}
					rw.WriteHeader(c.status)
				})
				begun := time.Now()
				err := w.open().PutManifest(t.Context(), "latest", m)
				assert.Less(t, time.Since(begun), noBackoff)
				var status *transfer.StatusError
				switch c.want.(type) {
				case nil:
					require.NoError(t, err)
				case *transfer.StatusError:
					require.ErrorAs(t, err, &status)
				default:
					require.ErrorIs(t, err, c.want)
				}
			})
		})
	}
}
