package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/ref"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// remoteTo returns a remote for /v2/me/model of a server, with the given version.
func remoteTo(t *testing.T, version string, h http.HandlerFunc) *remote {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	to, err := ref.Parse(s.URL + "/me/model" + version)
	require.NoError(t, err)
	a := &app{stderr: io.Discard, getenv: env(map[string]string{passwordVariable: "hunter2"})}
	a.username = "me"
	return a.newRemote(to)
}

func TestAManifestIsFetchedWithItsTypes(t *testing.T) {
	r := remoteTo(t, ":v1", func(w http.ResponseWriter, req *http.Request) {
		assert.Equal(t, "/v2/me/model/manifests/v1", req.URL.Path)
		assert.Equal(t, []string{ociManifest, dockerManifest, ociIndex, dockerIndex}, req.Header.Values("Accept"))
		_, _ = io.WriteString(w, "{}")
	})
	data, err := r.manifest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "{}", string(data))
}

func TestA401IsAnsweredWithAToken(t *testing.T) {
	r := remoteTo(t, ":v1", func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/token":
			name, password, _ := req.BasicAuth()
			assert.Equal(t, "me:hunter2", name+":"+password)
			_, _ = io.WriteString(w, `{"token":"opaque"}`)
		case req.Header.Get("Authorization") == "Bearer opaque":
			_, _ = io.WriteString(w, "{}")
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+req.Host+`/token",service="s",scope="repository:me/model:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	_, err := r.manifest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "opaque", r.token)
}

func TestAManifestThatIsNotItsDigestIsRefused(t *testing.T) {
	for name, version := range map[string]string{"by digest": "@" + someDigest, "by tag": ":v1"} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			r := remoteTo(t, version, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Docker-Content-Digest", digest.FromString("other").String())
				_, _ = io.WriteString(w, "{}")
			})
			_, err := r.manifest(t.Context())
			require.ErrorIs(t, err, errManifestDigest)
			assert.EqualValues(t, 1, requests.Load())
		})
	}
}

func TestAStatusTellsWhatTheRegistrySaidWithoutTheToken(t *testing.T) {
	r := remoteTo(t, ":v1", func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"no `+req.Header.Get("Authorization")+`"}]}`)
	})
	r.token = "opaque"
	_, err := r.manifest(t.Context())
	var status *transfer.StatusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, http.StatusForbidden, status.StatusCode)
	assert.Equal(t, []transfer.RegistryError{{Code: "DENIED", Message: "no Bearer ***"}}, status.Errors)
}

// roundTrips answers requests in memory, so that time can be made up.
type roundTrips func(*http.Request) (*http.Response, error)

func (f roundTrips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func inMemory(f roundTrips) *remote {
	a := &app{stderr: io.Discard, getenv: noEnv}
	r := a.newRemote(ref.Reference{Scheme: "https", Host: "registry.example", Repository: "m", Tag: "v1"})
	r.client.Transport = f
	return r
}

func answer(req *http.Request, status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: req}
}

func TestTemporaryFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, start := 0, time.Now()
		r := inMemory(func(req *http.Request) (*http.Response, error) {
			requests++
			switch requests {
			case 1:
				return nil, io.ErrUnexpectedEOF
			case 2:
				return answer(req, http.StatusServiceUnavailable), nil
			}
			return answer(req, http.StatusOK), nil
		})
		_, err := r.manifest(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 3*firstPause, time.Since(start))
	})
}

func TestATemporaryFailureThatStaysIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		r := inMemory(func(req *http.Request) (*http.Response, error) {
			requests++
			return answer(req, http.StatusBadGateway), nil
		})
		_, err := r.manifest(t.Context())
		require.ErrorContains(t, err, "502")
		assert.Equal(t, manifestAttempts, requests)
	})
}

func TestAPauseEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), firstPause/2)
		defer cancel()
		r := inMemory(func(req *http.Request) (*http.Response, error) { return answer(req, http.StatusBadGateway), nil })
		start := time.Now()
		_, err := r.manifest(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, firstPause/2, time.Since(start))
	})
}

func TestFinalFailuresAreNotTriedAgain(t *testing.T) {
	for _, err := range []error{
		&transfer.StatusError{StatusCode: 404}, &tls.CertificateVerificationError{Err: errors.New("expired")},
		&net.DNSError{Err: "no such host", IsNotFound: true},
		errRedirect, errManifestDigest, errManifestTooLarge, errTokenServer, errNoBearer, errRealm, errCredentials,
	} {
		assert.False(t, temporary(err), "%v", err)
	}
	assert.True(t, temporary(io.ErrUnexpectedEOF))
	assert.True(t, temporary(&net.DNSError{Err: "server misbehaving", IsTemporary: true}))
	assert.True(t, temporary(&transfer.StatusError{StatusCode: 429}))
}

func TestARedirectNeverTakesTheTokenAlong(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		assert.Empty(t, req.Header.Get("Authorization"))
		_, _ = io.WriteString(w, "{}")
	}))
	defer elsewhere.Close()
	r := remoteTo(t, ":v1", func(w http.ResponseWriter, req *http.Request) {
		assert.Equal(t, "Bearer opaque", req.Header.Get("Authorization"))
		http.Redirect(w, req, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	r.token = "opaque"
	_, err := r.manifest(t.Context())
	require.NoError(t, err)
}

func TestARedirectFromHTTPSToHTTPIsRefusedWithoutItsURL(t *testing.T) {
	r := inMemory(func(req *http.Request) (*http.Response, error) {
		assert.Equal(t, "https", req.URL.Scheme)
		resp := answer(req, http.StatusFound)
		resp.Header.Set("Location", "http://store.example/m?X-Signature=secret")
		return resp, nil
	})
	_, err := r.manifest(t.Context())
	require.ErrorIs(t, err, errRedirect)
	assert.NotContains(t, err.Error(), "secret")
}

func TestARedirectInCirclesEnds(t *testing.T) {
	requests := 0
	r := inMemory(func(req *http.Request) (*http.Response, error) {
		requests++
		resp := answer(req, http.StatusFound)
		resp.Header.Set("Location", req.URL.String())
		return resp, nil
	})
	_, err := r.manifest(t.Context())
	require.ErrorIs(t, err, errRedirect)
	assert.Less(t, requests, 10)
}
