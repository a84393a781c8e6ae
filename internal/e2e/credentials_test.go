package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
)

// Who is let in by registries and token servers that do not let in anybody.

const (
	user     = "ada"
	password = "correct:horse" // a colon belongs to the password
	// passwordFile has the hashes by bcrypt, of the least cost: that of the password, and of "hunter2" for
	// "me".
	passwordFile = user + ":$2a$04$M.hU9LL7XzTE5Ld8e4hnxOe9tVwQOt67bwbSFlf/4P.nhCpD..QB2\n" +
		"me:$2a$04$a4LPNWMPOKlbmMRg8jilK.Jpmq6iduKfa00UBf.I5Ys0.llwyTYlK\n"
)

// open opens the repository of most tests.
func open(t testing.TB, s *server, c registry.Credentials) *registry.Repository {
	t.Helper()
	repo, err := registry.Open(registry.Options{
		BaseURL: s.url, Repository: repository, Credentials: c, Client: s.client, UserAgent: userAgent,
	})
	require.NoError(t, err)
	t.Cleanup(repo.CloseIdleConnections)
	return repo
}

// layersOf returns a manifest of a config and of layers that are in dir. The config is put there.
func layersOf(t testing.TB, dir string, layers []transfer.Blob) (registry.Manifest, []transfer.Blob) {
	t.Helper()
	describe := func(b transfer.Blob, mediaType string) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": b.Digest, "size": b.Size}
	}
	config := addBlob(t, dir, []byte(`{"made":"by e2e"}`))
	list := make([]any, 0, len(layers))
	for _, b := range layers {
		list = append(list, describe(b, "application/octet-stream"))
	}
	data := marshalJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeManifest,
		"config": describe(config, "application/vnd.example.model.v1+json"), "layers": list,
	})
	return registry.NewManifest(data, ""), append([]transfer.Blob{config}, layers...)
}

func marshalJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

// pushModel pushes blobs and a manifest of them under a tag.
func pushModel(
	t testing.TB, repo *registry.Repository, dir, tag string, m registry.Manifest, blobs []transfer.Blob,
) {
	t.Helper()
	opts := repo.UploadOptions()
	opts.SrcDir, opts.Blobs, opts.Manifest, opts.ManifestRef = dir, blobs, m.Data, tag
	push(t, opts)
}

// The token of a person expires while blobs are fetched, and one to push with has expired before it comes.
func TestCredentialsOutliveATokenInTheMiddle(t *testing.T) {
	ts := newTokenServer(t)
	ts.user, ts.password = user, password
	handler := newDistribution(t).withToken(ts).handler(t)
	g := newGate(handler)
	s := serve(t, g, false)
	person := registry.Credentials{Username: user, Password: password}
	src, dst := t.TempDir(), t.TempDir()
	m, blobs := layersOf(t, src, manySmall(t, src))
	pushModel(t, open(t, s, person), src, "latest", m, blobs)

	repo := open(t, s, person)
	ts.ttlOnce = []time.Duration{3*time.Second - leeway}
	got, err := repo.Manifest(t.Context(), "latest")
	require.NoError(t, err)
	opts := repo.DownloadOptions()
	require.NotEmpty(t, opts.Token, "that of the manifest")
	s.forget()
	ts.forget()
	g.hold(len(blobs)/2, func() {
		for accepts(t, handler, opts.Token, blobs[0]) {
			time.Sleep(50 * time.Millisecond)
		}
	})
	opts.DestDir = dst
	opts.Blobs, err = got.Blobs()
	require.NoError(t, err)
	pull(t, opts)
	requireSame(t, src, dst, blobs)
	assert.Len(t, ts.seen(), 1, "one new token for all who were refused")
	assert.NotEmpty(t, s.seen(status(http.StatusUnauthorized)), "the token has expired")
	assert.Len(t, s.seen(byLibrary, status(http.StatusOK)), len(blobs), "no blob was fetched twice")

	t.Run("upload", func(t *testing.T) {
		ts.forget()
		s.forget()
		more := t.TempDir()
		ts.ttlOnce = []time.Duration{-2 * leeway}
		m, blobs := layersOf(t, more, addBlobs(t, more, 5000, 10, 70_000, 9*mib))
		pushModel(t, open(t, s, person), more, "next", m, blobs)
		assert.NotEmpty(t, s.seen(status(http.StatusUnauthorized)))
		assert.LessOrEqual(t, sumReceived(s.seen(kind(kindUpload), status(http.StatusCreated))), sumOf(blobs))
	})
}
