package e2e

import (
	"encoding/json"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
)

const (
	mediaTypeDocker  = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeOCI     = "application/vnd.oci.image.manifest.v1+json"
	mediaTypeIndex   = "application/vnd.oci.image.index.v1+json"
	mediaTypeEmpty   = "application/vnd.oci.empty.v1+json"
	mediaTypeWeights = "application/vnd.example.model.weights"
)

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	ArtifactType  string       `json:"artifactType,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// marshal writes it with odd white space, which has to arrive untouched.
func (m manifest) marshal(t testing.TB) []byte {
	t.Helper()
	m.SchemaVersion = 2
	b, err := json.MarshalIndent(m, " ", "   ")
	require.NoError(t, err)
	return append(b, '\n', '\n')
}

func describe(mediaType string, b transfer.Blob) descriptor {
	return descriptor{MediaType: mediaType, Digest: b.Digest, Size: b.Size}
}

func describeAll(mediaType string, blobs []transfer.Blob) []descriptor {
	all := make([]descriptor, 0, len(blobs))
	for _, b := range blobs {
		all = append(all, describe(mediaType, b))
	}
	return all
}

// dockerManifest is an image of Docker's, or a model of Ollama's.
func dockerManifest(t testing.TB, config transfer.Blob, layers []transfer.Blob) []byte {
	t.Helper()
	c := describe("application/vnd.docker.container.image.v1+json", config)
	m := manifest{MediaType: mediaTypeDocker, Config: &c, Layers: describeAll(mediaTypeWeights, layers)}
	return m.marshal(t)
}

// artifactManifest is an OCI artifact, whose config is empty.
func artifactManifest(t testing.TB, empty transfer.Blob, layers []transfer.Blob) []byte {
	t.Helper()
	c := describe(mediaTypeEmpty, empty)
	return manifest{
		MediaType: mediaTypeOCI, ArtifactType: "application/vnd.example.model", Config: &c,
		Layers: describeAll(mediaTypeWeights, layers),
	}.marshal(t)
}

// requireManifest reads a manifest by reference with the other client.
func (p *peer) requireManifest(t testing.TB, tag, mediaType string, want []byte) {
	t.Helper()
	byTag := p.manifest(t, p.repository.Tag(tag))
	byDigest := p.manifest(t, p.repository.Digest(digest.FromBytes(want).String()))
	assert.Equal(t, string(want), string(byTag.Manifest))
	assert.Equal(t, string(want), string(byDigest.Manifest))
	assert.Equal(t, types.MediaType(mediaType), byTag.MediaType)
}

func TestManifestsAreReadByAnotherClient(t *testing.T) {
	s := newDistribution(t).serve(t)
	p := newPeer(t, s, repository)
	dir := t.TempDir()
	layers := addBlobs(t, dir, 1, 10, 70_000, 3*mib)
	config := addBlob(t, dir, []byte(`{"os":"linux","architecture":"amd64"}`))
	empty := addBlob(t, dir, []byte(`{}`))

	docker, artifact := dockerManifest(t, config, layers), artifactManifest(t, empty, layers)
	emptyConfig := &descriptor{MediaType: mediaTypeEmpty, Digest: empty.Digest, Size: empty.Size}
	shapeOnly := manifest{Config: emptyConfig,
		Layers: describeAll(mediaTypeWeights, layers)}.marshal(t)
	index := manifest{MediaType: mediaTypeIndex, Manifests: []descriptor{
		{MediaType: mediaTypeDocker, Digest: digest.FromBytes(docker).String(), Size: int64(len(docker))},
		{MediaType: mediaTypeOCI, Digest: digest.FromBytes(artifact).String(), Size: int64(len(artifact))},
	}}.marshal(t)

	// An index needs its manifests in place, so the order matters.
	for _, tc := range []struct {
		name, tag, mediaType string
		manifest             []byte
		blobs                []transfer.Blob
	}{
		{"docker version 2", "docker", mediaTypeDocker, docker, append(layers, config)},
		{"OCI with artifactType", "artifact", mediaTypeOCI, artifact, append(layers, empty)},
		{"OCI told by its shape", "shape", mediaTypeOCI, shapeOnly, append(layers, empty)},
		{"index", "index", mediaTypeIndex, index, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts := upload(s, dir, tc.blobs)
			opts.Manifest, opts.ManifestRef = tc.manifest, tc.tag
			push(t, opts)
			p.requireManifest(t, tc.tag, tc.mediaType, tc.manifest)
			for _, b := range tc.blobs {
				p.requireBlob(t, dir, b)
			}
		})
	}
	t.Run("by digest alone", func(t *testing.T) {
		opts := upload(s, dir, append(layers, config))
		opts.Repository = "library/by-digest"
		opts.Manifest, opts.ManifestRef = docker, digest.FromBytes(docker).String()
		push(t, opts)
		other := newPeer(t, s, opts.Repository)
		got := other.manifest(t, other.repository.Digest(opts.ManifestRef))
		assert.Equal(t, string(docker), string(got.Manifest))
	})
}

func TestManifestWithMissingBlobIsRefused(t *testing.T) {
	s := newDistribution(t).serve(t)
	dir := t.TempDir()
	blobs := addBlobs(t, dir, 1, 1000, 2000)
	config := addBlob(t, dir, []byte(`{}`))
	opts := upload(s, dir, blobs) // without the config
	opts.Manifest, opts.ManifestRef = artifactManifest(t, config, blobs), "v1"

	err := transfer.Upload(t.Context(), opts)
	var refused *transfer.StatusError
	require.ErrorAs(t, err, &refused)
	require.NotEmpty(t, refused.Errors)
	assert.Equal(t, "MANIFEST_BLOB_UNKNOWN", refused.Errors[0].Code)
}

// Manifests that do not say what they are may be called what every registry takes them for.
func TestG2ManifestsWithoutAType(t *testing.T) {
	servers := registries(t)
	servers["distribution 2"] = newOldRegistry(t)
	for name, s := range servers {
		for _, config := range []string{
			"application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json",
			"application/vnd.example.model.v1+json",
		} {
			t.Run(name+"/"+config, func(t *testing.T) {
				repo, dir := open(t, s, registry.Credentials{}), t.TempDir()
				typed, blobs := layersOf(t, dir, addBlobs(t, dir, 7, 2, 70_000))
				var m map[string]any
				require.NoError(t, json.Unmarshal(typed.Data, &m))
				delete(m, "mediaType")
				m["config"].(map[string]any)["mediaType"] = config
				untyped := registry.Manifest{Data: marshalJSON(t, m)}
				pushModel(t, repo, dir, "uploaded", untyped, blobs)
				require.NoError(t, repo.PutManifest(t.Context(), "put", untyped))
				got, err := repo.Manifest(t.Context(), "uploaded")
				require.NoError(t, err)
				assert.Equal(t, untyped.Data, got.Data)
				require.NoError(t, repo.PutManifest(t.Context(), "again", got))
			})
		}
	}
}
