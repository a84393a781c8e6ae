package serve_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/model/serve"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func start(t *testing.T, dir string, readOnly bool) string {
	t.Helper()
	url, stop := run(t, dir, serve.Options{ReadOnly: readOnly})
	t.Cleanup(stop)
	return url
}

// run serves a directory until stop is called.
func run(t *testing.T, dir string, o serve.Options) (url string, stop func()) {
	t.Helper()
	r, err := serve.Open(dir, o)
	require.NoError(t, err)
	s := httptest.NewServer(r)
	return s.URL, func() {
		s.Close()
		assert.NoError(t, r.Close())
	}
}

// call sends a request and returns the answer and its body.
func call(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(data)
}

func put(t *testing.T, base, content string) digest.Digest {
	t.Helper()
	dg := digest.FromString(content)
	resp, body := call(t, "POST", base+"/v2/me/model/blobs/uploads/?digest="+dg.String(), content)
	require.Equal(t, 201, resp.StatusCode, body)
	return dg
}

func TestABlobIsServedWholeAndInRanges(t *testing.T) {
	base := start(t, t.TempDir(), false)
	dg := put(t, base, "0123456789")
	url := base + "/v2/me/model/blobs/" + dg.String()
	for _, test := range []struct {
		headers []string
		status  int
		want    string
	}{
		{nil, 200, "0123456789"}, {[]string{"Range", "bytes=2-4"}, 206, "234"},
		{[]string{"Range", "bytes=7-"}, 206, "789"}, {[]string{"Range", "bytes=-2"}, 206, "89"},
		{[]string{"Range", "bytes=2-4", "If-Range", `"` + dg.String() + `"`}, 206, "234"},
		{[]string{"Range", "bytes=2-4", "If-Range", `"other"`}, 200, "0123456789"},
	} {
		resp, body := call(t, "GET", url, "", test.headers...)
		assert.Equal(t, test.status, resp.StatusCode)
		assert.Equal(t, test.want, body)
		assert.Equal(t, dg.String(), resp.Header.Get("Docker-Content-Digest"))
	}
	resp, _ := call(t, "GET", url, "", "Range", "bytes=10-")
	assert.Equal(t, 416, resp.StatusCode)
	resp, _ = call(t, "HEAD", url, "")
	assert.EqualValues(t, 10, resp.ContentLength)
}

func TestAnUploadGoesOnWhereItWasCutAlsoAfterARestart(t *testing.T) {
	dir := t.TempDir()
	base, stop := run(t, dir, serve.Options{})
	resp, _ := call(t, "POST", base+"/v2/me/model/blobs/uploads/", "")
	require.Equal(t, 202, resp.StatusCode)
	upload := resp.Header.Get("Location")
	resp, _ = call(t, "PATCH", base+upload, "01234", "Content-Range", "0-4")
	require.Equal(t, 202, resp.StatusCode)

	stop()
	base = start(t, dir, false)
	resp, _ = call(t, "GET", base+upload, "")
	assert.Equal(t, 204, resp.StatusCode)
	assert.Equal(t, "0-4", resp.Header.Get("Range"))
	resp, _ = call(t, "PATCH", base+upload, "xx", "Content-Range", "4-5")
	assert.Equal(t, 416, resp.StatusCode)
	assert.Equal(t, "0-4", resp.Header.Get("Range"))
	dg := digest.FromString("0123456789")
	resp, body := call(t, "PUT", base+upload+"?digest="+dg.String(), "56789")
	require.Equal(t, 201, resp.StatusCode, body)
	_, body = call(t, "GET", base+"/v2/me/model/blobs/"+dg.String(), "")
	assert.Equal(t, "0123456789", body)
	resp, _ = call(t, "GET", base+upload, "")
	assert.Equal(t, 404, resp.StatusCode)
}

// Who cannot read what there is does not say that there is nothing: the client would send it all again, or
// take the model for gone.
func TestWhatCannotBeReadIsNotMissing(t *testing.T) {
	dir := t.TempDir()
	base := start(t, dir, false)
	repository := base + "/v2/me/model"
	text := manifestOf(put(t, base, "{}"), 2)
	resp, body := call(t, "PUT", repository+"/manifests/v1", text)
	require.Equal(t, 201, resp.StatusCode, body)
	for _, c := range []struct{ unreadable, method, path string }{
		{"blobs/sha256", "PUT", "/manifests/v1"}, {"blobs/sha256", "GET", "/tags/list"},
		{"uploads", "GET", "/blobs/uploads/00000000000000000000000000000000"},
	} {
		name, away := filepath.Join(dir, c.unreadable), filepath.Join(dir, "away")
		require.NoError(t, os.Rename(name, away))
		require.NoError(t, os.WriteFile(name, nil, 0o600))
		resp, body := call(t, c.method, repository+c.path, text)
		assert.Equal(t, 500, resp.StatusCode, "%s: %s", c.path, body)
		require.NoError(t, os.Remove(name))
		require.NoError(t, os.Rename(away, name))
	}
}

func TestWhatIsNotItsDigestIsNotKept(t *testing.T) {
	dir := t.TempDir()
	base := start(t, dir, false)
	wrong := digest.FromString("other")
	resp, body := call(t, "POST", base+"/v2/me/model/blobs/uploads/?digest="+wrong.String(), "content")
	assert.Equal(t, 400, resp.StatusCode)
	assert.Contains(t, body, "DIGEST_INVALID")
	resp, _ = call(t, "GET", base+"/v2/me/model/blobs/"+wrong.String(), "")
	assert.Equal(t, 404, resp.StatusCode)
	left, err := os.ReadDir(filepath.Join(dir, "uploads"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAnUploadIsEndedByDelete(t *testing.T) {
	base := start(t, t.TempDir(), false)
	resp, _ := call(t, "POST", base+"/v2/me/model/blobs/uploads/", "")
	upload := base + resp.Header.Get("Location")
	resp, _ = call(t, "DELETE", upload, "")
	assert.Equal(t, 204, resp.StatusCode)
	resp, _ = call(t, "PATCH", upload, "x")
	assert.Equal(t, 404, resp.StatusCode)
}

func TestABlobIsMountedWhereItIsThere(t *testing.T) {
	base := start(t, t.TempDir(), false)
	dg := put(t, base, "content")
	resp, _ := call(t, "POST", base+"/v2/you/model/blobs/uploads/?mount="+dg.String()+"&from=me/model", "")
	assert.Equal(t, 201, resp.StatusCode)
	none := digest.FromString("none").String()
	resp, _ = call(t, "POST", base+"/v2/you/model/blobs/uploads/?mount="+none+"&from=me/model", "")
	assert.Equal(t, 202, resp.StatusCode)
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func manifestOf(config digest.Digest, size int) string {
	return fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x/y","digest":%q,"size":%d},"layers":[]}`,
		manifestType, config, size,
	)
}

func TestAManifestIsKeptUnderItsTagAndItsDigest(t *testing.T) {
	dir := t.TempDir()
	base := start(t, dir, false)
	text := manifestOf(put(t, base, "{}"), 2)
	for _, tag := range []string{"v2", "v1", "v10"} {
		resp, body := call(t, "PUT", base+"/v2/me/model/manifests/"+tag, text, "Content-Type", manifestType)
		require.Equal(t, 201, resp.StatusCode, body)
	}
	base = start(t, dir, true)
	for _, version := range []string{"v1", digest.FromString(text).String()} {
		resp, body := call(t, "GET", base+"/v2/me/model/manifests/"+version, "")
		assert.Equal(t, 200, resp.StatusCode)
		assert.Equal(t, text, body)
		assert.Equal(t, manifestType, resp.Header.Get("Content-Type"))
		assert.Equal(t, digest.FromString(text).String(), resp.Header.Get("Docker-Content-Digest"))
	}
	_, body := call(t, "GET", base+"/v2/me/model/tags/list", "")
	assert.JSONEq(t, `{"name":"me/model","tags":["v1","v10","v2"]}`, body)
	resp, body := call(t, "GET", base+"/v2/me/model/tags/list?n=1&last=v1", "")
	assert.JSONEq(t, `{"name":"me/model","tags":["v10"]}`, body)
	assert.Equal(t, `</v2/me/model/tags/list?last=v10&n=1>; rel="next"`, resp.Header.Get("Link"))
	_, body = call(t, "GET", base+"/v2/_catalog", "")
	assert.JSONEq(t, `{"repositories":["me/model"]}`, body)
}

func TestManifestsThatCannotBeServedAreRefused(t *testing.T) {
	base := start(t, t.TempDir(), false)
	config := put(t, base, "{}")
	for name, test := range map[string]struct{ version, text, want string }{
		"a blob is missing": {"v1", manifestOf(digest.FromString("none"), 4), "MANIFEST_BLOB_UNKNOWN"},
		"not JSON":          {"v1", "{", "MANIFEST_INVALID"},
		"another digest":    {digest.FromString("none").String(), manifestOf(config, 2), "DIGEST_INVALID"},
		"a malformed tag":   {".v1", manifestOf(config, 2), "MANIFEST_INVALID"},
		"too large":         {"v1", strings.Repeat(" ", 5<<20), "MANIFEST_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			manifest := base + "/v2/me/model/manifests/" + test.version
			resp, body := call(t, "PUT", manifest, test.text, "Content-Type", manifestType)
			assert.GreaterOrEqual(t, resp.StatusCode, 400)
			assert.Contains(t, body, test.want)
		})
	}
}

func TestNamesStayInTheDirectory(t *testing.T) {
	base := start(t, t.TempDir(), false)
	for _, path := range []string{
		"/v2/../x/manifests/v1", "/v2/a/../../x/manifests/v1", "/v2/_tags/manifests/v1",
		"/v2/a/_manifests/manifests/v1",
		"/v2/a/blobs/sha256:..", "/v2/a/%2e%2e/manifests/v1", "/v2/A%2f..%2fb/manifests/v1",
		"/v2/" + strings.Repeat("a", 300) + "/tags/list",
		"/v3/", "/",
	} {
		resp, _ := call(t, "GET", base+path, "")
		assert.Contains(t, []int{400, 404}, resp.StatusCode, path)
	}
}

// Only whole segments of dots lead out of a directory, as for everybody who names a repository.
func TestNameWithDotsInside(t *testing.T) {
	resp, _ := call(t, "GET", start(t, t.TempDir(), false)+"/v2/a/x..y/manifests/v1", "")
	assert.Equal(t, 404, resp.StatusCode)
}

func TestAReadOnlyRegistryTakesNothing(t *testing.T) {
	dir := t.TempDir()
	base := start(t, dir, true)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		resp, _ := call(t, method, base+"/v2/me/model/blobs/uploads/", "")
		assert.Equal(t, 405, resp.StatusCode)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestADirectoryOfSomethingElseIsRefused(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model.gguf"), nil, 0o600))
	_, err := serve.Open(dir, serve.Options{})
	require.ErrorIs(t, err, serve.ErrOther)
}

func TestUploadsThatHaveNotEndedAreRemoved(t *testing.T) {
	dir := t.TempDir()
	r, err := serve.Open(dir, serve.Options{})
	require.NoError(t, err)
	s := httptest.NewServer(r)
	call(t, "POST", s.URL+"/v2/me/model/blobs/uploads/", "")
	s.Close()
	require.NoError(t, r.RemoveUploads())
	require.NoError(t, r.Close())
	left, err := os.ReadDir(filepath.Join(dir, "uploads"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
