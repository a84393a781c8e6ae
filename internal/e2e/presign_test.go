package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// signed reports whether a presigned URL carries the right signature (AWS Signature
// Version 4, query parameters) for exactly this method, host, path and query.
func (s *objectStore) signed(r *http.Request) bool {
	query := r.URL.Query()
	want := s.signature(r.Method, r.Host, r.URL.EscapedPath(), query)
	return hmac.Equal([]byte(want), []byte(query.Get("X-Amz-Signature")))
}

// signature signs a request whose only signed header is Host.
func (s *objectStore) signature(method, host, path string, query url.Values) string {
	rest := url.Values{}
	for key, values := range query {
		if key != "X-Amz-Signature" {
			rest[key] = values
		}
	}
	canonical := strings.Join([]string{
		method, path, strings.ReplaceAll(rest.Encode(), "+", "%20"),
		"host:" + host, "", "host", "UNSIGNED-PAYLOAD",
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	date := query.Get("X-Amz-Date")
	day, _, _ := strings.Cut(date, "T")
	scope := strings.Join([]string{day, s.region, "s3", "aws4_request"}, "/")

	key := []byte("AWS4" + s.secretKey)
	for _, part := range strings.Split(scope, "/") {
		key = hmacOf(key, part)
	}
	text := strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, hex.EncodeToString(sum[:])}, "\n")
	return hex.EncodeToString(hmacOf(key, text))
}

func hmacOf(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// The example of the vendor's manual proves the store's own check.
func TestSignatureIsThatOfTheManual(t *testing.T) {
	s := &objectStore{secretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", region: "us-east-1"}
	r := httptest.NewRequest(http.MethodGet, "https://examplebucket.s3.amazonaws.com/test.txt"+
		"?X-Amz-Algorithm=AWS4-HMAC-SHA256"+
		"&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"+
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"+
		"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", nil)
	assert.True(t, s.signed(r))
	r.Method = http.MethodHead
	assert.False(t, s.signed(r), "a URL that is signed for GET is good for nothing else")
}
