package registry_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func TestContentOfManifest(t *testing.T) {
	data := `{"schemaVersion":2,"mediaType":"` + registry.MediaTypeManifest + `",
	"artifactType":"application/x",
		"config":{"mediaType":"a/config","digest":"` + digest.FromString("c").String() + `","size":1},
		"layers":[{"mediaType":"a/layer","digest":"` + digest.FromString("l").String() + `","size":7,
			"annotations":{"org.opencontainers.image.title":"model.gguf","other":"x"}}],
		"subject":{"mediaType":"a/subject","digest":"` + digest.FromString("s").String() + `","size":3},
		"annotations":{"note":"hello"}}`
	m := registry.NewManifest([]byte(data), "")
	assert.Equal(t, registry.MediaTypeManifest, m.MediaType)
	assert.Equal(t, digest.FromString(data).String(), m.Digest)
	assert.False(t, m.IsIndex())
	c, err := m.Content()
	require.NoError(t, err)
	assert.Equal(t, "application/x", c.ArtifactType)
	assert.Equal(t, map[string]string{"note": "hello"}, c.Annotations)
	config := registry.Descriptor{MediaType: "a/config", Digest: digest.FromString("c").String(), Size: 1}
	assert.Equal(t, &config, c.Config)
	assert.Equal(t, digest.FromString("s").String(), c.Subject.Digest)
	require.Len(t, c.Layers, 1)
	assert.Equal(t, "model.gguf", c.Layers[0].Title())
	assert.Equal(t, "x", c.Layers[0].Annotations["other"])
	assert.Empty(t, c.Config.Title())
	assert.Empty(t, c.Manifests)

	blobs, err := m.Blobs()
	require.NoError(t, err)
	assert.Equal(t, []transfer.Blob{
		{Digest: digest.FromString("c").String(), Size: 1},
		{Digest: digest.FromString("l").String(), Size: 7},
	}, blobs)
}

func TestBlobsAreDistinct(t *testing.T) {
	data := manifestOf(t, func(string) {}, "a", "b", "a", "{}", "b")
	blobs, err := registry.NewManifest(data, "").Blobs()
	require.NoError(t, err)
	assert.Equal(t, []transfer.Blob{
		{Digest: digest.FromString("{}").String(), Size: 2},
		{Digest: digest.FromString("a").String(), Size: 1},
		{Digest: digest.FromString("b").String(), Size: 1},
	}, blobs)
}

func TestMalformedManifests(t *testing.T) {
	sized := func(size string) string {
		return `{"digest":"` + digest.FromString("x").String() + `","size":` + size + `}`
	}
	good := sized("1")
	for name, data := range map[string]string{
		"nothing":           ``,
		"no JSON":           page,
		"an array":          `[]`,
		"no config":         `{"layers":[` + good + `]}`,
		"null config":       `{"config":null,"layers":[]}`,
		"schema 1":          `{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:abc"}]}`,
		"no digest":         `{"config":{"size":1}}`,
		"path for a digest": `{"config":{"digest":"../../etc/passwd","size":1}}`,
		"upper-case digest": `{"config":{"digest":"sha256:` + strings.Repeat("A", 64) + `","size":1}}`,
		"unknown algorithm": `{"config":{"digest":"md5:` + strings.Repeat("a", 32) + `","size":1}}`,
		"negative size":     `{"config":` + sized("-1") + `}`,
		"huge size":         `{"config":` + sized("1e30") + `}`,
		"size is a string":  `{"config":` + sized(`"1"`) + `}`,
		"two sizes":         `{"config":` + good + `,"layers":[` + sized("2") + `]}`,
		"malformed subject": `{"config":` + good + `,"subject":{"digest":"x"}}`,
	} {
		blobs, err := registry.NewManifest([]byte(data), "").Blobs()
		require.ErrorIs(t, err, registry.ErrManifest, name)
		assert.Empty(t, blobs, name)
	}
}

// indexOf makes an index of manifests with these platforms, and stores all of them.
func (w *world) indexOf(platforms ...string) (registry.Manifest, map[string]registry.Manifest) {
	w.t.Helper()
	all := map[string]registry.Manifest{}
	var list []any
	for _, platform := range platforms {
		name, extra, _ := strings.Cut(platform, " ")
		m := w.put("for-"+strings.ReplaceAll(name, "/", "-"), "weights for "+platform)
		all[platform] = m
		entry := map[string]any{
			"mediaType": registry.MediaTypeManifest, "digest": m.Digest, "size": len(m.Data),
		}
		if parts := strings.Split(name, "/"); len(parts) > 1 {
			p := map[string]string{"os": parts[0], "architecture": parts[1]}
			if len(parts) > 2 {
				p["variant"] = parts[2]
			}
			entry["platform"] = p
		}
		if extra != "" {
			entry["annotations"] = map[string]string{"vnd.docker.reference.type": extra}
		}
		list = append(list, entry)
	}
	data, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": list})
	require.NoError(w.t, err)
	w.reg.PutManifest(repository, "index", registry.MediaTypeIndex, data)
	return registry.NewManifest(data, registry.MediaTypeIndex), all
}

func TestPlatform(t *testing.T) {
	const attestation = "unknown/unknown attestation-manifest"
	for _, c := range []struct {
		platforms []string
		ask, want string
	}{
		{[]string{"linux/amd64", "linux/arm64/v8"}, "linux/amd64", "linux/amd64"},
		{[]string{"linux/amd64", "linux/arm64/v8"}, "linux/arm64", "linux/arm64/v8"},
		{[]string{"linux/amd64", "linux/arm64"}, "linux/arm64/v8", "linux/arm64"},
		{[]string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7", "linux/arm/v7"},
		{[]string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm", "linux/arm/v6"},
		{[]string{"linux/amd64/v3", "linux/amd64"}, "linux/amd64", "linux/amd64"},
		{[]string{"linux/amd64"}, "linux/arm64", ""},
		{[]string{"linux/amd64"}, "linux", ""},
		{[]string{"linux/amd64", "linux/arm64"}, "", ""},
		{[]string{"linux/amd64"}, "", "linux/amd64"},
		{[]string{"linux/amd64", attestation}, "", "linux/amd64"},
		{[]string{attestation}, "unknown/unknown", ""},
		{[]string{"none"}, "", "none"},
		{[]string{"none"}, "linux/amd64", ""},
		{nil, "", ""},
	} {
		t.Run(fmt.Sprintf("%s of %s", c.ask, c.platforms), func(t *testing.T) {
			w := newWorld(t, registrytest.H1)
			index, all := w.indexOf(c.platforms...)
			repo := w.open()
			got, err := repo.Manifest(t.Context(), "index")
			require.NoError(t, err)
			assert.Equal(t, index, got)
			assert.True(t, got.IsIndex())
			_, err = got.Blobs()
			require.ErrorIs(t, err, registry.ErrIndex)

			picked, err := repo.Platform(t.Context(), got, c.ask)
			if c.want == "" {
				require.ErrorIs(t, err, registry.ErrPlatform)
				for _, p := range c.platforms {
					if p != attestation && p != "none" {
						assert.Contains(t, err.Error(), p, "the error lists what there is")
					}
				}
				assert.NotContains(t, err.Error(), ": there are unknown")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, all[c.want], picked)
		})
	}
}

func TestPlatformOfManifest(t *testing.T) {
	w := newWorld(t, registrytest.H1)
	m := w.put("latest", "weights")
	got, err := w.open().Platform(t.Context(), m, "linux/amd64")
	require.NoError(t, err)
	assert.Equal(t, m, got)
	assert.Empty(t, w.reg.Requests())
}

// An index of very many manifests makes no endless error.
func TestPlatformsAreListedBriefly(t *testing.T) {
	w := newWorld(t, registrytest.H1)
	var platforms []string
	for i := range 1000 {
		platforms = append(platforms, fmt.Sprintf("linux/cpu%d", i))
	}
	index, _ := w.indexOf(platforms...)
	_, err := w.open().Platform(t.Context(), index, "linux/amd64")
	require.ErrorIs(t, err, registry.ErrPlatform)
	assert.Less(t, len(err.Error()), 1000)
	_, err = index.Blobs()
	assert.Less(t, len(err.Error()), 1000)
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:abc","size":1},"layers":[null]}`))
	f.Add([]byte(`{"manifests":[{"platform":{"os":"linux"}},{"platform":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := registry.NewManifest(data, "")
		blobs, err := m.Blobs()
		for _, b := range blobs {
			if digest.Digest(b.Digest).Validate() != nil || b.Size < 0 || err != nil {
				t.Fatalf("%+v, %v", b, err)
			}
		}
	})
}
