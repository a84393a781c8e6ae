package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

var storeSizes = []int{1, 4096, 100_000, mib, 6*mib + 1, 40*mib + 7}

// redirecting is a registry with tokens in front of a store.
func redirecting(t testing.TB, store *objectStore) (*tokenServer, *server) {
	t.Helper()
	ts := newTokenServer(t)
	return ts, newDistribution(t).withStore(store).withToken(ts).serve(t)
}

func TestRedirectToStoreGoesWithoutToken(t *testing.T) {
	// Another host, and another port of the same host.
	for _, host := range []string{"localhost", "127.0.0.1"} {
		t.Run("store at "+host, func(t *testing.T) {
			store := newObjectStore(t)
			store.url = strings.Replace(store.url, "localhost", host, 1)
			_, s := redirecting(t, store)
			src, dst := t.TempDir(), t.TempDir()
			blobs := addBlobs(t, src, 1, storeSizes...)
			up, down := upload(s, src, blobs), download(s, dst, blobs)
			up.GetToken, down.GetToken = new(tokenClient).get, new(tokenClient).get
			push(t, up)
			s.forget()
			store.forget()

			pull(t, down)
			requireSame(t, src, dst, blobs)
			assert.GreaterOrEqual(t, sumSent(store.presigned()), sumOf(blobs))
			for _, e := range store.presigned() {
				assert.Empty(t, e.authorization)
				assert.True(t, strings.HasPrefix(e.host, host+":"), e.host)
				assert.Less(t, e.status, http.StatusBadRequest)
			}
			redirects := s.seen(byLibrary, status(http.StatusTemporaryRedirect))
			assert.Len(t, redirects, len(blobs), "the pieces of a blob share one signed URL")

			store.forget()
			push(t, up) // HEAD is redirected too
			assert.Len(t, store.presigned(), len(blobs))
			assert.Zero(t, sumReceived(s.seen(byLibrary)))
			for _, e := range store.presigned() {
				assert.Equal(t, http.MethodHead, e.method)
				assert.Equal(t, http.StatusOK, e.status)
			}
		})
	}
}

func TestSignedURLThatHasExpiredIsRenewed(t *testing.T) {
	store := newObjectStore(t)
	_, s := redirecting(t, store)
	src, dst := t.TempDir(), t.TempDir()
	blobs := addBlobs(t, src, 1, storeSizes...)
	up, down := upload(s, src, blobs), download(s, dst, blobs)
	up.GetToken, down.GetToken = new(tokenClient).get, new(tokenClient).get
	push(t, up)

	store.forget()
	asked := make(map[string]int)
	var mu sync.Mutex                            // guards asked
	store.expired = func(r *http.Request) bool { // when it is used for the second time
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path]++
		return asked[r.URL.Path] == 2
	}
	pull(t, down)
	requireSame(t, src, dst, blobs)
	assert.NotEmpty(t, store.seen(status(http.StatusForbidden)), "the blob in pieces uses its URL twice")
}

func TestStoreThatRefusesIsAnErrorWithoutSecrets(t *testing.T) {
	store := newObjectStore(t)
	_, s := redirecting(t, store)
	src := t.TempDir()
	blobs := addBlobs(t, src, 1, 1000)
	up, down := upload(s, src, blobs), download(s, t.TempDir(), blobs)
	up.GetToken, down.GetToken = new(tokenClient).get, new(tokenClient).get
	push(t, up)
	store.forget()
	store.expired = func(*http.Request) bool { return true }

	err := transfer.Download(t.Context(), down)
	var refused *transfer.StatusError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusForbidden, refused.StatusCode)
	assert.Contains(t, refused.URL, store.url)
	requireNoSecrets(t, err.Error()+refused.URL, secretsOf(t, nil, s, store))
	assert.LessOrEqual(t, len(store.presigned()), 4)
}
