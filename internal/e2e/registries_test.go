package e2e

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
)

// indexOf returns an index of manifests for platforms, by platform.
func indexOf(t testing.TB, manifests map[string]registry.Manifest) registry.Manifest {
	t.Helper()
	var list []map[string]any
	for _, platform := range []string{"amd64", "arm64"} {
		m := manifests[platform]
		list = append(list, map[string]any{
			"mediaType": m.MediaType, "digest": m.Digest, "size": len(m.Data),
			"platform": map[string]string{"os": "linux", "architecture": platform},
		})
	}
	return registry.NewManifest(marshalJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeIndex, "manifests": list,
	}), "")
}

func TestManifestsAtEveryRegistry(t *testing.T) {
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			repo := open(t, s, registry.Credentials{})
			dirs, manifests := map[string]string{}, map[string]registry.Manifest{}
			blobs := map[string][]transfer.Blob{}
			for i, platform := range []string{"amd64", "arm64"} {
				dir := t.TempDir()
				dirs[platform] = dir
				layers := addBlobs(t, dir, uint64(100*i), 10, 70_000)
				manifests[platform], blobs[platform] = layersOf(t, dir, layers)
				pushModel(t, repo, dir, platform, manifests[platform], blobs[platform])
			}
			index := indexOf(t, manifests)
			require.NoError(t, repo.PutManifest(t.Context(), "latest", index))

			for _, ref := range []string{"latest", index.Digest} {
				got, err := repo.Manifest(t.Context(), ref)
				require.NoError(t, err)
				require.Equal(t, index, got)
				for platform, want := range manifests {
					m, err := repo.Platform(t.Context(), got, "linux/"+platform)
					require.NoError(t, err)
					assert.Equal(t, want, m)
				}
				_, err = repo.Platform(t.Context(), got, "linux/riscv64")
				require.ErrorIs(t, err, registry.ErrPlatform)
			}
			for platform, m := range manifests {
				dst := t.TempDir()
				got, err := repo.Pull(t.Context(), m.Digest, dst, nil)
				require.NoError(t, err)
				assert.Equal(t, m, got)
				requireSame(t, dirs[platform], dst, blobs[platform])
			}

			tags, err := repo.Tags(t.Context())
			require.NoError(t, err)
			assert.ElementsMatch(t, []string{"amd64", "arm64", "latest"}, tags)
			there, err := repo.Exists(t.Context(), "missing")
			require.NoError(t, err)
			assert.False(t, there)
			there, err = repo.Exists(t.Context(), digest.FromString("missing").String())
			require.NoError(t, err)
			assert.False(t, there)
			require.NoError(t, repo.Ping(t.Context()))
		})
	}
}
