package registry_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

const (
	pullScope = "repository:" + repository + ":pull"
	pushScope = "repository:" + repository + ":pull,push"
)

func TestTokenOfEachKindOfCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		credentials func(*registry.Options)
		want        asked
	}{
		"anonymous":      {func(*registry.Options) {}, asked{"GET", "", "registry.test", []string{pullScope}}},
		"password":       {person, asked{"GET", username + ":" + password, "registry.test", []string{pullScope}}},
		"identity token": {withIdentity, asked{"POST", "refresh:" + identity, "registry.test", []string{pullScope}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode).protect()
				want := w.put("latest", "weights")
				repo := w.open(c.credentials)
				got, err := repo.Manifest(t.Context(), "latest")
				require.NoError(t, err)
				assert.Equal(t, want, got)
				assert.Equal(t, []asked{c.want}, w.tokens.asked())

				_, err = repo.Manifest(t.Context(), want.Digest)
				require.NoError(t, err)
				assert.Len(t, w.tokens.asked(), 1, "the token is used again")
				time.Sleep(5 * time.Minute)
				_, err = repo.Manifest(t.Context(), want.Digest)
				require.NoError(t, err)
				assert.Len(t, w.tokens.asked(), 2, "but not after its end")
				assert.Equal(t, 2, w.reg.Count("GET", "latest"), "one without a token")
			})
		})
	}
}

// The two calls get their tokens here.
func TestTokenForDownloadAndUpload(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).protect()
		w.put("latest", "weights", "template")
		repo := w.open(person)
		manifest, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		down := repo.DownloadOptions()
		down.DestDir = t.TempDir()
		down.Blobs, err = manifest.Blobs()
		require.NoError(t, err)
		require.NoError(t, transfer.Download(t.Context(), down))
		assert.Len(t, w.tokens.asked(), 1, "Download begins with the token that is there")

		up := repo.UploadOptions()
		up.SrcDir, up.Blobs, up.Manifest, up.ManifestRef = down.DestDir, down.Blobs, manifest.Data, "copy"
		require.NoError(t, transfer.Upload(t.Context(), up))
		list := w.tokens.asked()
		require.Len(t, list, 2)
		assert.Equal(t, []string{pushScope}, list[1].scopes, "widened for pushing, though the challenge says pull")
	})
}
