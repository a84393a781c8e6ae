package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// start serves two blobs, one of which is small enough to be kept in memory.
func start(t *testing.T, k Knobs) (s *Server, small, large string) {
	t.Helper()
	dir := t.TempDir()
	small, large = put(t, dir, 1000), put(t, dir, keepSize+1)
	s, err := Start(dir, Loopback)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	s.Reset(k)
	return s, small, large
}

func put(t *testing.T, dir string, size int) string {
	t.Helper()
	data := content(size)
	dg := digestOf(data)
	require.NoError(t, os.WriteFile(filepath.Join(dir, strings.Replace(dg, ":", "-", 1)), data, 0o600))
	return dg
}

func content(size int) []byte { return bytes.Repeat([]byte("0123456789"), size/10+1)[:size] }

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ask makes a request on a connection of its own.
func ask(t *testing.T, method, url string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, got
}

func blobURL(s *Server, dg string) string { return s.URL() + "/v2/library/bench/blobs/" + dg }

func TestBlobsAreServed(t *testing.T) {
	for name, k := range map[string]Knobs{
		"at full speed": {}, "at a rate": {ConnRate: 100 << 20, TotalRate: 200 << 20},
		"from the CDN": {Redirect: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, small, large := start(t, k)
			for dg, size := range map[string]int{small: 1000, large: keepSize + 1} {
				resp, got := ask(t, "GET", blobURL(s, dg), nil)
				assert.Equal(t, 200, resp.StatusCode)
				assert.Equal(t, dg, digestOf(got))
				resp, got = ask(t, "GET", blobURL(s, dg), nil, "Range", "bytes=10-19")
				assert.Equal(t, 206, resp.StatusCode)
				assert.Equal(t, "0123456789", string(got))
				resp, _ = ask(t, "GET", blobURL(s, dg), nil, "Range", "bytes=9000000-")
				assert.Equal(t, 416, resp.StatusCode)
				resp, got = ask(t, "HEAD", blobURL(s, dg), nil)
				assert.EqualValues(t, size, resp.ContentLength)
				assert.Empty(t, got)
			}
			resp, _ := ask(t, "GET", blobURL(s, digestOf(nil)), nil)
			assert.Equal(t, 404, resp.StatusCode)
		})
	}
}

func TestRequestsAreCounted(t *testing.T) {
	s, small, _ := start(t, Knobs{Redirect: true})
	ask(t, "GET", blobURL(s, small), nil)
	ask(t, "GET", blobURL(s, small), nil, "Range", "bytes=0-99")
	c := s.Counts()
	assert.EqualValues(t, 4, c.Requests, "with those of the CDN")
	assert.EqualValues(t, 4, c.Connections)
	assert.EqualValues(t, 1100, c.Body)
	assert.EqualValues(t, 100, c.Duplicates)
	s.Reset(Knobs{})
	assert.Zero(t, s.Counts().Requests)
}

func TestUploadInASession(t *testing.T) {
	s, _, _ := start(t, Knobs{Empty: true, HashUploads: true})
	data := content(5000)
	dg := digestOf(data)
	resp, _ := ask(t, "HEAD", blobURL(s, dg), nil)
	require.Equal(t, 404, resp.StatusCode)
	resp, _ = ask(t, "POST", s.URL()+"/v2/library/bench/blobs/uploads/", nil)
	require.Equal(t, 202, resp.StatusCode)
	at := s.URL() + resp.Header.Get("Location")
	resp, _ = ask(t, "PATCH", at, data[:2000], "Content-Range", "0-1999")
	require.Equal(t, 202, resp.StatusCode)
	assert.Equal(t, "0-1999", resp.Header.Get("Range"))
	resp, _ = ask(t, "PUT", at+"?digest="+dg, data[2000:], "Expect", "100-continue")
	require.Equal(t, 201, resp.StatusCode)
	resp, _ = ask(t, "HEAD", blobURL(s, dg), nil)
	assert.Equal(t, 200, resp.StatusCode)
	assert.EqualValues(t, 5000, s.Counts().Body)
	assert.EqualValues(t, 1, s.Counts().Uploaded)
	resp, _ = ask(t, "PUT", at+"?digest="+dg, nil)
	assert.Equal(t, 404, resp.StatusCode, "the session has ended")
}

func TestWrongUploadIsRefusedWhereItIsHashed(t *testing.T) {
	for _, hashed := range []bool{true, false} {
		s, _, _ := start(t, Knobs{Empty: true, HashUploads: hashed})
		resp, _ := ask(t, "POST", s.URL()+"/v2/library/bench/blobs/uploads/", nil)
		resp, _ = ask(t, "PUT", s.URL()+resp.Header.Get("Location")+"?digest="+digestOf(nil), content(10))
		if hashed {
			assert.Equal(t, 400, resp.StatusCode)
			assert.Zero(t, s.Counts().Uploaded)
			continue
		}
		assert.Equal(t, 201, resp.StatusCode)
	}
}

func TestUploadInOneRequest(t *testing.T) {
	data := content(10)
	for _, single := range []bool{true, false} {
		s, _, _ := start(t, Knobs{Empty: true, SinglePost: single})
		resp, _ := ask(t, "POST", s.URL()+"/v2/library/bench/blobs/uploads/?digest="+digestOf(data), data)
		if single {
			assert.Equal(t, 201, resp.StatusCode)
			assert.EqualValues(t, 1, s.Counts().Uploaded)
			continue
		}
		assert.Equal(t, 202, resp.StatusCode)
		assert.Zero(t, s.Counts().Uploaded)
	}
}

func TestControlFromAnotherProcess(t *testing.T) {
	s, small, _ := start(t, Knobs{})
	in, requests := io.Pipe()
	answers, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Serve(s, in, out) }()
	c, err := Connect(answers, requests)
	require.NoError(t, err)
	require.NoError(t, c.Reset(Knobs{Empty: true}))
	resp, _ := ask(t, "GET", c.Base+"/v2/library/bench/blobs/"+small, nil)
	assert.Equal(t, 405, resp.StatusCode)
	counts, err := c.Counts()
	require.NoError(t, err)
	assert.EqualValues(t, 1, counts.Requests)
	require.NoError(t, requests.Close())
	assert.NoError(t, <-ended)
}
