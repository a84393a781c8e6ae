package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
)

// ada's password is "open sesame". The hash is that of bcrypt, the only one that distribution takes.
const htpasswd = "ada:$2a$04$im4szEmeTzIJCrG.kWNS5.VH3ZANAeasDdQSevTJ/cZYRKUtkfi2y\n"

// withPassword lets in ada, by Basic authentication only.
func (d *distribution) withPassword(t testing.TB) *distribution {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	require.NoError(t, os.WriteFile(path, []byte(htpasswd), 0o600))
	d.Auth = configuration.Auth{"htpasswd": {"realm": "e2e", "path": path}}
	return d
}

// ofAda gives tokens to ada only.
func ofAda(ts *tokenServer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "ada" || p != "open sesame" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		ts.ServeHTTP(w, r)
	})
}

// Everything that package registry does, against registries that want nothing, a password, or a token.
func TestPackageRegistry(t *testing.T) {
	ts := newTokenServer(t)
	ts.server = serve(t, ofAda(ts), false)
	servers := registries(t)
	servers["distribution with a password"] = newDistribution(t).withPasswords(t).serve(t)
	servers["distribution with tokens"] = newDistribution(t).withToken(ts).serve(t)
	for name, s := range servers {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			repo, err := registry.Open(registry.Options{
				BaseURL: s.url, Repository: repository, Client: s.client,
				Credentials: registry.Credentials{Username: "ada", Password: "open sesame"},
			})
			require.NoError(t, err)
			require.NoError(t, repo.Ping(ctx))

			src, dst := t.TempDir(), t.TempDir()
			blobs := addBlobs(t, src, 7, 10, 1000, 3*mib)
			data := manifest{
				MediaType: mediaTypeOCI, Config: new(describe(mediaTypeEmpty, blobs[0])),
				Layers: describeAll(mediaTypeWeights, blobs[1:]),
			}.marshal(t)
			up := repo.UploadOptions()
			up.SrcDir, up.Blobs, up.Manifest, up.ManifestRef = src, blobs, data, "v1"
			require.NoError(t, transfer.Upload(ctx, up))

			there, err := repo.Exists(ctx, "v1")
			require.NoError(t, err)
			assert.True(t, there)
			there, err = repo.Exists(ctx, digest.FromString("nothing").String())
			require.NoError(t, err)
			assert.False(t, there)

			m, err := repo.Manifest(ctx, "v1")
			require.NoError(t, err)
			assert.Equal(t, registry.NewManifest(data, mediaTypeOCI), m)
			listed, err := m.Blobs()
			require.NoError(t, err)
			assert.ElementsMatch(t, blobs, listed)

			index := registry.NewManifest(manifest{MediaType: mediaTypeIndex, Manifests: []descriptor{
				{MediaType: mediaTypeOCI, Digest: m.Digest, Size: int64(len(data))},
			}}.marshal(t), "")
			require.NoError(t, repo.PutManifest(ctx, "index", index))
			require.NoError(t, repo.PutManifest(ctx, "", index))
			tags, err := repo.Tags(ctx)
			require.NoError(t, err)
			assert.ElementsMatch(t, []string{"v1", "index"}, tags)

			pulled, err := repo.Pull(ctx, "index", dst, nil)
			require.NoError(t, err)
			assert.Equal(t, m, pulled)
			requireSame(t, src, dst, blobs)
		})
	}
}

// Who may not come in is told so, by each of the ways to come in.
func TestPackageRegistryRefuses(t *testing.T) {
	ts := newTokenServer(t)
	ts.server = serve(t, ofAda(ts), false)
	for name, s := range map[string]*server{
		"password": newDistribution(t).withPasswords(t).serve(t),
		"tokens":   newDistribution(t).withToken(ts).serve(t),
	} {
		for who, c := range map[string]registry.Credentials{
			"nobody":  {},
			"another": {Username: "bob", Password: "open sesame"},
			"wrong":   {Username: "ada", Password: "x"},
		} {
			t.Run(name+" "+who, func(t *testing.T) {
				repo, err := registry.Open(registry.Options{BaseURL: s.url, Repository: repository, Credentials: c})
				require.NoError(t, err)
				require.ErrorIs(t, repo.Ping(t.Context()), registry.ErrUnauthorized)
				_, err = repo.Manifest(t.Context(), "v1")
				require.ErrorIs(t, err, registry.ErrUnauthorized)
				_, err = repo.Pull(t.Context(), "v1", t.TempDir(), nil)
				require.ErrorIs(t, err, registry.ErrUnauthorized)
			})
		}
	}
}

// A token for mounting covers both repositories, each blob's own.
func TestPackageRegistryMounts(t *testing.T) {
	ts := newTokenServer(t)
	s := newDistribution(t).withToken(ts).serve(t)
	src := t.TempDir()
	blobs := addBlobs(t, src, 7, 10, 1000, 3*mib, 100_000)
	for i, name := range []string{"library/base", "library/other", "library/third"} {
		repo, err := registry.Open(registry.Options{
			BaseURL: s.url, Repository: name, UserAgent: userAgent,
		})
		require.NoError(t, err)
		up := repo.UploadOptions()
		up.SrcDir, up.Blobs = src, blobs[i:i+1]
		require.NoError(t, transfer.Upload(t.Context(), up))
		blobs[i].From = name
	}
	s.forget()
	ts.forget()
	repo, err := registry.Open(registry.Options{
		BaseURL: s.url, Repository: "library/fork", UserAgent: userAgent,
	})
	require.NoError(t, err)
	up := repo.UploadOptions()
	up.SrcDir, up.Blobs = src, blobs
	require.NoError(t, transfer.Upload(t.Context(), up))
	assert.Equal(t, blobs[3].Size, sumReceived(s.seen(byLibrary)), "only what is nowhere is sent")
	assert.LessOrEqual(t, len(ts.seen()), 8, "tokens")
}
