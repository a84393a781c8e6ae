package e2e

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
)

// Everything that package registry does, against registries that want nothing, a password, or a token.
func TestPackageRegistry(t *testing.T) {
	ts := newTokenServer(t)
	ts.user, ts.password = user, password
	servers := registries(t)
	servers["distribution with a password"] = newDistribution(t).withPasswords(t).serve(t)
	servers["distribution with tokens for anybody"] = newDistribution(t).withToken(newTokenServer(t)).serve(t)
	servers["distribution with tokens"] = newDistribution(t).withToken(ts).serve(t)
	person := registry.Credentials{Username: user, Password: password}
	who := map[string]registry.Credentials{ // the others let in anybody
		"distribution with a password": person, "distribution with tokens": person,
	}
	for name, s := range servers {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			repo, err := registry.Open(registry.Options{
				BaseURL: s.url, Repository: repository, Client: s.client,
				Credentials: who[name],
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
	ts.user, ts.password = user, password
	for name, s := range map[string]*server{
		"password": newDistribution(t).withPasswords(t).serve(t),
		"tokens":   newDistribution(t).withToken(ts).serve(t),
	} {
		for who, c := range map[string]registry.Credentials{
			"nobody":  {},
			"another": {Username: "bob", Password: password},
			"wrong":   {Username: user, Password: "a-wrong-secret"},
		} {
			t.Run(name+" "+who, func(t *testing.T) {
				opts := registry.Options{BaseURL: s.url, Repository: repository, Credentials: c}
				repo, err := registry.Open(opts)
				require.NoError(t, err)
				require.ErrorIs(t, repo.Ping(t.Context()), registry.ErrUnauthorized)
				_, err = repo.Manifest(t.Context(), "v1")
				require.ErrorIs(t, err, registry.ErrUnauthorized)
				_, err = repo.Pull(t.Context(), "v1", t.TempDir(), nil)
				require.ErrorIs(t, err, registry.ErrUnauthorized)
				assert.NotContains(t, err.Error(), "a-wrong-secret")
				up := repo.UploadOptions()
				up.SrcDir = t.TempDir()
				up.Blobs = addBlobs(t, up.SrcDir, 1, 1000)
				err = transfer.Upload(t.Context(), up)
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "a-wrong-secret")
				assert.Zero(t, sumReceived(s.seen(kind(kindUpload))))
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
