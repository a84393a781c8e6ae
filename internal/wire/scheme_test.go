package wire

import (
	"bufio"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// getOnce asks for a target with a client of its own.
func getOnce(t *testing.T, target Target) (*Response, error) {
	t.Helper()
	c := NewClient(nil, "test", 1)
	t.Cleanup(c.Close)
	return get(t, c, target)
}

// quiet is a server that does not log failed handshakes.
func quiet(handler http.HandlerFunc) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	return server
}

func nothing(http.ResponseWriter, *http.Request) {}

func TestN48HTTPSToAPlainPort(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(nothing))
	defer server.Close()
	base := strings.Replace(server.URL, "http:", "https:", 1)
	_, err := getOnce(t, mustParse(t, base).Blob("a", "sha256:x"))
	require.ErrorIs(t, err, ErrWrongScheme)
	assert.ErrorContains(t, err, "speaks plain HTTP there (check the scheme and the port of the base URL)")

	// A caller's transport may be made of an http.Client, which has an error of its own for it.
	c := NewClient(&http.Client{Transport: transportOf(func(*http.Request) (*http.Response, error) {
		return nil, http.ErrSchemeMismatch
	})}, "test", 1)
	_, err = get(t, c, mustParse(t, base).Blob("a", "sha256:x"))
	require.ErrorIs(t, err, ErrWrongScheme)
}

func TestN48PlainHTTPToATLSPort(t *testing.T) {
	server := quiet(nothing)
	server.StartTLS()
	defer server.Close()
	base := strings.Replace(server.URL, "https:", "http:", 1)
	_, err := getOnce(t, mustParse(t, base).Blob("a", "sha256:x"))
	require.ErrorIs(t, err, ErrWrongScheme)
	assert.ErrorContains(t, err, "speaks TLS there (check the scheme and the port of the base URL)")
}

func TestN48WhatServersAnswerToPlainHTTP(t *testing.T) {
	const complaint = "Client sent an HTTP request to an HTTPS server.\n"
	page := func(s string) string { return "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + s }
	for name, c := range map[string]struct {
		answer string
		wrong  bool
	}{
		"TLS alert":      {"\x15\x03\x01\x00\x02\x02\x46", true},
		"TLS 1.2":        {"\x15\x03\x03\x00\x02\x02\x28", true},
		"nginx":          {page("<title>400 The plain HTTP request was sent to HTTPS port</title>"), true},
		"Apache":         {page("You're speaking plain HTTP to an SSL-enabled server port."), true},
		"Go":             {page(complaint), true},
		"another 400":    {page("bad"), false},
		"far down a 400": {page(strings.Repeat(" ", maxPeek) + complaint), false},
		"garbage":        {"garbage\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			client := piped(func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, c.answer)
				}
			})
			defer client.Close()
			target := mustParse(t, "http://registry.test").Blob("a", "sha256:x")
			resp, err := get(t, client, target)
			if c.wrong {
				require.ErrorIs(t, err, ErrWrongScheme)
				assert.ErrorContains(t, err, "/v2/a/blobs/sha256:x: wrong scheme or port: ")
				assert.ErrorContains(t, err, "the server speaks TLS there")
				return
			}
			require.NotErrorIs(t, err, ErrWrongScheme)
			if err == nil {
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, c.answer, page(string(body)), "the body is still whole")
				resp.Discard()
			}
		})
	}
}

// refused is a port of this machine on which nobody listens.
func refused(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func TestN48LocationWithAnotherPortOrScheme(t *testing.T) {
	var location string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		location string
		wrong    bool
	}{
		"another scheme": {strings.Replace(server.URL, "http:", "https:", 1) + "/x", true},
		"another port":   {"http://127.0.0.1:" + refused(t) + "/x", true},
		"another host":   {"http://localhost:" + refused(t) + "/x", false},
	} {
		location = c.location
		_, err := getOnce(t, mustParse(t, server.URL).Blob("a", "sha256:x"))
		require.Error(t, err, name)
		assert.Equal(t, c.wrong, errors.Is(err, ErrWrongScheme), "%s: %v", name, err)
		assert.Equal(t, c.wrong, strings.Contains(err.Error(), "check Host and X-Forwarded-Proto"), name)
	}
}

// An object store on the registry's own host may be down for a while.
func TestN48AnotherPortThatHasAnsweredIsRight(t *testing.T) {
	store := httptest.NewServer(http.HandlerFunc(nothing))
	c := NewClient(nil, "test", 1)
	defer c.Close()
	target := elsewhere(t, "http://127.0.0.1:1", store.URL+"/x")
	require.True(t, target.otherPort())
	resp, err := get(t, c, target)
	require.NoError(t, err)
	resp.Discard()
	store.Close()
	_, err = get(t, c, target)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrWrongScheme)
}

// While a server starts again, another may answer in its place.
func TestN48RegistryThatHasAnsweredIsRight(t *testing.T) {
	down := false
	c := NewClient(&http.Client{Transport: transportOf(func(*http.Request) (*http.Response, error) {
		if down {
			return nil, http.ErrSchemeMismatch
		}
		return &http.Response{StatusCode: http.StatusOK}, nil
	})}, "test", 1)
	target := mustParse(t, "https://registry.test").Blob("a", "sha256:x")
	_, err := get(t, c, target)
	require.NoError(t, err)
	down = true
	_, err = get(t, c, target)
	require.ErrorIs(t, err, http.ErrSchemeMismatch)
	require.NotErrorIs(t, err, ErrWrongScheme)
}

// The registry itself may be down for a while.
func TestN48RegistryThatRefuses(t *testing.T) {
	_, err := getOnce(t, mustParse(t, "http://127.0.0.1:"+refused(t)).Blob("a", "sha256:x"))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrWrongScheme)
}

func TestN48LostScheme(t *testing.T) {
	from := mustParse(t, "https://registry.example").Blob("a", "sha256:x")
	_, err := from.Resolve("http://registry.example/x")
	require.ErrorIs(t, err, ErrRedirectRefused)
	require.ErrorContains(t, err, "X-Forwarded-Proto")
	_, err = from.Resolve("http://cdn.example/x")
	require.ErrorIs(t, err, ErrRedirectRefused)
	require.NotContains(t, err.Error(), "X-Forwarded-Proto")
}

// What is wrong is the proxy's URL.
func TestN48ProxyWithTheWrongScheme(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(nothing))
	defer proxy.Close()
	u, err := url.Parse(strings.Replace(proxy.URL, "http:", "https:", 1))
	require.NoError(t, err)
	c := NewClient(&http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(u)}}, "test", 1)
	defer c.Close()
	_, err = get(t, c, mustParse(t, "http://192.0.2.1").Blob("a", "sha256:x"))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrWrongScheme)
}
