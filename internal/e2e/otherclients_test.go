package e2e

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/file"
	orasremote "oras.land/oras-go/v2/registry/remote"
)

// The tests of this file have other clients pull what the command line program has pushed, and the other way
// round.

// orasRepository is a repository as the library of oras sees it.
func orasRepository(t testing.TB, s *server, name string) *orasremote.Repository {
	t.Helper()
	repo, err := orasremote.NewRepository(strings.TrimPrefix(s.url, "http://") + "/" + name)
	require.NoError(t, err)
	repo.PlainHTTP = true
	return repo
}

func orasStore(t testing.TB, dir string) *file.Store {
	t.Helper()
	store, err := file.New(dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}

func TestCLIAndOras(t *testing.T) {
	s, made := newDistribution(t).serve(t), modelFiles(t)
	c := newCLI(t)
	t.Run("oras pulls", func(t *testing.T) {
		c.must(t, "push", "--type", "files", made, s.url+"/me/model:v1")
		pulled := t.TempDir()
		repo := orasRepository(t, s, "me/model")
		_, err := oras.Copy(t.Context(), repo, "v1", orasStore(t, pulled), "v1", oras.DefaultCopyOptions)
		require.NoError(t, err)
		requireSameFiles(t, made, pulled)
	})
	t.Run("oras pushes", func(t *testing.T) {
		store := orasStore(t, made)
		var layers []ocispec.Descriptor
		require.NoError(t, filepath.WalkDir(made, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(made, path)
			require.NoError(t, err)
			layer, err := store.Add(t.Context(), filepath.ToSlash(name), "application/octet-stream", path)
			layers = append(layers, layer)
			return err
		}))
		root, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1,
			"application/vnd.example.model", oras.PackManifestOptions{Layers: layers})
		require.NoError(t, err)
		require.NoError(t, store.Tag(t.Context(), root, "v1"))
		repo := orasRepository(t, s, "oras/model")
		_, err = oras.Copy(t.Context(), store, "v1", repo, "v1", oras.DefaultCopyOptions)
		require.NoError(t, err)

		pulled := t.TempDir()
		assert.Contains(t, c.must(t, "pull", s.url+"/oras/model:v1", pulled), root.Digest.String())
		requireSameFiles(t, made, pulled)
	})
}

func TestCLIAndSkopeo(t *testing.T) {
	skopeo := program(t, "skopeo")
	s, made := newDistribution(t).serve(t), modelFiles(t)
	c := newCLI(t)
	for _, kind := range []string{"files", "modelpack"} {
		t.Run(kind, func(t *testing.T) {
			c.must(t, "push", "--type", kind, made, s.url+"/me/model:"+kind)
			registry := "docker://" + strings.TrimPrefix(s.url, "http://")
			out, err := exec.CommandContext(t.Context(), skopeo, "copy", "--quiet", "--preserve-digests",
				"--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy",
				registry+"/me/model:"+kind, registry+"/skopeo/model:"+kind).CombinedOutput()
			require.NoError(t, err, string(out))
			pulled := t.TempDir()
			c.must(t, "pull", s.url+"/skopeo/model:"+kind, pulled)
			requireSameFiles(t, made, pulled)
		})
	}
}

func TestCLIAndGoContainerRegistry(t *testing.T) {
	s := newDistribution(t).serve(t)
	c, p := newCLI(t), newPeer(t, s, "crane/images")
	index, err := random.Index(100*kib, 3, 2)
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(p.repository.Tag("v1"), index, p.options...))
	want, err := index.Digest()
	require.NoError(t, err)

	c.must(t, "copy", s.url+"/crane/images:v1", s.url+"/me/images:v1")
	copied := newPeer(t, s, "me/images")
	got := copied.manifest(t, copied.repository.Tag("v1"))
	assert.Equal(t, want, got.Digest)
	all, err := got.ImageIndex()
	require.NoError(t, err)
	require.NoError(t, validate.Index(all))

	made := modelFiles(t)
	c.must(t, "push", "--type", "modelpack", made, s.url+"/me/model:v1")
	model := newPeer(t, s, "me/model")
	image, err := remote.Image(model.repository.Tag("v1"), model.options...)
	require.NoError(t, err)
	layers, err := image.Layers()
	require.NoError(t, err)
	assert.NotEmpty(t, layers)
	for _, layer := range layers {
		require.NoError(t, validate.Layer(layer, validate.Fast))
	}
	other := model.repository.Registry.Repo("crane", "model").Tag("v1")
	require.NoError(t, remote.Write(other, image, model.options...))
	pulled := t.TempDir()
	c.must(t, "pull", s.url+"/crane/model:v1", pulled)
	requireSameFiles(t, made, pulled)
}
