package registrytest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestBlobRange(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	d := reg.Put(repo, []byte("0123456789"))
	etag := `"` + d.String() + `"`
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	for _, tt := range []struct {
		spec, ifRange string
		status        int
		body, told    string
	}{
		{"", "", 200, "0123456789", ""},
		{"bytes=2-4", "", 206, "234", "bytes 2-4/10"},
		{"bytes=7-", "", 206, "789", "bytes 7-9/10"},
		{"bytes=-3", "", 206, "789", "bytes 7-9/10"},
		{"bytes=-30", "", 206, "0123456789", "bytes 0-9/10"},
		{"bytes=8-99", "", 206, "89", "bytes 8-9/10"},
		{"bytes=10-", "", 416, "", "bytes */10"},
		{"bytes=-0", "", 416, "", "bytes */10"},
		{"bytes=4-2", "", 200, "0123456789", ""},
		{"bytes=1-2,4-5", "", 200, "0123456789", ""},
		{"lines=1-2", "", 200, "0123456789", ""},
		{"bytes=2-4", etag, 206, "234", "bytes 2-4/10"},
		{"bytes=2-4", `"other"`, 200, "0123456789", ""},
	} {
		t.Run(tt.spec+" "+tt.ifRange, func(t *testing.T) {
			a := ask(t, s.Client, "GET", s.URL+"/v2/"+repo+"/blobs/"+d.String(), "",
				"Range: "+tt.spec, "If-Range: "+tt.ifRange)
			require.NoError(t, a.err)
			assert.Equal(t, tt.status, a.status)
			assert.Equal(t, tt.told, a.header.Get("Content-Range"))
			if tt.status < 300 {
				assert.Equal(t, tt.body, string(a.body))
				assert.Equal(t, int64(len(tt.body)), a.length)
				assert.Equal(t, etag, a.header.Get("ETag"))
				assert.Equal(t, "bytes", a.header.Get("Accept-Ranges"))
				assert.Equal(t, d.String(), a.header.Get("Docker-Content-Digest"))
			}
		})
	}
}

func TestBlobRequests(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	d := reg.Put(repo, []byte("0123456789"))
	unknown := digest.FromString("unknown")
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/", 200, ""},
		{"GET", "/v2", 200, ""},
		{"GET", "/v2/" + repo + "/blobs/" + unknown.String(), 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/other/blobs/" + d.String(), 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/" + repo + "/blobs/sha256:short", 400, "DIGEST_INVALID"},
		{"POST", "/v2/" + repo + "/blobs/" + d.String(), 405, "UNSUPPORTED"},
		{"GET", "/v2/" + repo + "/blobs/uploads/none", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"GET", "/v2/" + repo + "/manifests/none", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/elsewhere", 404, "NAME_UNKNOWN"},
		{"HEAD", "/v2/" + repo + "/blobs/" + d.String(), 200, ""},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			a := ask(t, s.Client, tt.method, s.URL+tt.path, "")
			require.NoError(t, a.err)
			assert.Equal(t, tt.status, a.status)
			if tt.code != "" {
				assert.Contains(t, string(a.body), `"code":"`+tt.code+`"`)
			}
			if tt.method == "HEAD" {
				assert.EqualValues(t, 10, a.length)
				assert.Empty(t, a.body)
			}
		})
	}
}

func TestNoRange(t *testing.T) {
	reg := registrytest.New(registrytest.Options{NoRange: true})
	d := reg.Put(repo, []byte("0123456789"))
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	a := ask(t, s.Client, "GET", s.URL+"/v2/"+repo+"/blobs/"+d.String(), "", "Range: bytes=2-4")
	assert.Equal(t, 200, a.status)
	assert.Equal(t, 10, len(a.body))
	assert.Empty(t, a.header.Get("Accept-Ranges"))
}

func TestRedirectToCDN(t *testing.T) {
	everywhere(t, func(t *testing.T, mode registrytest.Mode, _ starter) {
		net := registrytest.NewNetwork(t)
		opts := registrytest.Options{Token: "secret", Redirects: registrytest.Redirects{RedirectStatus: 302}}
		reg := registrytest.New(opts)
		cdn := reg.CDN()
		cdn.RefuseAuth()
		registry, store := net.Serve("registry.test", reg, mode), net.Serve("cdn.test:8080", cdn, mode)
		reg.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(store.URL) })
		d := reg.Put(repo, []byte("0123456789"))

		a := ask(t, registry.Client, "GET", registry.URL+"/v2/"+repo+"/blobs/"+d.String(), "",
			"Authorization: Bearer secret")
		require.NoError(t, a.err)
		assert.Equal(t, 302, a.status)
		signed := store.URL + "/v2/" + repo + "/blobs/" + d.String() + "?sig=signed"
		require.Equal(t, signed, a.header.Get("Location"))

		there := ask(t, net.Client(), "GET", a.header.Get("Location"), "")
		assert.Equal(t, 200, there.status)
		there = ask(t, net.Client(), "GET", a.header.Get("Location"), "", "Authorization: Bearer secret")
		assert.Equal(t, 400, there.status)
		assert.Equal(t, []string{"Bearer secret"}, reg.Tokens())
		assert.Zero(t, reg.BytesSent())
		assert.Equal(t, 2, cdn.Count("GET", "sig=signed"))
	})
}

func TestToken(t *testing.T) {
	reg := registrytest.New(registrytest.Options{Token: "good"})
	d := reg.Put(repo, []byte("x"))
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	url := s.URL + "/v2/" + repo + "/blobs/" + d.String()

	a := ask(t, s.Client, "GET", url, "")
	assert.Equal(t, 401, a.status)
	assert.Equal(t, `Bearer realm="http://registry.test/token",`+
		`service="registry.test",scope="repository:library/model:pull,push"`,
		a.header.Get("WWW-Authenticate"))
	assert.Equal(t, 401, ask(t, s.Client, "GET", url, "", "Authorization: Bearer bad").status)
	assert.Equal(t, 200, ask(t, s.Client, "GET", url, "", "Authorization: Bearer good").status)
	assert.Equal(t, []string{"Bearer bad", "Bearer good"}, reg.Tokens())

	reg.Configure(func(o *registrytest.Options) {
		o.Token, o.Challenge = "", "Basic realm=x"
		o.CheckToken = func(r *http.Request) bool { return r.Method == "HEAD" }
	})
	a = ask(t, s.Client, "GET", url, "", "Authorization: Bearer good")
	assert.Equal(t, 401, a.status)
	assert.Equal(t, "Basic realm=x", a.header.Get("WWW-Authenticate"))
	assert.Equal(t, 200, ask(t, s.Client, "HEAD", url, "").status)
}

func TestBeforeAndLatency(t *testing.T) {
	reg := registrytest.New(registrytest.Options{
		Latency: time.Millisecond,
		Before: func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X-Before", "seen")
			if r.URL.Path != "/direct" {
				return false
			}
			w.WriteHeader(http.StatusTeapot)
			return true
		},
	})
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	began := time.Now()
	assert.Equal(t, 418, ask(t, s.Client, "GET", s.URL+"/direct", "").status)
	assert.GreaterOrEqual(t, time.Since(began), time.Millisecond)
	a := ask(t, s.Client, "GET", s.URL+"/v2/", "")
	assert.Equal(t, 200, a.status)
	assert.Equal(t, "seen", a.header.Get("X-Before"))
}

func TestManifest(t *testing.T) {
	reg := registrytest.New(registrytest.Options{CheckManifest: true})
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	blob := digest.FromString("layer")
	text := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q},"layers":[{"digest":%q}]}`, blob, blob)
	url := s.URL + "/v2/" + repo + "/manifests/"
	const mediaType = "application/vnd.oci.image.manifest.v1+json"

	a := ask(t, s.Client, "PUT", url+"latest", text, "Content-Type: "+mediaType)
	assert.Equal(t, 400, a.status)
	assert.Equal(t, 2, strings.Count(string(a.body), `"code":"MANIFEST_BLOB_UNKNOWN"`))
	assert.Contains(t, string(a.body), `"detail":"`+blob.String()+`"`)

	reg.Put(repo, []byte("layer"))
	a = ask(t, s.Client, "PUT", url+"latest", text, "Content-Type: "+mediaType)
	assert.Equal(t, 201, a.status)
	assert.Equal(t, digest.FromString(text).String(), a.header.Get("Docker-Content-Digest"))
	assert.Equal(t, url+digest.FromString(text).String(), a.header.Get("Location"))
	assert.Equal(t, 400, ask(t, s.Client, "PUT", url+blob.String(), text).status,
		"a digest that is not the manifest's")
	assert.Equal(t, 400, ask(t, s.Client, "PUT", url+"latest", "{").status)

	for _, ref := range []string{"latest", digest.FromString(text).String()} {
		a = ask(t, s.Client, "GET", url+ref, "")
		assert.Equal(t, text, string(a.body))
		assert.Equal(t, mediaType, a.header.Get("Content-Type"))
		stored, ok := reg.Manifest(repo, ref)
		assert.True(t, ok)
		assert.Equal(t, text, string(stored))
		assert.EqualValues(t, len(text), ask(t, s.Client, "HEAD", url+ref, "").length)
	}
	assert.Contains(t, string(ask(t, s.Client, "GET", s.URL+"/v2/"+repo+"/tags/list", "").body),
		`"tags":["latest"]`)
	assert.Equal(t, 202, ask(t, s.Client, "DELETE", url+"latest", "").status)
	assert.Equal(t, 404, ask(t, s.Client, "GET", url+"latest", "").status)
}

func TestRecords(t *testing.T) {
	everywhere(t, func(t *testing.T, mode registrytest.Mode, start starter) {
		reg := registrytest.New(registrytest.Options{})
		d := reg.Put(repo, content(1000))
		s := start(reg)
		url := s.URL + "/v2/" + repo + "/blobs/"
		began := time.Now()
		require.NoError(t, ask(t, s.Client, "GET", url+d.String()+"?x=1", "", "X-Mark: here").err)
		a := ask(t, s.Client, "POST", url+"uploads/", "")
		require.NoError(t, ask(t, s.Client, "PATCH", a.header.Get("Location"), "four").err)
		reg.Wait()

		all := reg.Requests()
		require.Len(t, all, 3)
		got := all[0]
		assert.WithinRange(t, got.At, began, time.Now())
		assert.NotEmpty(t, got.Remote)
		assert.Equal(t, "here", got.Header.Get("X-Mark"))
		assert.Equal(t, strings.TrimPrefix(strings.TrimPrefix(s.URL, "http://"), "https://"), got.Host)
		protocols := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}
		assert.Equal(t, protocols[mode == registrytest.H2], got.Proto)
		assert.Equal(t, "x=1", got.RawQuery)
		assert.EqualValues(t, 1000, got.SentBytes)
		assert.Equal(t, 200, got.Status)
		assert.EqualValues(t, 4, all[2].BodyBytes)
		assert.Equal(t, 202, all[2].Status)
		assert.EqualValues(t, 1000, reg.BytesSent())
		assert.EqualValues(t, 4, reg.BytesReceived())
		assert.Equal(t, 1, reg.Count("GET", "x=1"))
		assert.Equal(t, 2, reg.Count("", "uploads"))
		assert.Zero(t, reg.Count("HEAD", ""))
		assert.Equal(t, 0, reg.InFlight())
		assert.Equal(t, 1, reg.MaxInFlight())

		require.Equal(t, 404, ask(t, s.Client, "HEAD", url+digest.FromString("unknown").String(), "").status)
		reg.Wait()
		assert.EqualValues(t, 1000, reg.BytesSent(), "an answer to HEAD has no body")
	})
}
