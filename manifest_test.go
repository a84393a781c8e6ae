package transfer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/fault"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestManifestMediaType(t *testing.T) {
	cases := map[string]string{
		`{"mediaType":"application/x+json"}`: "application/x+json",                      // as it says
		` {"manifests": [] }`:                "application/vnd.oci.image.index.v1+json", // as its shape tells
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, manifest, want string) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions()
		opts.SrcDir, opts.Manifest, opts.ManifestRef = "", []byte(manifest), "v1"
		require.NoError(t, w.upload(opts))
		require.Len(t, w.reg.Requests(), 1)
		assert.Equal(t, []string{want}, w.reg.Requests()[0].Header.Values("Content-Type"))
		got, _ := w.reg.Manifest(repository, "v1")
		assert.Equal(t, manifest, string(got), "byte for byte")
	})
}

func TestManifestByDigest(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			w := newWorld(t, mode, registrytest.Options{})
			opts := w.uploadOptions(w.local(10))
			opts.Manifest = []byte(`{"schemaVersion":2}`)
			opts.ManifestRef = algorithm.FromBytes(opts.Manifest).String()
			require.NoError(t, w.upload(opts))
			got, ok := w.reg.Manifest(repository, opts.ManifestRef)
			require.True(t, ok)
			assert.Equal(t, opts.Manifest, got)
		}
	})
}

func TestManifestReferencesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		ref  string
		want error
	}{
		"digest of another":  {digest.FromString("another").String(), transfer.ErrDigestMismatch},
		"no digest":          {"sha256:abc", transfer.ErrInvalidDigest},
		"unknown algorithm":  {"md5:d41d8cd98f00b204e9800998ecf8427e", transfer.ErrInvalidDigest},
		"tag with a slash":   {"../x", transfer.ErrInvalidOption},
		"tag with a query":   {"x?y", transfer.ErrInvalidOption},
		"tag with a dash":    {"-x", transfer.ErrInvalidOption},
		"tag that is long":   {strings.Repeat("x", 129), transfer.ErrInvalidOption},
		"tag with a percent": {"x%2fy", transfer.ErrInvalidOption},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			opts := w.uploadOptions(w.local(10))
			opts.Manifest, opts.ManifestRef = []byte(`{}`), c.ref
			require.ErrorIs(t, w.upload(opts), c.want)
			assert.Empty(t, w.reg.Requests())
		})
	}
}

// What is no manifest at all is refused before the first request. What an object has in it, the registry judges.
func TestManifestThatIsNone(t *testing.T) {
	for _, data := range []string{`hello`, `[]`, `null`, `"x"`, `{"schemaVersion":2`, `{} {}`, ` `} {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = []byte(data), "latest"
		require.ErrorIs(t, w.upload(opts), fault.ErrManifest, data)
		assert.Empty(t, w.reg.Requests(), data)
	}
}

func TestManifestIsOptional(t *testing.T) {
	cases := map[string]transfer.UploadOptions{
		"no manifest": {ManifestRef: "latest"}, "no reference": {Manifest: []byte(`{}`)}, "neither": {},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, given transfer.UploadOptions) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = given.Manifest, given.ManifestRef
		require.NoError(t, w.upload(opts))
		assert.Zero(t, w.reg.Count("", "/manifests/"))
	})
}

func TestManifestThatTheRegistryMistakes(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/manifests/", "header(-docker-content-digest; docker-content-digest: "+
			digest.FromString("another").String()+")")
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		require.ErrorIs(t, w.upload(opts), transfer.ErrDigestMismatch)
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
	})
}

func TestManifestIsTriedAgain(t *testing.T) {
	cases := named("503", "2*500->reset", "stallheaders", "swallow", "429(retry-after: 3)", "reset(0)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		fault := w.reg.Fault("PUT", "/manifests/", script)
		opts := w.uploadOptions(w.local(10))
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		begun := time.Now()
		require.NoError(t, w.upload(opts))
		assert.True(t, fault.Done())
		assert.Less(t, time.Since(begun), 15*time.Second)
		_, ok := w.reg.Manifest(repository, "latest")
		assert.True(t, ok)
	})
}

func TestManifestIsRefused(t *testing.T) {
	for _, code := range []int{400, 403, 404, 405, 413, 501} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				const said = `{"errors":[{"code":"MANIFEST_INVALID","message":"too many legs"},{"code":"DENIED"}]}`
				w.reg.Fault("", "/manifests/", fmt.Sprintf("**says(%d, %s)", code, said))
				opts := w.uploadOptions(w.local(10))
				opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
				begun := time.Now()
				err := w.upload(opts)
				status := requireStatus(t, err, code)
				assert.Equal(t, []transfer.RegistryError{{Code: "MANIFEST_INVALID", Message: "too many legs"},
					{Code: "DENIED"}}, status.Errors)
				assert.ErrorContains(t, err, "too many legs")
				assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
				assert.Less(t, time.Since(begun), noBackoff)
				assert.True(t, w.reg.Has(repository, digest.Digest(opts.Blobs[0].Digest)), "the blobs stay")
			})
		})
	}
}

func TestU14ManifestOfABlobThatFailed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		bad, good := w.local(3<<20), w.local(2<<20)
		w.reg.Fault("PUT", bad.Digest[len("sha256:"):], "**delay(500ms)+403")
		opts := w.uploadOptions(bad, good)
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		err := w.upload(opts)
		requireStatus(t, err, http.StatusForbidden)
		requireBlobError(t, err, bad, "upload")
		w.reg.Wait()
		assert.Zero(t, w.reg.Count("", "/manifests/"))
		assert.Zero(t, w.reg.Sessions())
		assert.True(t, w.reg.Has(repository, digest.Digest(good.Digest)), "what was finished stays")
	})
}

// U14: nor is it sent again when a blob that the registry lacks after all cannot be sent.
func TestU14ManifestOfABlobThatCannotBeSentAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		b := w.local(3 << 20)
		w.reg.Fault("HEAD", b.Digest, fmt.Sprintf("200(content-length: %d)", b.Size))
		w.reg.Fault("PUT", "/uploads/", "**403")
		opts := w.uploadOptions(b)
		opts.Manifest = fmt.Appendf(nil, `{"schemaVersion":2,"layers":[{"digest":%q,"size":%d}]}`, b.Digest, b.Size)
		opts.ManifestRef = "latest"
		err := w.upload(opts)
		requireStatus(t, err, http.StatusForbidden)
		requireBlobError(t, err, b, "upload")
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
	})
}

// Its bytes are progress too.
func TestN7ManifestOnASlowLink(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/manifests/", "**slow(200K)")
		opts := w.uploadOptions()
		opts.SrcDir = ""
		opts.Manifest, opts.ManifestRef = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 4<<20)), "latest"
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
	})
}

func TestManifestWithBlobsThatTheRegistryOnlySaidItHas(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		b, other := w.local(1000), w.local(2000)
		w.reg.Fault("HEAD", b.Digest, fmt.Sprintf("200(content-length: %d)", b.Size))
		opts := w.uploadOptions(b, other)
		opts.Manifest = fmt.Appendf(nil,
			`{"schemaVersion":2,"layers":[{"digest":%q,"size":1000},{"digest":%q,"size":2000}]}`, b.Digest,
			other.Digest)
		opts.ManifestRef = "latest"
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 2, w.reg.Count("PUT", "/manifests/"))
		assert.Equal(t, 1, w.reg.Count("HEAD", b.Digest))
	})
}

func TestManifestWhoseBlobFailsWhenItIsSentAgain(t *testing.T) {
	cases := named("reset(1M)", "503")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{CheckManifest: true})
		b := w.local(3 << 20)
		w.reg.Fault("HEAD", b.Digest, fmt.Sprintf("**200(content-length: %d)", b.Size))
		fault := w.reg.Fault("PUT", "/uploads/", script)
		opts := w.uploadOptions(b)
		opts.Manifest = fmt.Appendf(nil, `{"schemaVersion":2,"layers":[{"digest":%q,"size":%d}]}`, b.Digest, b.Size)
		opts.ManifestRef = "latest"
		require.NoError(t, w.upload(opts))
		assert.True(t, fault.Done())
		assert.Equal(t, 2, w.reg.Count("PUT", "/manifests/"))
	})
}
