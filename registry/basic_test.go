package registry_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/registry"
)

func TestBasicOnlyRegistry(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
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

// Some registries lock an account after a few failures.
func TestAWrongPasswordIsSentOnce(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).basicOnly()
		w.put("latest", "weights")
		sent := 0
		w.reg.Configure(func(o *registrytest.Options) {
			o.CheckToken = func(r *http.Request) bool {
				u, p, ok := r.BasicAuth()
				if ok {
					sent++
				}
				return ok && u == username && p == password
			}
		})
		who := registry.Credentials{Username: username, Password: "wrong"}
		repo := w.open(func(o *registry.Options) {
			o.GetCredentials = func(context.Context) (registry.Credentials, error) { return who, nil }
		})
		for name, ask := range map[string]func() error{
			"manifest": func() error { _, err := repo.Manifest(t.Context(), "latest"); return err },
			"tags":     func() error { _, err := repo.Tags(t.Context()); return err },
			"ping":     func() error { return repo.Ping(t.Context()) },
		} {
			sent = 0
			err := ask()
			require.ErrorIs(t, err, registry.ErrUnauthorized, name)
			assert.ErrorContains(t, err, "registry.test", name)
			assert.NotContains(t, err.Error(), "wrong")
			var status *transfer.StatusError
			require.ErrorAs(t, err, &status)
			assert.Equal(t, http.StatusUnauthorized, status.StatusCode)
			assert.Equal(t, 1, sent, name)
		}

		who.Password = password // a new one is tried
		_, err := repo.Manifest(t.Context(), "latest")
		require.NoError(t, err)
	})
}

func TestADownloadSendsAWrongPasswordOnce(t *testing.T) {
	registrytest.InBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode).basicOnly()
		sent := 0
		w.reg.Configure(func(o *registrytest.Options) {
			o.CheckToken = func(r *http.Request) bool {
				if _, _, ok := r.BasicAuth(); ok {
					sent++
				}
				return false
			}
		})
		opts := w.open(person).DownloadOptions()
		opts.DestDir = t.TempDir()
		opts.Blobs = []transfer.Blob{{Digest: digest.FromString("x").String(), Size: 1}}
		err := transfer.Download(t.Context(), opts)
		var status *transfer.StatusError
		require.ErrorAs(t, err, &status)
		assert.Equal(t, http.StatusUnauthorized, status.StatusCode)
		require.Len(t, status.Errors, 1, "what the registry said is kept")
		assert.Equal(t, "UNAUTHORIZED", status.Errors[0].Code)
		assert.Equal(t, 1, sent)
	})
}
