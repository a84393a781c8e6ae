package registry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func isErr(err, target error) bool { return errors.Is(err, target) }

func TestMisuseIsFoundBeforeTheFirstRequest(t *testing.T) {
	w := newWorld(t, registrytest.H1)
	good := w.open()
	for name, repo := range map[string]*registry.Repository{"zero": {}, "nil context": good} {
		var ctx context.Context
		if name == "zero" {
			ctx = t.Context()
		}
		for call, do := range everyCall(t, repo) {
			require.ErrorIs(t, do(ctx), transfer.ErrInvalidOption, "%s: %s", name, call)
		}
		_, err := repo.GetToken(ctx, transfer.AuthChallenge{})
		require.ErrorIs(t, err, transfer.ErrInvalidOption, name)
		require.ErrorIs(t, repo.Ping(ctx), transfer.ErrInvalidOption, name)
	}
	new(registry.Repository).CloseIdleConnections()

	_, err := good.Pull(t.Context(), "latest", "", nil)
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
	assert.Contains(t, err.Error(), "directory")
	blobs := []transfer.Blob{{Digest: digest.FromString("x").String(), Size: 1}}
	down, up := good.DownloadOptions(), good.UploadOptions()
	down.Blobs, up.Blobs = blobs, blobs
	require.ErrorIs(t, transfer.Download(t.Context(), down), transfer.ErrInvalidOption)
	require.ErrorIs(t, transfer.Upload(t.Context(), up), transfer.ErrInvalidOption)
	assert.Empty(t, w.reg.Requests())
}

func TestBaseURLsThatAreRefused(t *testing.T) {
	for base, says := range map[string]string{
		"":                             "no base URL",
		"https://registry.test/v2":     `leave out "v2"`,
		"https://registry.test/v2/":    `leave out "v2"`,
		"https://registry.test/a/v2//": `leave out "v2"`,
	} {
		_, err := registry.Open(registry.Options{BaseURL: base, Repository: repository})
		require.ErrorIs(t, err, transfer.ErrInvalidOption, base)
		assert.ErrorContains(t, err, says, base)
		err = transfer.Download(t.Context(), transfer.DownloadOptions{BaseURL: base})
		require.ErrorIs(t, err, transfer.ErrInvalidOption, base)
		_, err = registry.Open(registry.Options{
			BaseURL: "https://registry.test", Repository: repository, Mirrors: []string{base},
		})
		require.ErrorIs(t, err, transfer.ErrInvalidOption, base)
	}
	_, err := registry.Open(registry.Options{BaseURL: "https://registry.test/v2/x", Repository: repository})
	require.NoError(t, err)
}

func TestWhatIsNoManifestIsNotPushed(t *testing.T) {
	w := newWorld(t, registrytest.H1)
	for _, data := range []string{
		``, `{}`, `hello`, `[]`, `null`, `{"schemaVersion":2`, `{"name":"x"}`, `{"layers":null}`,
	} {
		err := w.open().PutManifest(t.Context(), "latest", registry.Manifest{Data: []byte(data)})
		require.ErrorIs(t, err, registry.ErrManifest, data)
		m := registry.NewManifest([]byte(data), registry.MediaTypeManifest)
		err = w.open().PutManifest(t.Context(), "", m)
		require.ErrorIs(t, err, registry.ErrManifest, data)
	}
	assert.Empty(t, w.reg.Requests())
}

// says is a manifest that says what it is, and no more.
const says = `{"mediaType":"` + registry.MediaTypeManifest + `"}`

// twoInOne are manifests with one digest that readers take for two (CVE-2021-41190), and the Content-Type
// that each comes with.
var twoInOne = map[string][2]string{
	"layers and manifests":       {`{"schemaVersion":2,"layers":[],"manifests":[]}`, ""},
	"config and manifests":       {`{"schemaVersion":2,"config":{},"manifests":[]}`, "application/json"},
	"fsLayers and layers":        {`{"fsLayers":[],"layers":[]}`, ""},
	"called another":             {says, registry.MediaTypeIndex},
	"OCI called Docker":          {says, registry.MediaTypeDockerManifest},
	"called so with a parameter": {says, registry.MediaTypeIndex + "; charset="},
	"called so in capitals":      {says, "Application/vnd.oci.image.INDEX.v1+json"},
	"a manifest called index":    {`{"schemaVersion":2,"config":{},"layers":[]}`, registry.MediaTypeIndex},
	"an index called manifest":   {`{"schemaVersion":2,"manifests":[]}`, registry.MediaTypeManifest},
	"says index, has layers":     {`{"mediaType":"` + registry.MediaTypeIndex + `","layers":[]}`, ""},
	"layers twice":               {`{"schemaVersion":2,"layers":[],"layers":[{}]}`, ""},
	"layers escaped":             {`{"schemaVersion":2,"layers":[],"l\u0061yers":[{}]}`, ""},
	"capital layers":             {`{"schemaVersion":2,"manifests":[],"Layers":[]}`, ""},
	"capitals in a descriptor":   {`{"schemaVersion":2,"layers":[{"digest":"a","Digest":"b"}]}`, ""},
	"digest twice":               {`{"schemaVersion":2,"layers":[{"digest":"a","digest":"b"}]}`, ""},
}

func TestH3OneDigestIsOneManifest(t *testing.T) {
	for name, c := range twoInOne {
		data, contentType := []byte(c[0]), c[1]
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.reg.PutManifest(repository, "latest", contentType, data)
			_, err := w.open().Manifest(t.Context(), "latest")
			require.ErrorIs(t, err, registry.ErrManifest, name)
			assert.Len(t, w.reg.Requests(), 1, name)

			m := registry.Manifest{Data: data, MediaType: contentType}
			err = w.open().PutManifest(t.Context(), "latest", m)
			require.ErrorIs(t, err, registry.ErrManifest, name)
			assert.Len(t, w.reg.Requests(), 1, name)
		})
		_, err := registry.Manifest{Data: data, MediaType: contentType}.Content()
		require.ErrorIs(t, err, registry.ErrManifest, name)
	}
	err := transfer.Upload(t.Context(), transfer.UploadOptions{
		BaseURL: "http://registry.test", Repository: repository,
		Manifest: []byte(twoInOne["layers and manifests"][0]), ManifestRef: "latest",
	})
	require.ErrorIs(t, err, registry.ErrManifest)
}

// A static host calls all files alike, which contradicts nothing. Keys of annotations are anybody's.
func TestH3GenericTypesContradictNothing(t *testing.T) {
	data := []byte(`{"schemaVersion":2,"mediaType":"` + registry.MediaTypeIndex +
		`","manifests":[],"layers":null,"annotations":{"Layers":"a","layers":"b"}}`)
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode)
		for _, contentType := range []string{
			"", "application/json", "application/octet-stream", "text/plain; charset=utf-8",
			"binary/octet-stream",
			"application/x-tar", registry.MediaTypeIndex + "; charset=utf-8", "application/vnd.example+json",
		} {
			w.reg.PutManifest(repository, "latest", contentType, data)
			m, err := w.open().Manifest(t.Context(), "latest")
			require.NoError(t, err, contentType)
			assert.Equal(t, registry.MediaTypeIndex, m.MediaType, contentType)
		}
	})
}

// What a manifest without a mediaType came as goes along when it is pushed on.
func TestG2TypeGoesAlong(t *testing.T) {
	config := `{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"` +
		digest.FromString("{}").String() + `","size":2}`
	data := []byte(`{"schemaVersion":2,"config":` + config + `,"layers":[]}`)
	for contentType, want := range map[string]string{
		registry.MediaTypeManifest:                    registry.MediaTypeManifest,
		registry.MediaTypeManifest + ";charset=utf-8": registry.MediaTypeManifest,
		registry.MediaTypeDockerManifest:              registry.MediaTypeDockerManifest,
		"application/vnd.example.v1+json":             "application/vnd.example.v1+json",
		"application/x-tar":                           registry.MediaTypeManifest, // by content
		"application/json":                            registry.MediaTypeManifest,
	} {
		registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode)
			w.reg.PutManifest(repository, "latest", contentType, data)
			repo := w.open()
			m, err := repo.Manifest(t.Context(), "latest")
			require.NoError(t, err)
			require.NoError(t, repo.PutManifest(t.Context(), "copy", m))
			list := w.reg.Requests()
			assert.Equal(t, want, list[len(list)-1].Header.Get("Content-Type"), contentType)
		})
	}
}

func TestG2ArtifactManifest(t *testing.T) {
	blob := digest.FromString("weights").String()
	data := `{"artifactType":"application/x","blobs":[{"digest":"` + blob + `","size":7}]}`
	m := registry.NewManifest([]byte(data), "")
	assert.Equal(t, "application/vnd.oci.artifact.manifest.v1+json", m.MediaType)
	assert.False(t, m.IsIndex())
	blobs, err := m.Blobs()
	require.NoError(t, err)
	assert.Equal(t, []transfer.Blob{{Digest: blob, Size: 7}}, blobs)
}
