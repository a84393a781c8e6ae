package serve_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/model/serve"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asked sends a request that names a host, and returns the status.
func asked(t *testing.T, url, method, host string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(""))
	require.NoError(t, err)
	req.Host = host
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestH6OnLoopbackOnlyNamesOfThisMachineAreAnsweredTo(t *testing.T) {
	base, stop := run(t, t.TempDir(), serve.Options{Hosts: []string{"Registry.Example"}})
	defer stop()
	for host, want := range map[string]int{
		"localhost":              200,
		"localhost:5000":         200,
		"LOCALHOST.:5000":        200,
		"models.localhost":       200,
		"127.0.0.1:1":            200,
		"127.1.2.3":              200,
		"[::1]:5000":             200,
		"[::1]":                  200,
		"0.0.0.0:5000":           200,
		"192.168.1.5:5000":       200,
		"registry.example:5000":  200,
		"evil.example":           403,
		"evil.example:5000":      403,
		"localhost.evil.example": 403,
		"127.0.0.1.evil.example": 403,
		"notlocalhost":           403,
		"203.0.113.5:5000":       403,
		"127.1":                  403,
	} {
		assert.Equal(t, want, asked(t, base+"/v2/", "GET", host), host)
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "HEAD"} {
		assert.Equal(t, 403, asked(t, base+"/v2/me/model/blobs/uploads/", method, "evil.example"), method)
	}
}

// Behind an address that is not loopback's, this machine cannot know the names that others have for it.
func TestH6ElsewhereEveryNameIsAnsweredTo(t *testing.T) {
	r, err := serve.Open(t.TempDir(), serve.Options{})
	require.NoError(t, err)
	defer r.Close()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		ip := a.(*net.IPNet).IP
		for host, want := range map[string]int{"evil.example": 200, "localhost": 200} {
			if ip.IsLoopback() {
				want = map[string]int{"evil.example": 403, "localhost": 200}[host]
			}
			req := httptest.NewRequest("GET", "http://"+host+"/v2/", nil)
			ctx := contextWith(req.Context(), &net.TCPAddr{IP: ip, Port: 5000})
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req.WithContext(ctx))
			assert.Equal(t, want, w.Code, "%s %s", ip, host)
		}
	}
}

func TestH6PagesOfOtherSitesAreRefused(t *testing.T) {
	base := start(t, t.TempDir(), false)
	self := strings.TrimPrefix(base, "http://")
	for _, test := range []struct {
		header, value string
		want          int
	}{
		{"Sec-Fetch-Site", "none", 202}, {"Sec-Fetch-Site", "same-origin", 202},
		{"Sec-Fetch-Site", "cross-site", 403}, {"Sec-Fetch-Site", "same-site", 403},
		{"Origin", base, 202}, {"Origin", "https://evil.example", 403}, {"Origin", "null", 403},
		{"Origin", "http://" + strings.Split(self, ":")[0], 403}, {"Origin", "http://localhost:1", 403},
	} {
		status := asked(t, base+"/v2/me/model/blobs/uploads/", "POST", self, test.header, test.value)
		assert.Equal(t, test.want, status, "%s: %s", test.header, test.value)
		if test.want == 403 { // nor may they see what is there
			assert.Equal(t, 403, asked(t, base+"/v2/_catalog", "GET", self, test.header, test.value))
		}
	}
}

func TestH6NothingThatWasPushedIsShownAsAPage(t *testing.T) {
	base := start(t, t.TempDir(), false)
	text := manifestOf(put(t, base, "{}"), 2)
	html := strings.Replace(text, manifestType, "text/html", 1)
	manifest := base + "/v2/me/model/manifests/v1"
	for _, test := range []struct{ mediaType, text string }{
		{"text/html", text},
		{"application/json", text},
		{"", html},
		{manifestType, html},
		{"image/svg+xml", html},
	} {
		resp, body := call(t, "PUT", manifest, test.text, "Content-Type", test.mediaType)
		assert.Equal(t, 400, resp.StatusCode, test.mediaType)
		assert.Contains(t, body, "MANIFEST_INVALID")
	}
	resp, body := call(t, "PUT", manifest, text, "Content-Type", manifestType+"; charset=utf-8")
	require.Equal(t, 201, resp.StatusCode, body)
	blob := put(t, base, "<script>alert(1)</script>")
	for _, path := range []string{
		"/manifests/v1", "/blobs/" + blob.String(), "/tags/list", "/none", "/manifests/v2",
	} {
		resp, _ := call(t, "GET", base+"/v2/me/model"+path, "")
		assert.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"), path)
		assert.Contains(t, []string{"application/octet-stream", "application/json", manifestType},
			resp.Header.Get("Content-Type"), path)
	}
}

// A directory may have been filled by an earlier version, which took any type.
func TestH6WhatIsNoManifestIsNotServedAsOne(t *testing.T) {
	dir := t.TempDir()
	base := start(t, dir, false)
	dg, _ := putManifest(t, base, "v1", manifestOf(put(t, base, "{}"), 2))
	entry := filepath.Join(dir, "repositories", "me", "model", "_manifests", "sha256-"+dg.Encoded())
	require.NoError(t, os.WriteFile(entry, []byte("text/html"), 0o600))
	resp, _ := call(t, "GET", base+"/v2/me/model/manifests/v1", "")
	assert.Equal(t, 404, resp.StatusCode)
	assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
}
