package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// bodiesUpTo refuses larger bodies unread, as many a reverse proxy does.
func bodiesUpTo(most int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > most {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// without answers that a registry has no such method for uploads.
func without(method string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method && kindOf(r.URL.Path) == kindUpload {
			http.Error(w, "not here", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestBodyLimitMakesChunks(t *testing.T) {
	const most = 8 * mib
	for name, s := range map[string]*server{
		"distribution over HTTP/1.1":       serve(t, bodiesUpTo(most, newDistribution(t).handler(t)), false),
		"distribution over TLS and HTTP/2": serve(t, bodiesUpTo(most, newDistribution(t).handler(t)), true),
		"go-containerregistry":             serve(t, bodiesUpTo(most, newContainerRegistry()), false),
		"ocimem":                           serve(t, bodiesUpTo(most, newOCIMem()), false),
	} {
		t.Run(name, func(t *testing.T) {
			src := t.TempDir()
			blobs := addBlobs(t, src, 1, 1000, 3*mib, most, most+1, 40*mib+7)
			push(t, upload(s, src, blobs))

			uploads := s.seen(byLibrary, kind(kindUpload))
			assert.Equal(t, sumOf(blobs), sumReceived(uploads), "each byte is sent once")
			assert.NotEmpty(t, s.seen(method(http.MethodPatch), status(http.StatusAccepted)))
			refused := s.seen(status(http.StatusRequestEntityTooLarge))
			t.Logf("%d requests, %d of them refused", len(uploads), len(refused))
			p := newPeer(t, s, repository)
			for _, b := range blobs {
				p.requireBlob(t, src, b)
			}
		})
	}
}

func TestBodyLimitThatCannotBeMet(t *testing.T) {
	for _, tc := range []struct {
		name    string
		handler http.Handler
		status  int
	}{
		{
			"smaller than the least chunk", bodiesUpTo(512*kib, newDistribution(t).handler(t)),
			http.StatusRequestEntityTooLarge,
		},
		{
			"and no PATCH", bodiesUpTo(8*mib, without(http.MethodPatch, newDistribution(t).handler(t))),
			http.StatusRequestEntityTooLarge,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, tc.handler, false)
			src := t.TempDir()
			b := addBlobs(t, src, 1, 12*mib)
			err := transfer.Upload(t.Context(), upload(s, src, b))
			var refused *transfer.StatusError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tc.status, refused.StatusCode, fmt.Sprint(err))
			assert.Zero(t, sumReceived(s.seen(kind(kindUpload))), "bytes sent")
		})
	}
}
