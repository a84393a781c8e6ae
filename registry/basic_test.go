package registry_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func TestBasicOnlyRegistry(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).basicOnly()
		w.put("latest", "weights")
		repo := w.open(person)
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
		opts := repo.DownloadOptions()
		token, err := opts.GetToken(t.Context(), transfer.AuthChallenge{})
		require.NoError(t, err)
		assert.Equal(t, "Basic YWRhOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==", token)
		assert.Equal(t, token, opts.Token, "Download begins with it")
		assert.Empty(t, w.tokens.asked())

		_, err = w.open().Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, registry.ErrUnauthorized)
		_, err = w.open(withIdentity).Manifest(t.Context(), "latest")
		require.ErrorIs(t, err, registry.ErrUnauthorized, "an identity token is for token servers")
	})
}
