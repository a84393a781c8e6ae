package registrytest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// uploader drives the upload endpoints of one registry.
type uploader struct {
	t   *testing.T
	reg *registrytest.Registry
	s   *registrytest.Server
}

func newUploader(t *testing.T, opts registrytest.Options) *uploader {
	reg := registrytest.New(opts)
	return &uploader{t: t, reg: reg, s: registrytest.ServeInMemory(t, reg, registrytest.H1)}
}

func (u *uploader) ask(method, location, body string, headers ...string) answer {
	u.t.Helper()
	if strings.HasPrefix(location, "/") {
		location = u.s.URL + location
	}
	a := ask(u.t, u.s.Client, method, location, body, headers...)
	require.NoError(u.t, a.err)
	return a
}

func (u *uploader) open() string {
	u.t.Helper()
	a := u.ask("POST", "/v2/"+repo+"/blobs/uploads/", "")
	require.Equal(u.t, 202, a.status)
	require.Equal(u.t, "0-0", a.header.Get("Range"))
	return a.header.Get("Location")
}

func (u *uploader) blob(d digest.Digest) string {
	data, _ := u.reg.Blob(d)
	return string(data)
}

func TestUploadWhole(t *testing.T) {
	u := newUploader(t, registrytest.Options{})
	location := u.open()
	assert.Equal(t, 1, u.reg.Sessions())
	d := digest.FromString("hello")
	a := u.ask("PUT", location+"&digest="+d.String(), "hello")
	assert.Equal(t, 201, a.status)
	assert.Equal(t, u.s.URL+"/v2/"+repo+"/blobs/"+d.String(), a.header.Get("Location"))
	assert.Equal(t, "hello", u.blob(d))
	assert.True(t, u.reg.Has(repo, d))
	assert.Zero(t, u.reg.Sessions())
}

func TestUploadOtherAlgorithm(t *testing.T) {
	u := newUploader(t, registrytest.Options{})
	d := digest.SHA512.FromString("hello")
	assert.Equal(t, 201, u.ask("PUT", u.open()+"&digest="+d.String(), "hello").status)
	assert.Equal(t, "hello", u.blob(d))
}

func TestUploadDigestWrong(t *testing.T) {
	u := newUploader(t, registrytest.Options{})
	d := digest.FromString("hello")
	a := u.ask("PUT", u.open()+"&digest="+d.String(), "hullo")
	assert.Equal(t, 400, a.status)
	assert.Contains(t, string(a.body), "DIGEST_INVALID")
	assert.False(t, u.reg.Has(repo, d))
	assert.Equal(t, 400, u.ask("PUT", u.open(), "hello").status, "no digest at all")
}

func TestUploadChunks(t *testing.T) {
	u := newUploader(t, registrytest.Options{Sessions: registrytest.Sessions{StrictState: true}})
	first := u.open()
	a := u.ask("PATCH", first, "hello ", "Content-Range: 0-5")
	assert.Equal(t, 202, a.status)
	assert.Equal(t, "0-5", a.header.Get("Range"))
	second := a.header.Get("Location")
	assert.NotEqual(t, first, second)
	assert.Equal(t, 404, u.ask("PATCH", first, "world").status, "an old state")

	a = u.ask("PATCH", second, "world", "Content-Range: 7-11")
	assert.Equal(t, 416, a.status)
	assert.Equal(t, "0-5", a.header.Get("Range"))
	assert.Equal(t, 400, u.ask("PATCH", second, "world", "Content-Range: 6-7").status,
		"a range that does not fit")

	a = u.ask("GET", second, "")
	assert.Equal(t, 204, a.status)
	assert.Equal(t, "0-5", a.header.Get("Range"))
	assert.Equal(t, second, a.header.Get("Location"))

	d := digest.FromString("hello world")
	assert.Equal(t, 201, u.ask("PUT", second+"&digest="+d.String(), "world", "Content-Range: 6-10").status)
	assert.Equal(t, "hello world", u.blob(d))
}

func TestUploadStreamedThenEmptyPut(t *testing.T) {
	u := newUploader(t, registrytest.Options{Sessions: registrytest.Sessions{RelativeLocation: true}})
	location := u.open()
	require.True(t, strings.HasPrefix(location, "/v2/"))
	location = u.ask("PATCH", location, "hello").header.Get("Location")
	d := digest.FromString("hello")
	assert.Equal(t, 201, u.ask("PUT", location+"&digest="+d.String(), "").status)
}

func TestUploadCancelled(t *testing.T) {
	u := newUploader(t, registrytest.Options{})
	location := u.open()
	assert.Equal(t, 204, u.ask("DELETE", location, "").status)
	assert.Equal(t, 404, u.ask("PATCH", location, "x").status)
	assert.Zero(t, u.reg.Sessions())
}

func TestUploadLimits(t *testing.T) {
	u := newUploader(t, registrytest.Options{MaxBody: 8, Sessions: registrytest.Sessions{MinChunk: 4}})
	a := u.ask("POST", "/v2/"+repo+"/blobs/uploads/", "")
	assert.Equal(t, "4", a.header.Get("OCI-Chunk-Min-Length"))
	location := a.header.Get("Location")
	assert.Equal(t, 413, u.ask("PATCH", location, "too long a body").status)
	assert.Equal(t, 202, u.ask("PATCH", location, "four").status)
	assert.Equal(t, 202, u.ask("PATCH", location, "abc").status)
	assert.Equal(t, 400, u.ask("PATCH", location, "more").status, "after a short chunk")
	assert.Equal(t, 201, u.ask("PUT", location+"&digest="+digest.FromString("fourabc").String(), "").status)
}

func TestUploadMaxBodyWithoutLength(t *testing.T) {
	u := newUploader(t, registrytest.Options{MaxBody: 8})
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", u.open(),
		struct{ *strings.Reader }{strings.NewReader("too long a body")})
	require.NoError(t, err)
	require.Zero(t, req.ContentLength)
	assert.Equal(t, 413, send(u.s.Client, req).status)
}

func TestSingleShot(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		t.Run(fmt.Sprint(accepted), func(t *testing.T) {
			u := newUploader(t, registrytest.Options{SingleShot: accepted})
			d := digest.FromString("hello")
			a := u.ask("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), "hello")
			assert.Equal(t, map[bool]int{true: 201, false: 202}[accepted], a.status)
			assert.Equal(t, accepted, u.reg.Has(repo, d))
			assert.Equal(t, map[bool]int{true: 0, false: 1}[accepted], u.reg.Sessions())
		})
	}
}

func TestSingleShotThatFailsLeavesNoSession(t *testing.T) {
	u := newUploader(t, registrytest.Options{SingleShot: true, MaxBody: 4})
	post := "/v2/" + repo + "/blobs/uploads/?digest="
	assert.Equal(t, 400, u.ask("POST", post+"none", "").status)
	assert.Equal(t, 413, u.ask("POST", post+digest.FromString("hello").String(), "hello").status)
	assert.Zero(t, u.reg.Sessions())
}

func TestMount(t *testing.T) {
	u := newUploader(t, registrytest.Options{})
	d := u.reg.Put("other/repo", []byte("hello"))
	mount := "/v2/" + repo + "/blobs/uploads/?mount=" + d.String() + "&from="
	assert.Equal(t, 202, u.ask("POST", mount+"third/repo", "").status)
	assert.False(t, u.reg.Has(repo, d))
	a := u.ask("POST", mount+"other/repo", "")
	assert.Equal(t, 201, a.status)
	assert.Equal(t, d.String(), a.header.Get("Docker-Content-Digest"))
	assert.True(t, u.reg.Has(repo, d))

	u.reg.Configure(func(o *registrytest.Options) { o.NoMount = true })
	assert.Equal(t, 202, u.ask("POST", mount+"other/repo", "").status)
}

func TestRedirectUploads(t *testing.T) {
	net := registrytest.NewNetwork(t)
	reg := registrytest.New(registrytest.Options{
		Redirects: registrytest.Redirects{RedirectUploads: registrytest.To("http://store.test")},
	})
	cdn := reg.CDN()
	u := &uploader{t: t, reg: reg, s: net.Serve("registry.test", reg, registrytest.H1)}
	net.Serve("store.test", cdn, registrytest.H1)

	d := digest.FromString("hello")
	a := u.ask("PUT", u.open()+"&digest="+d.String(), "")
	require.Equal(t, 307, a.status)
	a = u.ask("PUT", a.header.Get("Location"), "hello")
	assert.Equal(t, 201, a.status)
	assert.True(t, reg.Has(repo, d))
	assert.EqualValues(t, 5, cdn.BytesReceived())
}
