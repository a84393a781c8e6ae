package e2e

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// manySmall are enough blobs for all workers to be refused at once.
func manySmall(t testing.TB, dir string) []transfer.Blob {
	t.Helper()
	sizes := make([]int, 200)
	for i := range sizes {
		sizes[i] = 10_000 + i
	}
	return addBlobs(t, dir, 1000, sizes...)
}

func oneSmall(t testing.TB, dir string) []transfer.Blob {
	t.Helper()
	return addBlobs(t, dir, 2000, 10_000)
}

// authorized is a registry that wants tokens, and has the blobs of a directory already.
func authorized(
	t testing.TB, add func(testing.TB, string) []transfer.Blob,
) (*tokenServer, *server, string, []transfer.Blob) {
	t.Helper()
	ts := newTokenServer(t)
	s := newDistribution(t).withToken(ts).serve(t)
	src := t.TempDir()
	all := add(t, src)
	opts := upload(s, src, all)
	opts.GetToken = new(tokenClient).get
	push(t, opts)
	s.forget()
	ts.forget()
	return ts, s, src, all
}

func TestTokenIsAskedForOnce(t *testing.T) {
	ts := newTokenServer(t)
	s := newDistribution(t).withToken(ts).serve(t)
	src, dst := t.TempDir(), t.TempDir()
	blobs := manySmall(t, src)

	up := upload(s, src, blobs)
	up.GetToken = new(tokenClient).get
	push(t, up)
	// HEAD asks for pull alone, POST for push too: a second token for the same run.
	assert.LessOrEqual(t, len(ts.seen()), 2, "tokens for the upload")
	ts.forget()
	s.forget()

	down := download(s, dst, blobs)
	client := &tokenClient{}
	down.GetToken = client.get
	pull(t, down)
	requireSame(t, src, dst, blobs)
	assert.Len(t, ts.seen(), 1, "tokens for the download")
	assert.EqualValues(t, 1, client.calls.Load())
	refused := s.seen(byLibrary, status(http.StatusUnauthorized))
	assert.NotEmpty(t, refused)
	assert.LessOrEqual(t, len(refused), transfer.DefaultDownloadConcurrency)
	assert.Equal(t, len(blobs)+len(refused), len(s.seen(byLibrary)))
}

func TestTokenToStartWith(t *testing.T) {
	ts, s, src, blobs := authorized(t, manySmall)
	for _, tc := range []struct {
		name, scope string
		ttl         time.Duration
		asks        int
	}{
		{"good", "repository:" + repository + ":pull", time.Minute, 0},
		{"for another repository", "repository:library/other:pull", time.Minute, 1},
		{"expired", "repository:" + repository + ":pull", -2 * leeway, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ts.forget()
			dst := t.TempDir()
			token, err := ts.issue(tc.ttl, tc.scope)
			require.NoError(t, err)
			opts := download(s, dst, blobs)
			opts.Token, opts.GetToken = token, new(tokenClient).get
			pull(t, opts)
			requireSame(t, src, dst, blobs)
			assert.Len(t, ts.seen(), tc.asks)
		})
	}
}

func TestTokenServerThatHandsOutAnExpiredToken(t *testing.T) {
	ts, s, src, blobs := authorized(t, manySmall)
	ts.ttlOnce = []time.Duration{-2 * leeway}
	dst := t.TempDir()
	opts := download(s, dst, blobs)
	opts.GetToken = new(tokenClient).get
	pull(t, opts)
	requireSame(t, src, dst, blobs)
	assert.Len(t, ts.seen(), 2)
}

// The registry itself finds the token expired: three seconds of its leeway are left
// when the token is made, and half of the requests wait until it refuses the token.
func TestTokenThatExpiresInTheMiddle(t *testing.T) {
	ts := newTokenServer(t)
	registry := newDistribution(t).withToken(ts).handler(t)
	g := newGate(registry)
	s := serve(t, g, false)
	src, dst := t.TempDir(), t.TempDir()
	blobs := manySmall(t, src)
	up := upload(s, src, blobs)
	up.GetToken = new(tokenClient).get
	push(t, up)
	s.forget()
	ts.forget()

	token, err := ts.issue(3*time.Second-leeway, "repository:"+repository+":pull")
	require.NoError(t, err)
	g.hold(len(blobs)/2, func() {
		for accepts(t, registry, token, blobs[0]) {
			time.Sleep(50 * time.Millisecond)
		}
	})
	opts := download(s, dst, blobs)
	opts.Token, opts.GetToken = token, new(tokenClient).get
	pull(t, opts)
	requireSame(t, src, dst, blobs)

	assert.Len(t, ts.seen(), 1, "one new token for all who were refused")
	old := func(e exchange) bool { return e.authorization == "Bearer "+token }
	assert.NotEmpty(t, s.seen(old, status(http.StatusOK)), "the token was good at first")
	assert.NotEmpty(t, s.seen(old, status(http.StatusUnauthorized)), "the token has expired")
	assert.Len(t, s.seen(byLibrary, status(http.StatusOK)), len(blobs), "no blob was fetched twice")
}

// accepts asks the registry whether a token is good for a blob.
func accepts(t testing.TB, registry http.Handler, token string, b transfer.Blob) bool {
	path := "/v2/" + repository + "/blobs/" + b.Digest
	r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	registry.ServeHTTP(w, r)
	return w.Code == http.StatusOK
}

func TestTokenIsWanted(t *testing.T) {
	_, s, src, one := authorized(t, oneSmall)
	for _, tc := range []struct {
		name, method string
		call         func() error
	}{
		{"download", http.MethodGet, func() error {
			return transfer.Download(t.Context(), download(s, t.TempDir(), one))
		}},
		{"upload", http.MethodHead, func() error {
			return transfer.Upload(t.Context(), upload(s, src, one))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.forget()
			err := tc.call()
			var refused *transfer.StatusError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, http.StatusUnauthorized, refused.StatusCode)
			assert.Equal(t, tc.method, refused.Method)
			assert.Equal(t, s.url+"/v2/"+repository+"/blobs/"+one[0].Digest, refused.URL)
			assert.Len(t, s.seen(byLibrary), 1, "401 is final")
			if tc.method == http.MethodGet { // the answer to HEAD has no body
				require.NotEmpty(t, refused.Errors)
				assert.Equal(t, "UNAUTHORIZED", refused.Errors[0].Code)
			}
		})
	}
}

func TestTokenThatNeverSuffices(t *testing.T) {
	ts, s, _, _ := authorized(t, oneSmall)
	ts.withhold["push"] = true
	src := t.TempDir()
	opts := upload(s, src, addBlobs(t, src, 7, 1000))
	opts.GetToken = new(tokenClient).get
	err := transfer.Upload(t.Context(), opts)
	var refused *transfer.StatusError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusUnauthorized, refused.StatusCode)
	assert.Equal(t, http.MethodPost, refused.Method)
	assert.LessOrEqual(t, len(ts.seen()), 3, "one to look, two tries to push")
	assert.Zero(t, sumReceived(s.seen(byLibrary)))
}

func TestTokenServerThatFails(t *testing.T) {
	ts, s, _, blobs := authorized(t, oneSmall)
	ts.service = "renamed"
	opts := download(s, t.TempDir(), blobs)
	opts.GetToken = new(tokenClient).get
	require.ErrorContains(t, transfer.Download(t.Context(), opts), "token server: 404")
	assert.Len(t, ts.seen(), 1)
}
