package wire

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestN20AndN43TemporaryStatus(t *testing.T) {
	temporary := map[int]bool{
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true,
		520: true, 521: true, 522: true, 523: true, 524: true, 530: true,
	}
	for status := range 600 {
		assert.Equal(t, temporary[status], Temporary(status), status)
	}
}

func TestU15WebPage(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		want   bool
	}{
		"page": {http.Header{"Content-Type": {"text/html"}}, true},
		"charset": {
			http.Header{"Content-Type": {"TEXT/HTML; charset=x"}, "Content-Length": {"9"}}, true,
		},
		"two charsets": {http.Header{"Content-Type": {"Text/HTML; charset=utf-8; charset=latin1"}}, true},
		"bad charset":  {http.Header{"Content-Type": {"text/html; charset"}}, true},
		"XHTML":        {http.Header{"Content-Type": {"application/xhtml+xml"}}, true},
		"none":         {http.Header{}, false},
		"blob":         {http.Header{"Content-Type": {"application/octet-stream"}}, false},
		"plain text":   {http.Header{"Content-Type": {"text/plain"}}, false},
		"no body":      {http.Header{"Content-Type": {"text/html"}, "Content-Length": {"0"}}, false},
		"registry": {
			http.Header{"Content-Type": {"text/html"}, "Docker-Distribution-Api-Version": {"x"}}, false},
		"its blob":   {http.Header{"Content-Type": {"text/html"}, "Docker-Content-Digest": {"x"}}, false},
		"its upload": {http.Header{"Content-Type": {"text/html"}, "Docker-Upload-Uuid": {"x"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, LooksLikeWebPage(c.header))
		})
	}
}

func TestU22StoreThatRefusesHEAD(t *testing.T) {
	dg := digest.FromString("x")
	registry := http.Header{"Docker-Distribution-Api-Version": {"registry/2.0"}}
	for name, c := range map[string]struct {
		referral http.Header
		status   int
		url      string
		want     bool
	}{
		"registry's redirect": {registry, 403, "https://cdn.test/x", true},
		"digest in the path":  {http.Header{}, 405, "https://cdn.test/" + dg.Encoded() + "/data", true},
		"S3":                  {http.Header{}, 403, "https://cdn.test/x?X-Amz-Signature=1", true},
		"Google":              {http.Header{}, 400, "https://cdn.test/x?X-Goog-Signature=1", true},
		"Azure":               {http.Header{}, 501, "https://cdn.test/x?sig=1&se=2", true},
		"CloudFront":          {http.Header{}, 403, "https://cdn.test/x?Signature=1&Expires=2", true},
		"missing there":       {registry, 404, "https://cdn.test/x?X-Amz-Signature=1", false},
		"down":                {registry, 503, "https://cdn.test/x?X-Amz-Signature=1", false},
		"no redirect":         {nil, 403, "https://cdn.test/x?X-Amz-Signature=1", false},
		"back at the registry": {
			registry, 403, "https://registry.test/x?X-Amz-Signature=1", false},
		"log in": {
			http.Header{}, 405, "https://sso.test/login?to=%2Fv2%2Fa%2Fblobs%2F" + dg.String(), false},
		"SAML": {http.Header{}, 405, "https://sso.test/login?SAMLRequest=1&Signature=2", false},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(c.url)
			require.NoError(t, err)
			resp := &Response{
				Response: &http.Response{StatusCode: c.status}, referral: c.referral,
				Target: Target{URL: u, Left: true, registry: mustParse(t, "https://registry.test")},
			}
			assert.Equal(t, c.want, resp.ExistsBehindRedirect(dg))
		})
	}
}
