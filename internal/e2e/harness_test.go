package e2e

import (
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file prove the parts of the harness with another client than the library.

func TestHarnessRegistries(t *testing.T) {
	for name, s := range registries(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			content := randomBytes(t, 1, 100_000)
			b := addBlob(t, dir, content)
			p := newPeer(t, s, "library/model")
			p.writeBlob(t, content)
			p.requireBlob(t, dir, b)

			gets := s.seen(method(http.MethodGet), kind(kindBlob))
			require.Len(t, gets, 1)
			assert.Equal(t, b.Size, gets[0].sent)
			assert.Equal(t, http.StatusOK, gets[0].status)
			assert.Equal(t, b.Size, sumReceived(s.seen(kind(kindUpload))))
		})
	}
}

func TestHarnessTokens(t *testing.T) {
	ts := newTokenServer(t)
	s := newDistribution(t).withToken(ts).serve(t)
	newPeer(t, s, "library/model").writeBlob(t, randomBytes(t, 1, 1000))
	assert.NotEmpty(t, ts.seen())
	assert.NotEmpty(t, s.seen(status(http.StatusUnauthorized)))
	assert.NotEmpty(t, s.seen(status(http.StatusCreated)))

	ts.withhold["push"] = true
	p := newPeer(t, s, "library/other")
	layer := static.NewLayer([]byte("x"), types.OCILayer)
	require.Error(t, remote.WriteLayer(p.repository, layer, p.options...))
}

func TestHarnessStore(t *testing.T) {
	store := newObjectStore(t)
	s := newDistribution(t).withStore(store).serve(t)
	dir := t.TempDir()
	content := randomBytes(t, 1, 12*mib)
	b := addBlob(t, dir, content)
	p := newPeer(t, s, "library/model")
	p.writeBlob(t, content)
	p.requireBlob(t, dir, b)
	assert.NotEmpty(t, s.seen(status(http.StatusTemporaryRedirect)))
	assert.Equal(t, b.Size, sumSent(store.presigned()))

	signed := store.presigned()[0]
	for _, tc := range []struct {
		method, authorization, query string
		status                       int
	}{
		{http.MethodGet, "", signed.query, http.StatusOK},
		{http.MethodGet, "Bearer token", signed.query, http.StatusBadRequest},
		{http.MethodHead, "", signed.query, http.StatusForbidden},
		{http.MethodGet, "", "", http.StatusForbidden},
	} {
		url := store.url + signed.path + "?" + tc.query
		req, err := http.NewRequestWithContext(t.Context(), tc.method, url, nil)
		require.NoError(t, err)
		if tc.authorization != "" {
			req.Header.Set("Authorization", tc.authorization)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, tc.status, resp.StatusCode, tc)
	}
}

func TestHarnessCache(t *testing.T) {
	origin := newDistribution(t).serve(t)
	cache := newDistribution(t).withUpstream(origin.url).serve(t)
	dir := t.TempDir()
	content := randomBytes(t, 1, mib)
	b := addBlob(t, dir, content)
	newPeer(t, origin, "library/model").writeBlob(t, content)
	newPeer(t, cache, "library/model").requireBlob(t, dir, b)
	assert.NotEmpty(t, origin.seen(method(http.MethodGet), kind(kindBlob)))
}

// registries are all kinds of registries that need nothing else.
func registries(t testing.TB) map[string]*server {
	t.Helper()
	return map[string]*server{
		"distribution over HTTP/1.1":       newDistribution(t).serve(t),
		"distribution over TLS and HTTP/2": serve(t, newDistribution(t).handler(t), true),
		"go-containerregistry":             serve(t, newContainerRegistry(), false),
		"ocimem":                           serve(t, newOCIMem(), false),
	}
}
