package registrytest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

const blobSize = 100_000

// TestFaultsOnBlob asks for one blob under each fault, everywhere.
func TestFaultsOnBlob(t *testing.T) {
	data := content(blobSize)
	h1 := func(mode registrytest.Mode) bool { return mode != registrytest.H2 }
	cutAt := func(t *testing.T, a answer, n int) {
		t.Helper()
		require.Error(t, a.err)
		assert.Equal(t, 200, a.status)
		assert.Equal(t, n, len(a.body))
		assert.True(t, bytes.Equal(data[:n], a.body))
	}
	for _, tt := range []struct {
		script string
		check  func(t *testing.T, mode registrytest.Mode, a answer)
	}{
		{"503", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 503, a.status)
			assert.Equal(t, `{"errors":[{"code":"UNKNOWN","message":"injected fault"}]}`, string(a.body))
		}},
		{"429(retry-after: 2; x-note: a; b)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 429, a.status)
			assert.Equal(t, "2", a.header.Get("Retry-After"))
			assert.Equal(t, "a; b", a.header.Get("X-Note"))
		}},
		{`status(401, www-authenticate: Bearer realm="x",scope="a(b)")`, func(
			t *testing.T, _ registrytest.Mode, a answer,
		) {
			assert.Equal(t, 401, a.status)
			assert.Equal(t, `Bearer realm="x",scope="a(b)"`, a.header.Get("WWW-Authenticate"))
		}},
		{"redirect(http://cdn.test/a?b=c->d+e)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 307, a.status)
			assert.Equal(t, "http://cdn.test/a?b=c->d+e", a.header.Get("Location"))
		}},
		{"302", func(t *testing.T, _ registrytest.Mode, a answer) {
			// net/http refuses to follow what has no Location, but hands it over.
			assert.Equal(t, 302, a.status)
			assert.Empty(t, a.body)
		}},
		{"page", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 200, a.status)
			assert.Contains(t, a.header.Get("Content-Type"), "text/html")
			assert.Contains(t, string(a.body), "<html>")
		}},
		{`says(403, {"error":"access denied"})`, func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 403, a.status)
			assert.Equal(t, `{"error":"access denied"}`, string(a.body))
		}},
		{"s3(400 ExpiredToken)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 400, a.status)
			assert.Contains(t, string(a.body), "<Code>ExpiredToken</Code>")
		}},
		{"500+errorbody(70K)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 500, a.status)
			assert.NoError(t, a.err)
			assert.Equal(t, 70<<10, len(a.body))
		}},
		{"hangup", func(t *testing.T, _ registrytest.Mode, a answer) {
			require.Error(t, a.err)
			assert.Zero(t, a.status)
			assert.False(t, isReset(a.err))
		}},
		{"reset", func(t *testing.T, mode registrytest.Mode, a answer) {
			assert.Zero(t, a.status)
			// HTTP/2 may be in the middle of a frame, and says so instead.
			assert.True(t, isReset(a.err) || !h1(mode) && errors.Is(a.err, io.ErrUnexpectedEOF), "%v", a.err)
		}},
		{"reset(40000)", func(t *testing.T, mode registrytest.Mode, a answer) {
			cutAt(t, a, 40000)
			if h1(mode) {
				assert.True(t, isReset(a.err), "%v", a.err)
			} else {
				assert.ErrorContains(t, a.err, "stream error")
			}
		}},
		{"reset(0)", func(t *testing.T, _ registrytest.Mode, a answer) { cutAt(t, a, 0) }},
		{"connreset(1000)", func(t *testing.T, mode registrytest.Mode, a answer) {
			if h1(mode) {
				cutAt(t, a, 1000)
			}
			assert.LessOrEqual(t, len(a.body), 1000)
			assert.True(t, isReset(a.err), "%v", a.err)
		}},
		{"eof(40000)", func(t *testing.T, _ registrytest.Mode, a answer) {
			cutAt(t, a, 40000)
			assert.ErrorIs(t, a.err, io.ErrUnexpectedEOF)
			assert.EqualValues(t, blobSize, a.length)
		}},
		{"noclen(40000)", func(t *testing.T, _ registrytest.Mode, a answer) {
			require.NoError(t, a.err)
			assert.EqualValues(t, -1, a.length)
			assert.False(t, a.chunked)
			assert.True(t, bytes.Equal(data[:40000], a.body))
		}},
		{"noclen", func(t *testing.T, _ registrytest.Mode, a answer) {
			require.NoError(t, a.err)
			assert.EqualValues(t, -1, a.length)
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"truncchunk(40000)", func(t *testing.T, mode registrytest.Mode, a answer) {
			cutAt(t, a, 40000)
			assert.Equal(t, h1(mode), a.chunked)
			if h1(mode) {
				assert.ErrorIs(t, a.err, io.ErrUnexpectedEOF)
			}
		}},
		{"chunked", func(t *testing.T, mode registrytest.Mode, a answer) {
			require.NoError(t, a.err)
			assert.Equal(t, h1(mode), a.chunked)
			assert.EqualValues(t, -1, a.length)
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"long(50)", func(t *testing.T, _ registrytest.Mode, a answer) {
			require.NoError(t, a.err)
			assert.EqualValues(t, -1, a.length)
			assert.Equal(t, blobSize+50, len(a.body))
			assert.True(t, bytes.HasPrefix(a.body, data))
		}},
		{"clen(7)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.EqualValues(t, 7, a.length)
			assert.LessOrEqual(t, len(a.body), 7)
		}},
		{"clen(1M)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.EqualValues(t, 1<<20, a.length)
			assert.ErrorIs(t, a.err, io.ErrUnexpectedEOF)
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"flip(50000)", func(t *testing.T, _ registrytest.Mode, a answer) {
			require.NoError(t, a.err)
			require.Equal(t, blobSize, len(a.body))
			assert.Equal(t, data[50000]^1, a.body[50000])
			a.body[50000] ^= 1
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"206", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 206, a.status)
			assert.Empty(t, a.header.Values("Content-Range"))
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"range(bytes 5-9/10)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 206, a.status)
			assert.Equal(t, []string{"bytes 5-9/10"}, a.header.Values("Content-Range"))
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"asked(bytes=10-19)+range(bytes 0-9/*; bytes 1-2/3)", func(
			t *testing.T, _ registrytest.Mode, a answer,
		) {
			assert.Equal(t, 206, a.status)
			assert.Equal(t, []string{"bytes 0-9/*", "bytes 1-2/3"}, a.header.Values("Content-Range"))
			assert.Equal(t, data[10:20], a.body)
		}},
		{"asked(bytes=10-19)+range()", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 206, a.status)
			assert.Empty(t, a.header.Values("Content-Range"))
			assert.Equal(t, 10, len(a.body))
		}},
		{"encoding(gzip)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, "gzip", a.header.Get("Content-Encoding"))
			z, err := gzip.NewReader(bytes.NewReader(a.body))
			require.NoError(t, err)
			plain, err := io.ReadAll(z)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(data, plain))
		}},
		{"encoding(zstd)", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, "zstd", a.header.Get("Content-Encoding"))
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"header(x-a: 1; x-a: 2; -etag; docker-content-digest: wrong)", func(
			t *testing.T, _ registrytest.Mode, a answer,
		) {
			assert.Equal(t, []string{"1", "2"}, a.header.Values("X-A"))
			assert.Empty(t, a.header.Values("ETag"))
			assert.Equal(t, []string{"wrong"}, a.header.Values("Docker-Content-Digest"))
		}},
		{"headerbomb(100K)", func(t *testing.T, _ registrytest.Mode, a answer) {
			n := 0
			for name, values := range a.header {
				if strings.HasPrefix(name, "X-Bomb-") {
					n += len(values[0])
				}
			}
			assert.Equal(t, 100<<10, n)
		}},
		{"goaway", func(t *testing.T, mode registrytest.Mode, a answer) {
			require.NoError(t, a.err)
			assert.Equal(t, h1(mode), a.close)
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"slow(1M)", func(t *testing.T, _ registrytest.Mode, a answer) {
			require.NoError(t, a.err)
			assert.True(t, bytes.Equal(data, a.body))
		}},
		{"delay(1ms)+404", func(t *testing.T, _ registrytest.Mode, a answer) {
			assert.Equal(t, 404, a.status)
		}},
	} {
		t.Run(tt.script, func(t *testing.T) {
			everywhere(t, func(t *testing.T, mode registrytest.Mode, start starter) {
				reg := registrytest.New(registrytest.Options{})
				d := reg.Put(repo, data)
				s := start(reg)
				script := reg.Fault("GET", d.String(), tt.script)
				url := s.URL + "/v2/" + repo + "/blobs/" + d.String()
				tt.check(t, mode, ask(t, s.Client, "GET", url, "", "Accept-Encoding: identity"))
				assert.True(t, script.Done())

				after := ask(t, s.Client, "GET", url, "")
				require.NoError(t, after.err)
				assert.Equal(t, 200, after.status)
				assert.True(t, bytes.Equal(data, after.body))
			})
		})
	}
}

func TestNoRangeFaultOnRangeRequest(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	d := reg.Put(repo, content(100))
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	reg.Fault("", "", "norange->ok->reset(10)")
	url := s.URL + "/v2/" + repo + "/blobs/" + d.String()
	assert.Equal(t, 200, ask(t, s.Client, "GET", url, "", "Range: bytes=50-").status)
	assert.Equal(t, 206, ask(t, s.Client, "GET", url, "", "Range: bytes=50-").status)
	a := ask(t, s.Client, "GET", url, "", "Range: bytes=50-")
	assert.Equal(t, content(100)[50:60], a.body)
	assert.True(t, isReset(a.err))
}

// readAndCancel reads n bytes, cancels the request, and checks that this is how the body ended.
func readAndCancel(t *testing.T, s *registrytest.Server, url string, n int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	require.NoError(t, err)
	res, err := s.Client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	_, err = io.ReadFull(res.Body, make([]byte, n))
	require.NoError(t, err)
	cancel()
	_, err = io.Copy(io.Discard, res.Body)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestStallAndEndless(t *testing.T) {
	cases := map[string]int{"stall(1000)": 1000, "endless": 10 * blobSize, "500+errorbody(endless)": blobSize}
	for script, n := range cases {
		t.Run(script, func(t *testing.T) {
			everywhere(t, func(t *testing.T, _ registrytest.Mode, start starter) {
				reg := registrytest.New(registrytest.Options{})
				d := reg.Put(repo, content(blobSize))
				s := start(reg)
				reg.Fault("GET", "", script)
				readAndCancel(t, s, s.URL+"/v2/"+repo+"/blobs/"+d.String(), n)
				reg.Wait()
				assert.Zero(t, reg.InFlight())
			})
		})
	}
}

func TestEndlessAnswerToHeadEnds(t *testing.T) {
	everywhere(t, func(t *testing.T, _ registrytest.Mode, start starter) {
		reg := registrytest.New(registrytest.Options{})
		s := start(reg)
		reg.Fault("HEAD", "", "errorbody(endless)")
		assert.Equal(t, 500, ask(t, s.Client, "HEAD", s.URL+"/v2/", "").status)
		reg.Wait()
	})
}

func TestHeaderBombHitsTheLimit(t *testing.T) {
	everywhere(t, func(t *testing.T, _ registrytest.Mode, start starter) {
		reg := registrytest.New(registrytest.Options{})
		s := start(reg)
		s.Client.Transport.(*http.Transport).MaxResponseHeaderBytes = 64 << 10
		reg.Fault("", "", "503+headerbomb(100K)->503+headerbomb(10K)")
		a := ask(t, s.Client, "GET", s.URL+"/v2/", "")
		require.Error(t, a.err)
		assert.Zero(t, a.status)
		assert.Equal(t, 503, ask(t, s.Client, "GET", s.URL+"/v2/", "").status)
	})
}

func TestHints(t *testing.T) {
	everywhere(t, func(t *testing.T, _ registrytest.Mode, start starter) {
		reg := registrytest.New(registrytest.Options{})
		s := start(reg)
		reg.Fault("", "", "hints(3)")
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
		})
		req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v2/", nil)
		require.NoError(t, err)
		assert.Equal(t, 200, send(s.Client, req).status)
		assert.Equal(t, 3, hints)
	})
}

func TestGoAwayLeavesTheConnection(t *testing.T) {
	net := registrytest.NewNetwork(t)
	reg := registrytest.New(registrytest.Options{})
	s := net.Serve("registry.test", reg, registrytest.H2)
	reg.Fault("", "", "ok->ok->goaway")
	for range 3 {
		require.Equal(t, 200, ask(t, s.Client, "GET", s.URL+"/v2/", "").status)
	}
	assert.Equal(t, 1, net.Dials("registry.test:443"))
	require.Eventually(t, func() bool {
		return ask(t, s.Client, "GET", s.URL+"/v2/", "").status == 200 && net.Dials("registry.test:443") == 2
	}, 10*time.Second, time.Millisecond)
}
