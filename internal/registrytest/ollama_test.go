package registrytest_test

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// ollamaClient speaks to an Ollama registry, one request after the other.
type ollamaClient struct {
	*uploader
	store *registrytest.ObjectStore
}

func newOllamaClient(t *testing.T, opts registrytest.Options, o registrytest.Ollama) *ollamaClient {
	net := registrytest.NewNetwork(t)
	reg := registrytest.New(opts)
	store := reg.ServeOllama(net, "store.test", registrytest.H1, o)
	s := net.Serve("registry.test", reg, registrytest.H1)
	return &ollamaClient{&uploader{t: t, reg: reg, s: s}, store}
}

// open begins an upload and returns the answer.
func (c *ollamaClient) open(size int64) answer {
	c.t.Helper()
	length := fmt.Sprint("X-Content-Length: ", size)
	a := c.ask("POST", "/v2/"+repo+"/blobs/uploads/", "", "X-Redirect-Uploads: 2", length)
	require.Equal(c.t, 202, a.status)
	return a
}

// announce asks where a part goes.
func (c *ollamaClient) announce(location string, start, end int, headers ...string) answer {
	c.t.Helper()
	span := fmt.Sprintf("Content-Range: %d-%d", start, end-1)
	return c.ask("PATCH", location, "", append(headers, "X-Redirect-Uploads: 1", span)...)
}

// part sends a part and returns where the session goes on.
func (c *ollamaClient) part(location string, data []byte, start, end int) string {
	c.t.Helper()
	a := c.announce(location, start, end)
	require.Equal(c.t, 307, a.status)
	put := c.ask("PUT", a.header.Get("Location"), string(data[start:end]))
	require.Equal(c.t, 200, put.status)
	assert.Equal(c.t, fmt.Sprintf(`"%x"`, md5.Sum(data[start:end])), put.header.Get("ETag"))
	return a.header.Get("Docker-Upload-Location")
}

// finish ends an upload whose parts end at those places.
func (c *ollamaClient) finish(location string, data []byte, ends ...int) answer {
	c.t.Helper()
	return c.ask("PUT", location+"&digest="+digest.FromBytes(data).String()+"&etag="+etag(data, ends...), "")
}

// etag sums up parts as object stores do.
func etag(data []byte, ends ...int) string {
	sums, start := md5.New(), 0
	for _, end := range ends {
		sum := md5.Sum(data[start:end])
		sums.Write(sum[:])
		start = end
	}
	return fmt.Sprintf("%x-%d", sums.Sum(nil), len(ends))
}

func TestOllamaParts(t *testing.T) {
	c := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{MinPart: 4})
	data := []byte("hello, world")
	location := c.open(int64(len(data))).header.Get("Docker-Upload-Location")
	require.NotEmpty(t, location)
	location = c.part(location, data, 0, 5)
	location = c.part(location, data, 5, 10)
	location = c.part(location, data, 10, 12)
	assert.Equal(t, 201, c.finish(location, data, 5, 10, 12).status)
	assert.Equal(t, string(data), c.blob(digest.FromBytes(data)))
	assert.Equal(t, []registrytest.StoredUpload{{Sizes: []int64{5, 5, 2}}}, c.store.Uploads())
	assert.Empty(t, c.store.Violations())
	assert.Zero(t, c.reg.Sessions())
	assert.Zero(t, c.reg.BytesReceived(), "the registry itself takes no bytes")
}

func TestOllamaPartThatIsSentAgain(t *testing.T) {
	c := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{MinPart: 4})
	data := []byte("hello, world")
	first := c.open(int64(len(data))).header.Get("Docker-Upload-Location")
	c.part(first, data, 0, 8)
	second := c.part(first, data, 0, 6)
	third := c.part(second, data, 6, 12)
	c.part(second, data, 6, 12)
	assert.Equal(t, 201, c.finish(third, data, 6, 12).status)
	assert.Empty(t, c.store.Violations())
}

func TestOllamaDirect(t *testing.T) {
	signed := http.Header{"X-Amz-Checksum-Sha256": {"abc"}}
	c := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{Direct: true, SignedHeaders: signed})
	opened := c.open(5)
	place := opened.header.Get("X-Direct-Upload-Url")
	assert.Equal(t, "abc", opened.header.Get("X-Signed-Header-X-Amz-Checksum-Sha256"))
	assert.Equal(t, 403, c.ask("PUT", place, "hello").status, "a signed header is missing")
	assert.Equal(t, 200, c.ask("PUT", place, "hello", "X-Amz-Checksum-Sha256: abc").status)
	assert.Equal(t, 201, c.finish(opened.header.Get("Docker-Upload-Location"), []byte("hello")).status)
	assert.Equal(t, "hello", c.blob(digest.FromString("hello")))
	assert.Equal(t, []registrytest.StoredUpload{{Direct: true, Sizes: []int64{5}}}, c.store.Uploads())

	plain := c.ask("POST", "/v2/"+repo+"/blobs/uploads/", "")
	assert.Empty(t, plain.header.Get("X-Direct-Upload-Url"), "the client did not ask for it")
}

func TestOllamaLateLocation(t *testing.T) {
	c := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{LateLocation: true})
	opened := c.open(5)
	assert.Empty(t, opened.header.Get("Docker-Upload-Location"))
	location := opened.header.Get("Location")
	d := digest.FromString("hello")
	assert.Equal(t, 413, c.ask("PUT", location+"&digest="+d.String(), "hello").status)
	a := c.ask("PATCH", location, "", "Content-Range: 0-4")
	assert.Equal(t, 307, a.status)
	assert.Contains(t, a.header.Get("Location"), "store.test")
	assert.Equal(t, 200, c.ask("PUT", a.header.Get("Location"), "hello").status)
	location = a.header.Get("Docker-Upload-Location")
	assert.Equal(t, 400, c.ask("PATCH", location, "", "Content-Range: 5-6").status, "the protocol is known")
	assert.Equal(t, 201, c.finish(location, []byte("hello"), 5).status)
}

func TestOllamaPartsThatDoNotFit(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 12)
	for name, c := range map[string]struct {
		ends []int
		etag string
		why  string
	}{
		"the last is larger":     {[]int{5, 12}, "", "InvalidPart: part 1 has 7 bytes"},
		"one of them is smaller": {[]int{5, 9, 12}, "", "InvalidPart: part 1 has 4 bytes"},
		"one is too small":       {[]int{3, 6, 12}, "", "EntityTooSmall"},
		"a wrong etag":           {[]int{6, 12}, "beef-2", "InvalidPart: the etag"},
		"an etag of another":     {[]int{6, 12}, etag(data, 12), "InvalidPart: the etag"},
	} {
		t.Run(name, func(t *testing.T) {
			client := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{MinPart: 4})
			location, start := client.open(12).header.Get("Docker-Upload-Location"), 0
			for _, end := range c.ends {
				location = client.part(location, data, start, end)
				start = end
			}
			sum := c.etag
			if sum == "" {
				sum = etag(data, c.ends...)
			}
			a := client.ask("PUT", location+"&digest="+digest.FromBytes(data).String()+"&etag="+sum, "")
			assert.Equal(t, 400, a.status)
			require.Len(t, client.store.Violations(), 1)
			assert.Contains(t, client.store.Violations()[0], c.why)
		})
	}
}

func TestOllamaRequestsThatAreRefused(t *testing.T) {
	c := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{MinPart: 4})
	location := c.open(12).header.Get("Docker-Upload-Location")
	assert.Equal(t, 400, c.ask("PATCH", location, "", "Content-Range: 0-4").status, "no X-Redirect-Uploads")
	assert.Equal(t, 400, c.ask("PATCH", location, "", "X-Redirect-Uploads: 1").status, "no Content-Range")
	assert.Equal(t, 416, c.announce(location, 5, 10).status, "it begins too late")
	third := strings.Replace(location, "_state=0", "_state=3", 1)
	assert.Equal(t, 416, c.announce(third, 0, 5).status, "there is none before")
	part := c.announce(location, 0, 5).header.Get("Location")
	assert.Equal(t, 400, c.ask("PUT", part, "hello", "Authorization: Bearer secret").status)
	assert.Equal(t, 403, c.ask("PATCH", part, "hello").status, "signed for PUT")
	assert.Equal(t, 403, c.ask("PUT", part[:len(part)-1]+"x", "hello").status)
	assert.Equal(t, 403, c.ask("PUT", strings.Replace(part, "part=1", "part=2", 1), "hello").status)
	assert.Equal(t, 400, c.ask("PUT", part, "hello", "Content-MD5: AAAA").status)
	assert.Len(t, c.store.Violations(), 9)
	a := c.finish(location, []byte("hello"), 5)
	assert.Equal(t, 400, a.status, "a part that was announced and not sent")
	assert.Equal(t, 204, c.ask("DELETE", location, "").status)
	assert.Zero(t, c.reg.Sessions())
}

func TestOllamaExactParts(t *testing.T) {
	c := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{ExactParts: true})
	location := c.open(700 << 20).header.Get("Docker-Upload-Location")
	assert.Equal(t, 416, c.announce(location, 0, 64<<20).status)
	assert.Equal(t, 307, c.announce(location, 0, 100<<20).status)
	location = c.open(90 << 20).header.Get("Docker-Upload-Location")
	assert.Equal(t, 307, c.announce(location, 0, 90<<20).status, "one part, the last")
	for size, part := range map[int64]int{2 << 30: 128 << 20, 100 << 30: 1000 << 20} {
		location = c.open(size).header.Get("Docker-Upload-Location")
		assert.Equal(t, 416, c.announce(location, 0, part+1).status)
		assert.Equal(t, 416, c.announce(location, 0, part-1).status)
		assert.Equal(t, 307, c.announce(location, 0, part).status)
	}

	c = newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{ExactParts: true, LateLocation: true})
	data := content(10 << 20)
	location = c.part(c.open(int64(len(data))).header.Get("Location"), data, 0, 5<<20)
	location = c.part(location, data, 5<<20, 10<<20)
	assert.Equal(t, 400, c.finish(location, data, 5<<20, 10<<20).status, "a protocol that was learnt late")
}

func TestOllamaDiscard(t *testing.T) {
	c := newOllamaClient(t, registrytest.Options{}, registrytest.Ollama{Discard: true})
	location := c.part(c.open(5).header.Get("Docker-Upload-Location"), []byte("hello"), 0, 5)
	assert.Equal(t, 201, c.finish(location, []byte("hello"), 5).status)
	assert.False(t, c.reg.Has(repo, digest.FromString("hello")))
	assert.Equal(t, []registrytest.StoredUpload{{Sizes: []int64{5}}}, c.store.Uploads())
}

func TestSignedURLsExpire(t *testing.T) {
	for option, want := range map[int]struct {
		status int
		code   string
	}{0: {403, "AccessDenied"}, 400: {400, "ExpiredToken"}, 410: {410, "AccessDenied"}} {
		t.Run(fmt.Sprint(option), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := registrytest.Options{
					Redirects: registrytest.Redirects{SignedFor: time.Minute, ExpiredStatus: option},
				}
				c := newOllamaClient(t, opts, registrytest.Ollama{})
				location := c.open(5).header.Get("Docker-Upload-Location")
				part := c.announce(location, 0, 5).header.Get("Location")
				time.Sleep(time.Minute + time.Second)
				a := c.ask("PUT", part, "hello")
				assert.Equal(t, want.status, a.status)
				assert.Contains(t, string(a.body), "<Code>"+want.code+"</Code>")
				hello := []byte("hello")
				assert.Equal(t, 201, c.finish(c.part(location, hello, 0, 5), hello, 5).status)
				assert.Empty(t, c.store.Violations())
			})
		})
	}
}

func TestSignedDownloadsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := registrytest.NewNetwork(t)
		reg := registrytest.New(registrytest.Options{
			Redirects: registrytest.Redirects{SignedFor: time.Minute, ExpiredStatus: 400},
		})
		cdn := net.Serve("cdn.test", reg.CDN(), registrytest.H1)
		reg.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(cdn.URL) })
		s := net.Serve("registry.test", reg, registrytest.H1)
		d := reg.Put(repo, []byte("hello"))
		place := ask(t, s.Client, "GET", s.URL+"/v2/"+repo+"/blobs/"+d.String(), "").header.Get("Location")
		assert.Equal(t, "hello", string(ask(t, s.Client, "GET", place, "").body))
		time.Sleep(time.Minute + time.Second)
		a := ask(t, s.Client, "GET", place, "")
		assert.Equal(t, 400, a.status)
		assert.Contains(t, string(a.body), "ExpiredToken")
	})
}
