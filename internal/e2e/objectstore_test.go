package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"
)

// objectStore speaks S3 and keeps its objects in memory. It is reached under another
// host name and port than the registries.
type objectStore struct {
	*server
	accessKey, secretKey, region, bucket string
	expired                              func(*http.Request) bool // of presigned URLs; nil means never
}

func newObjectStore(t testing.TB) *objectStore {
	t.Helper()
	backend := s3mem.New()
	s := &objectStore{accessKey: "e2e-access", secretKey: "e2e-secret", region: "us-east-1", bucket: "blobs"}
	require.NoError(t, backend.CreateBucket(s.bucket))
	s.server = serve(t, s.guard(gofakes3.New(backend).Server()), false)
	s.url = strings.Replace(s.url, "127.0.0.1", "localhost", 1)
	return s
}

// guard refuses what a real store refuses: gofakes3 lets everybody in.
func (s *objectStore) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header, query := r.Header.Get("Authorization"), r.URL.Query()
		switch {
		case header == "" && !query.Has("X-Amz-Signature"):
			http.Error(w, "AccessDenied", http.StatusForbidden)
		case header != "" && query.Has("X-Amz-Signature"),
			header != "" && !strings.HasPrefix(header, "AWS4-HMAC-SHA256 "):
			http.Error(w, "InvalidRequest: two ways to sign, or a wrong one", http.StatusBadRequest)
		case header == "" && (!s.signed(r) || s.expired != nil && s.expired(r)):
			http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// presigned returns the requests that came with a presigned URL.
func (s *objectStore) presigned() []exchange {
	return s.seen(func(e exchange) bool { return strings.Contains(e.query, "X-Amz-Signature=") })
}
