package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// someDigest is that of nothing.
const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// proberOf returns a prober of the repository you/model of a registry.
func proberOf(t *testing.T, answer http.HandlerFunc) *prober {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	r, err := ref.Parse(s.URL + "/you/model:v1")
	require.NoError(t, err)
	o := Options{Credentials: func(context.Context, ref.Reference) (registry.Credentials, error) {
		return registry.Credentials{Username: "me", Password: "hunter2"}, nil
	}}
	repo, err := Open(r, o)
	require.NoError(t, err)
	t.Cleanup(repo.CloseIdleConnections)
	return newProber(Options{}, r, repo)
}

func TestBlobsAreMountedOrTheUploadIsEnded(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	p := proberOf(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.URL.Path)
		if r.Method == http.MethodPost {
			assert.Equal(t, "me/model", r.URL.Query().Get("from"))
		}
		switch {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(r.URL.Query().Get("mount"), "sha256:e3b0"):
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "/v2/you/model/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		}
	})
	other := "sha256:" + strings.Repeat("0", 64)
	there, err := p.all(t.Context(), []transfer.Blob{{Digest: someDigest}, {Digest: other}}, "me/model")
	require.NoError(t, err)
	assert.Equal(t, map[string]bool{someDigest: true}, there)
	assert.Contains(t, seen, "DELETE /v2/you/model/blobs/uploads/1")
}

func TestAProbeLogsInAndKeepsItsCredentialsFromRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect is an answer")
	}))
	defer elsewhere.Close()
	p := proberOf(t, func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	there, err := p.all(t.Context(), []transfer.Blob{{Digest: someDigest}}, "")
	require.NoError(t, err)
	assert.True(t, there[someDigest])
}

// A4: a token is whatever may stand in a header, and bears no scheme but Basic.
func TestA4AProbeSendsATokenAsItIs(t *testing.T) {
	const token = "a token, of several words"
	p := proberOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Docker-Content-Digest", someDigest)
	})
	p.getToken = func(context.Context, transfer.AuthChallenge) (string, error) { return token, nil }
	there, err := p.all(t.Context(), []transfer.Blob{{Digest: someDigest}}, "")
	require.NoError(t, err)
	assert.True(t, there[someDigest])
}

// A5: of several challenges, the one that can be answered is.
func TestA5AProbeAnswersTheUsableChallenge(t *testing.T) {
	p := proberOf(t, func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="Registry", Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Docker-Content-Digest", someDigest)
	})
	there, err := p.all(t.Context(), []transfer.Blob{{Digest: someDigest}}, "")
	require.NoError(t, err)
	assert.True(t, there[someDigest])
}

// A6: what the credentials may not do is no wrong password.
func TestA6AProbeTellsWhatIsDenied(t *testing.T) {
	for header, want := range map[string]error{
		`Basic realm="x",error="insufficient_scope"`: registry.ErrDenied,
		`Basic realm="x"`: registry.ErrUnauthorized,
	} {
		p := proberOf(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", header)
			w.WriteHeader(http.StatusUnauthorized)
		})
		err := p.mayPush(t.Context())
		for _, e := range []error{registry.ErrDenied, registry.ErrUnauthorized} {
			assert.Equal(t, e == want, errors.Is(err, e), header)
		}
	}
}

func TestABlobThatCannotBeAskedForIsNotThere(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"broken": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
		},
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		there, err := proberOf(t, answer).all(t.Context(), []transfer.Blob{{Digest: someDigest}}, "me/model")
		require.NoError(t, err, name)
		assert.Empty(t, there, name)
	}
}

// As the library has it: some registries have a blob of another length, and anything may have nothing.
func TestABlobIsThereWithItsLengthOrItsDigest(t *testing.T) {
	some := "sha256:" + strings.Repeat("0", 64)
	blob, nothing := transfer.Blob{Digest: some, Size: 5}, transfer.Blob{Digest: someDigest}
	length := func(n string) http.Header { return http.Header{"Content-Length": {n}} }
	named := func(dg string) http.Header { return http.Header{"Docker-Content-Digest": {dg}} }
	wrong := length("4")
	maps.Copy(wrong, named(some))
	for name, test := range map[string]struct {
		blob   transfer.Blob
		header http.Header
		want   bool
	}{
		"its length":                 {blob, length("5"), true},
		"another":                    {blob, length("4"), false},
		"none":                       {blob, nil, false},
		"its digest":                 {blob, named(some), true},
		"another length, its digest": {blob, wrong, false},
		"nothing":                    {nothing, length("0"), false},
		"nothing, named":             {nothing, named(someDigest), true},
	} {
		t.Run(name, func(t *testing.T) {
			p := proberOf(t, func(w http.ResponseWriter, _ *http.Request) {
				maps.Copy(w.Header(), test.header)
			})
			there, err := p.all(t.Context(), []transfer.Blob{test.blob}, "")
			require.NoError(t, err)
			assert.Equal(t, test.want, there[test.blob.Digest])
		})
	}
}

func TestBlobsHaveTheNamesOfTheirFiles(t *testing.T) {
	const manifest = `{"schemaVersion":2,"layers":[{"mediaType":"x/y","digest":"` + someDigest + `","size":0,
		"annotations":{"org.opencontainers.image.title":"a"}}]}`
	manifests := []registry.Manifest{
		registry.NewManifest([]byte(manifest), ""), registry.NewManifest([]byte("{"), ""),
	}
	assert.Equal(t, map[string]string{someDigest: "a"}, namesOf(manifests))
}

func TestH10AProbeDoesNotWaitForASilentTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		client := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		})}
		p := &prober{
			client: client, base: "http://registry.example/v2/a/blobs/", patience: defaultPatience,
			atOnce: probesAtOnce,
		}
		blobs := make([]transfer.Blob, 1000)
		for i := range blobs {
			blobs[i].Digest = fmt.Sprintf("sha256:%064d", i)
		}
		begin := time.Now()
		there, err := p.all(t.Context(), blobs, "me/model")
		require.NoError(t, err)
		assert.Empty(t, there)
		assert.Equal(t, defaultPatience, time.Since(begin))
		assert.LessOrEqual(t, asked.Load(), int32(probesAtOnce))
		assert.NoError(t, p.mayPush(t.Context()), "it shows when something is sent")
	})
}
