package wire

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestI23LocationIsEscapedAsBrowsersDo(t *testing.T) {
	from := mustParse(t, "https://registry.example").Blob("a", "sha256:x")
	for location, want := range map[string]string{
		"/a b?c d":                          "/a%20b?c%20d",
		"/a%2Fb c":                          "/a%2Fb%20c",
		"/a%20b?c%20d":                      "/a%20b?c%20d",
		`/"<>\^{|}` + "`":                   "/%22%3C%3E%5C%5E%7B%7C%7D%60",
		`/x?"<>\^{|}%` + "`" + `'?/`:        `/x?%22%3C%3E\^{|}%` + "`" + `'?/`,
		"/é\xff?é":                          "/%C3%A9%FF?%C3%A9",
		"/x?sig=a+b/c=&_state=y%2B&z":       "/x?sig=a+b/c=&_state=y%2B&z",
		"/x?y#a fragment%":                  "/x?y",
		" /x ":                              "/x",
		"?q r":                              "/v2/a/blobs/sha256:x?q%20r",
		"https://registry.example?q r":      "/?q%20r",
		"//registry.example/a b":            "/a%20b",
		"HTTPS://registry.example/a//b c":   "/a//b%20c",
		"/x?to=https://elsewhere.example/ ": "/x?to=https://elsewhere.example/",
	} {
		next, err := from.Resolve(location)
		if !assert.NoError(t, err, "%q", location) {
			continue
		}
		assert.Equal(t, want, next.URL.RequestURI(), "%q", location)
		assert.False(t, next.Left, "%q", location)
	}
	for _, location := range []string{
		"https://registry .example/x", "https://a b@registry.example/x", "https:// /x",
	} {
		_, err := from.Resolve(location)
		assert.ErrorIs(t, err, ErrRedirectRefused, "%q", location)
	}
}

func TestI23EscapedLocationIsRequested(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/a/blobs/sha256:x" {
			w.Header()["Location"] = []string{"/a b%2Fc?d e"}
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		got = r.RequestURI
	}))
	defer server.Close()
	c := NewClient(nil, "test", 1)
	defer c.Close()
	target := mustParse(t, server.URL).Blob("a", "sha256:x")
	resp, err := get(t, c, target)
	require.NoError(t, err)
	resp.Discard()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, "/a%20b%2Fc?d%20e", got)
}

func TestI23ControlCharactersAreRefused(t *testing.T) {
	from := mustParse(t, "https://registry.example").Blob("a", "sha256:x")
	for _, location := range []string{
		"/\x00", "/x?\x00", "/x#\x00", "\x01/x", "/x\x7f", "/x\ty", "/x\r\ny",
		"https://registry.example\x00.evil.example/x",
	} {
		_, err := from.Resolve(location)
		assert.ErrorIs(t, err, ErrRedirectRefused, "%q", location)
	}
}

// net/http takes no answer with such a header, and quotes it.
func TestI23ControlCharactersOnTheWire(t *testing.T) {
	for header, refused := range map[string]bool{
		"Location: /x?sig=secret\x00": true,
		"LOCATION: /x?sig=secret\x01": true,
		"X-Secret: secret\x00":        false,
		"secret":                      false,
	} {
		c := piped(func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 307 Temporary Redirect\r\n"+header+"\r\n"+emptyAndLast)
			}
		})
		target := mustParse(t, "http://registry.test").Blob("a", "sha256:x")
		_, err := get(t, c, target)
		c.Close()
		require.Error(t, err)
		assert.Equal(t, refused, errors.Is(err, ErrRedirectRefused), "%q: %v", header, err)
		assert.NotContains(t, err.Error(), "secret")
	}
}
