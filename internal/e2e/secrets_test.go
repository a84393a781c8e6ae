package e2e

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// secretsOf are the tokens, signatures and states of sessions that were in use.
func secretsOf(t testing.TB, ts *tokenServer, s *server, store *objectStore) (secrets []string) {
	t.Helper()
	if ts != nil {
		secrets = append(secrets, ts.tokens()...)
	}
	for _, e := range append(s.seen(), store.presigned()...) {
		query, err := url.ParseQuery(e.query)
		require.NoError(t, err)
		for _, key := range []string{"X-Amz-Signature", "X-Amz-Credential", "_state"} {
			if value := query.Get(key); value != "" {
				secrets = append(secrets, value, url.QueryEscape(value))
			}
		}
		if token, ok := strings.CutPrefix(e.authorization, "Bearer "); ok {
			secrets = append(secrets, token)
		}
	}
	require.NotEmpty(t, secrets)
	return secrets
}

func requireNoSecrets(t testing.TB, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		require.Falsef(t, strings.Contains(text, secret), "%q is in the open", secret)
	}
}

func TestLogHasNoSecrets(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	store := newObjectStore(t)
	ts, s := redirecting(t, store)
	src, dst := t.TempDir(), t.TempDir()
	blobs := addBlobs(t, src, 1, storeSizes...)
	up, down := upload(s, src, blobs), download(s, dst, blobs)
	up.Logger, down.Logger = logger, logger
	up.GetToken, down.GetToken = new(tokenClient).get, new(tokenClient).get
	up.Manifest, up.ManifestRef = artifactManifest(t, blobs[0], blobs[1:]), "v1"
	push(t, up)
	pull(t, down)
	requireSame(t, src, dst, blobs)

	down.DestDir = t.TempDir()
	store.expired = func(*http.Request) bool { return true }
	require.Error(t, transfer.Download(t.Context(), down))
	ts.withhold["pull"] = true
	down.Token, store.expired = "a token that was never issued", nil
	require.Error(t, transfer.Download(t.Context(), down))

	requireNoSecrets(t, log.String(), append(secretsOf(t, ts, s, store), down.Token))
	for _, b := range blobs {
		assert.Contains(t, log.String(), b.Digest)
	}
	assert.Contains(t, log.String(), "403")
}
