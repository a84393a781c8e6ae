package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer"
)

// forgetful answers 500 to the first upload that the registry has stored.
func forgetful(next http.Handler) http.Handler {
	var once atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || kindOf(r.URL.Path) != kindUpload || once.Load() {
			next.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		if answer.Code == http.StatusCreated && once.CompareAndSwap(false, true) {
			http.Error(w, "it is there, but who knows", http.StatusInternalServerError)
			return
		}
		for key, values := range answer.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

func TestStoredBlobIsNotSentAgainAfterA500(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int
		most int64 // bytes of a body
	}{
		{"small", 100_000, mib},
		{"large", 40 * mib, 40 * mib},
		{"in chunks", 20 * mib, 8 * mib},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, bodiesUpTo(tc.most, forgetful(newDistribution(t).handler(t))), false)
			src := t.TempDir()
			b := addBlobs(t, src, 1, tc.size)[0]
			push(t, upload(s, src, []transfer.Blob{b}))

			assert.Equal(t, b.Size, sumReceived(s.seen(byLibrary)), "sent once")
			assert.Len(t, s.seen(method(http.MethodPut), status(http.StatusInternalServerError)), 1)
			assert.Empty(t, s.seen(method(http.MethodPut), status(http.StatusCreated)))
			heads := s.seen(method(http.MethodHead), kind(kindBlob))
			assert.Equal(t, http.StatusOK, heads[len(heads)-1].status)
			newPeer(t, s, repository).requireBlob(t, src, b)
		})
	}
}
