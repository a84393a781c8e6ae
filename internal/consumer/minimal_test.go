package consumer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// Programs that import this package have unit tests with registries of ten lines: they know one path, set no
// header, do not read bodies, and say 200 where the specification says 201 or 202. These are such registries.

// minimal serves a handler on loopback, as such tests do.
func minimal(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// file puts a blob into a directory.
func file(t *testing.T, dir, text string) transfer.Blob {
	t.Helper()
	dg := digest.FromString(text)
	name := filepath.Join(dir, strings.Replace(dg.String(), ":", "-", 1))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	return transfer.Blob{Digest: dg.String(), Size: int64(len(text))}
}

// upload sends two blobs, a small one and one that is no small one, and a manifest.
func upload(t *testing.T, base string, change func(*transfer.UploadOptions)) error {
	t.Helper()
	dir := t.TempDir()
	opts := transfer.UploadOptions{
		Blobs:   []transfer.Blob{file(t, dir, "hello"), file(t, dir, strings.Repeat("hello", 1<<20))},
		BaseURL: base, SrcDir: dir, Repository: "library/model",
		ManifestRef: "latest", Manifest: []byte(`{"schemaVersion":2}`),
	}
	if change != nil {
		change(&opts)
	}
	return transfer.Upload(t.Context(), opts)
}

// noManifest has blobs uploaded and no manifest, to no repository of a name.
func noManifest(o *transfer.UploadOptions) { o.Manifest, o.ManifestRef, o.Repository = nil, "", "" }

// bodies keeps what was sent, by digest.
type bodies struct{ sync.Map }

// put keeps the body of a request.
func (b *bodies) put(r *http.Request, key string) {
	data, _ := io.ReadAll(r.Body)
	b.Store(key, data)
}

// requireBoth checks that the two blobs of upload have come.
func (b *bodies) requireBoth(t *testing.T) {
	t.Helper()
	for _, text := range []string{"hello", strings.Repeat("hello", 1<<20)} {
		data, ok := b.Load(digest.FromString(text).String())
		require.True(t, ok)
		require.True(t, bytes.Equal([]byte(text), data.([]byte)))
	}
}

func TestU28MinimalRegistryHasEverything(t *testing.T) {
	var others atomic.Int32
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			others.Add(1)
			http.NotFound(w, r)
		}
	})
	require.NoError(t, upload(t, base, noManifest))
	assert.Zero(t, others.Load(), "no POST and no PUT")
}

func TestU28MinimalRegistryHasEverythingButTheManifest(t *testing.T) {
	var manifest []byte
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusOK)
		case r.Method == http.MethodPut && r.URL.Path == "/v2/library/model/manifests/latest":
			manifest, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusCreated)
		default:
			http.NotFound(w, r)
		}
	})
	require.NoError(t, upload(t, base, nil))
	assert.Equal(t, `{"schemaVersion":2}`, string(manifest))
}

func TestU28MinimalRegistryThatHasNothingAndSaysSo(t *testing.T) {
	var got bodies
	refused := false
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
		case r.Method == http.MethodPost:
			w.Header().Set("Location", r.URL.Path+"1")
			w.WriteHeader(http.StatusAccepted)
		case strings.Contains(r.URL.Path, "/manifests/") && !refused:
			refused = true
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`)
		default:
			got.put(r, r.URL.Query().Get("digest"))
			w.WriteHeader(http.StatusCreated)
		}
	})
	require.NoError(t, upload(t, base, nil))
	got.requireBoth(t)
}

func TestU2MinimalRegistryWithRelativeLocations(t *testing.T) {
	var got bodies
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.Header().Set("Location", "session")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			got.put(r, r.URL.Query().Get("digest"))
			w.WriteHeader(http.StatusCreated)
		default:
			http.NotFound(w, r)
		}
	})
	require.NoError(t, upload(t, base, noManifest))
	got.requireBoth(t)
}

func TestU25MinimalRegistryThatReadsNoBody(t *testing.T) {
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodHead:
			http.NotFound(w, r)
		case http.MethodPost:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	})
	require.NoError(t, upload(t, base, func(o *transfer.UploadOptions) {
		o.Blobs = o.Blobs[:1] // what is small has left before the answer
	}))
}

func TestU29MinimalRegistryThatTakesPatchAlone(t *testing.T) {
	for _, status := range []int{400, 404, 405, 501} {
		var mu sync.Mutex
		sessions, got := map[string][]byte{}, &bodies{}
		base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case r.Method == http.MethodPost:
				w.Header().Set("Location", fmt.Sprintf("/session/%d", len(sessions)))
				sessions[fmt.Sprintf("/session/%d", len(sessions))] = nil
				w.WriteHeader(http.StatusAccepted)
			case r.Method == http.MethodPatch && r.Header.Get("X-Redirect-Uploads") == "1":
				data, _ := io.ReadAll(r.Body)
				sessions[r.URL.Path] = append(sessions[r.URL.Path], data...)
				w.WriteHeader(http.StatusAccepted)
			case r.Method == http.MethodPut && r.ContentLength == 0:
				got.Store(r.URL.Query().Get("digest"), sessions[r.URL.Path])
				w.WriteHeader(http.StatusCreated)
			default:
				w.WriteHeader(status)
			}
		})
		require.NoError(t, upload(t, base, noManifest), status)
		got.requireBoth(t)
	}
}

func TestU29MinimalRegistryThatRedirectsPatch(t *testing.T) {
	var stored, got bodies
	store := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		stored.put(r, r.URL.Path)
	})
	var sessions atomic.Int32
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Location", fmt.Sprintf("/session/%d", sessions.Add(1)))
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPatch:
			w.Header().Set("Docker-Upload-Location", r.URL.Path)
			http.Redirect(w, r, store+r.URL.Path, http.StatusTemporaryRedirect)
		case r.Method == http.MethodPut && r.ContentLength == 0:
			data, _ := stored.Load(r.URL.Path)
			got.Store(r.URL.Query().Get("digest"), data)
			w.WriteHeader(http.StatusCreated)
		default:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
	require.NoError(t, upload(t, base, func(o *transfer.UploadOptions) { noManifest(o); o.Token = "secret" }))
	got.requireBoth(t)
}

func TestMinimalRegistryThatTakesBlobsWithThePOST(t *testing.T) {
	var got bodies
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
			http.NotFound(w, r)
		case r.URL.Query().Get("digest") != "":
			got.put(r, r.URL.Query().Get("digest"))
			w.WriteHeader(http.StatusCreated)
		default:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		}
	})
	require.NoError(t, upload(t, base, noManifest))
	got.requireBoth(t)
}

// 200 where 201 is due confirms nothing, and HEAD is asked.
func TestU15MinimalRegistryThatSays200(t *testing.T) {
	for _, evidence := range []bool{true, false} {
		var got bodies
		base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodHead:
				data, ok := got.Load(path.Base(r.URL.Path))
				if !ok {
					http.NotFound(w, r)
				} else if evidence {
					w.Header().Set("Content-Length", fmt.Sprint(len(data.([]byte))))
				}
			case http.MethodPost:
				w.Header().Set("Location", "/upload")
				w.WriteHeader(http.StatusAccepted)
			case http.MethodPut:
				got.put(r, r.URL.Query().Get("digest"))
			}
		})
		err := upload(t, base, noManifest)
		if evidence {
			require.NoError(t, err)
			got.requireBoth(t)
		} else {
			require.ErrorIs(t, err, transfer.ErrProtocol)
		}
	}
}

func TestU15MinimalRegistryThatIsAFrontPage(t *testing.T) {
	base := minimal(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>welcome</html>")
	})
	require.ErrorIs(t, upload(t, base, nil), transfer.ErrProtocol)
}

func TestU24MinimalRegistryThatMounts(t *testing.T) {
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Query().Get("from") == "a/x..y" {
			w.WriteHeader(http.StatusCreated)
			return
		}
		http.NotFound(w, r)
	})
	require.NoError(t, upload(t, base, func(o *transfer.UploadOptions) {
		noManifest(o)
		for i := range o.Blobs {
			o.Blobs[i].From = "a/x..y:latest"
		}
	}))
}

func TestN23MinimalRegistryThatWantsAToken(t *testing.T) {
	for _, challenge := range []string{`Bearer realm="http://x.test/token",service="s"`, ""} {
		base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer fresh" {
				if challenge != "" {
					w.Header().Set("WWW-Authenticate", challenge)
				}
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
		require.NoError(t, upload(t, base, func(o *transfer.UploadOptions) {
			noManifest(o)
			o.GetToken = func(context.Context, transfer.AuthChallenge) (string, error) { return "fresh", nil }
		}))
	}
}

func TestN20MinimalRegistryThatFailsTwice(t *testing.T) {
	var got bodies
	var fails atomic.Int32
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodHead:
			http.NotFound(w, r)
		case http.MethodPost:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPut:
			if fails.Add(1) <= 2 {
				http.Error(w, "try again", http.StatusInternalServerError)
				return
			}
			got.put(r, r.URL.Query().Get("digest"))
			w.WriteHeader(http.StatusCreated)
		}
	})
	require.NoError(t, upload(t, base, noManifest))
	got.requireBoth(t)
}

// download fetches a blob of that text.
func download(t *testing.T, base, text string, change func(*transfer.DownloadOptions)) error {
	t.Helper()
	opts := transfer.DownloadOptions{
		Blobs:   []transfer.Blob{{Digest: digest.FromString(text).String(), Size: int64(len(text))}},
		BaseURL: base, DestDir: t.TempDir(),
	}
	if change != nil {
		change(&opts)
	}
	err := transfer.Download(t.Context(), opts)
	if err == nil {
		name := filepath.Join(opts.DestDir, strings.Replace(opts.Blobs[0].Digest, ":", "-", 1))
		data, readErr := os.ReadFile(name)
		require.NoError(t, readErr)
		require.True(t, text == string(data))
	}
	return err
}

func TestMinimalRegistryOfOnePath(t *testing.T) {
	const text = "hello"
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/library/_/blobs/"+digest.FromString(text).String() {
			fmt.Fprint(w, text)
			return
		}
		http.NotFound(w, r)
	})
	require.NoError(t, download(t, base, text, nil))
}

func TestN10MinimalRegistryWithoutRanges(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 40<<16) // 40 MiB
	for _, length := range []bool{true, false} {
		base := minimal(t, func(w http.ResponseWriter, _ *http.Request) {
			if length {
				w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			}
			_, _ = io.WriteString(w, text)
		})
		require.NoError(t, download(t, base, text, nil))
	}
}

func TestN30MinimalRegistryThatRedirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		store := minimal(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				w.WriteHeader(http.StatusBadRequest)
			}
			fmt.Fprint(w, "hello")
		})
		base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, store, status)
		})
		require.NoError(t, download(t, base, "hello", func(o *transfer.DownloadOptions) {
			o.Token = "secret"
		}))
	}
}

func TestN16MinimalRegistryWithAnotherBlob(t *testing.T) {
	base := minimal(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "HELLO") })
	require.ErrorIs(t, download(t, base, "hello", nil), transfer.ErrDigestMismatch)
}

func TestN21MinimalRegistryWithoutTheBlob(t *testing.T) {
	base := minimal(t, http.NotFound)
	var status *transfer.StatusError
	require.ErrorAs(t, download(t, base, "hello", nil), &status)
	assert.Equal(t, http.StatusNotFound, status.StatusCode)
}

func TestN20MinimalRegistryThatFailsOnce(t *testing.T) {
	var tries atomic.Int32
	base := minimal(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "hello")
	})
	require.NoError(t, download(t, base, "hello", nil))
}

func TestMinimalRegistryWithProgress(t *testing.T) {
	base := minimal(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	var last [2]int64
	require.NoError(t, download(t, base, "hello", func(o *transfer.DownloadOptions) {
		o.Progress = func(completed, total int64) { last = [2]int64{completed, total} }
	}))
	assert.Equal(t, [2]int64{5, 5}, last)
}
