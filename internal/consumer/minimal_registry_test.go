package consumer_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/registry"
)

// The package registry is used with such registries too.
func TestMinimalRegistryWithAManifest(t *testing.T) {
	const text = "hello"
	layer := map[string]any{
		"mediaType": "application/vnd.oci.image.layer.v1.tar",
		"digest":    digest.FromString(text).String(), "size": len(text),
	}
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "config": layer, "layers": []any{layer}})
	require.NoError(t, err)
	base := minimal(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/library/model/manifests/latest":
			_, _ = w.Write(manifest)
		case "/v2/library/model/tags/list":
			fmt.Fprint(w, `{"name":"library/model","tags":["latest"]}`)
		case "/v2/library/model/blobs/" + digest.FromString(text).String():
			fmt.Fprint(w, text)
		default:
			http.NotFound(w, r)
		}
	})
	repo, err := registry.Open(registry.Options{BaseURL: base, Repository: "library/model"})
	require.NoError(t, err)
	m, err := repo.Manifest(t.Context(), "latest")
	require.NoError(t, err)
	blobs, err := m.Blobs()
	require.NoError(t, err)
	require.Len(t, blobs, 1)
	require.NoError(t, download(t, base, text, func(o *transfer.DownloadOptions) {
		o.Blobs, o.Repository = blobs, "library/model"
	}))
	tags, err := repo.Tags(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"latest"}, tags)
}

// shelf is a registry that keeps what it gets under its path, and says 200 to all that it knows.
type shelf struct {
	mu    sync.Mutex // guards the field that follows
	files map[string][]byte
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.files[r.URL.Path]
	switch {
	case r.Method == http.MethodPost:
		w.Header().Set("Location", r.URL.Path+"1")
	case r.Method == http.MethodPut && r.URL.Query().Has("digest"):
		data, _ = io.ReadAll(r.Body)
		s.files[path.Join(r.URL.Path, "../..", r.URL.Query().Get("digest"))] = data
	case r.Method == http.MethodPut:
		data, _ = io.ReadAll(r.Body)
		s.files[r.URL.Path] = data
		s.files[path.Join(r.URL.Path, "..", digest.FromBytes(data).String())] = data
	case !ok:
		http.NotFound(w, r)
	case r.Method == http.MethodDelete:
		delete(s.files, r.URL.Path)
	default:
		_, _ = w.Write(data)
	}
}

func TestMinimalRegistryThatSays200ToAll(t *testing.T) {
	s := &shelf{files: map[string][]byte{
		"/v2/": nil, "/v2/_catalog": []byte(`{"repositories":["library/model"]}`),
		"/v2/library/model/tags/list": []byte(`{"tags":["latest"]}`),
	}}
	base := minimal(t, s.ServeHTTP)
	opts := registry.Options{BaseURL: base, Repository: "library/model"}
	repo, err := registry.Open(opts)
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	ctx := t.Context()
	require.NoError(t, repo.Ping(ctx))

	dir := t.TempDir()
	blobs := []transfer.Blob{file(t, dir, "{}"), file(t, dir, "hello")}
	data := []byte(fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":2},`+
		`"layers":[{"digest":%q,"size":5}]}`, blobs[0].Digest, blobs[1].Digest))
	up := repo.UploadOptions()
	up.Blobs, up.SrcDir, up.Manifest, up.ManifestRef = blobs, dir, data, "latest"
	require.NoError(t, transfer.Upload(ctx, up))
	require.NoError(t, repo.PutManifest(ctx, "other", registry.Manifest{Data: data}))

	m, err := repo.Pull(ctx, "latest", t.TempDir(), nil)
	require.NoError(t, err)
	same, err := repo.Manifest(ctx, m.Digest)
	require.NoError(t, err)
	assert.Equal(t, data, same.Data)
	chosen, err := repo.Platform(ctx, m, "linux/amd64")
	require.NoError(t, err)
	assert.Equal(t, m, chosen)
	for ref, want := range map[string]bool{"other": true, "none": false} {
		there, err := repo.Exists(ctx, ref)
		require.NoError(t, err)
		assert.Equal(t, want, there)
	}
	r, err := repo.Blob(ctx, blobs[1])
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Equal(t, "hello", string(text))
	for tag, err := range repo.AllTags(ctx) {
		require.NoError(t, err)
		assert.Equal(t, "latest", tag)
	}
	for name, err := range registry.Repositories(ctx, opts) {
		require.NoError(t, err)
		assert.Equal(t, "library/model", name)
	}
	require.NoError(t, repo.Delete(ctx, "other"))
	there, err := repo.Exists(ctx, "other")
	require.NoError(t, err)
	assert.False(t, there)
}

// A subject gets its list, which is read again.
func TestG3MinimalRegistryWithReferrers(t *testing.T) {
	s := &shelf{files: map[string][]byte{}}
	opts := registry.Options{BaseURL: minimal(t, s.ServeHTTP), Repository: "library/model"}
	repo, err := registry.Open(opts)
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	subject := digest.FromString("subject").String()
	for i := range 2 {
		data := []byte(fmt.Sprintf(`{"schemaVersion":2,"layers":[],"artifactType":"application/x",`+
			`"annotations":{"n":"%d"},"subject":{"digest":%q,"size":1}}`, i, subject))
		require.NoError(t, repo.PutManifest(t.Context(), "", registry.Manifest{Data: data}))
	}
	list, err := repo.Referrers(t.Context(), subject, "application/x")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.NoError(t, repo.Delete(t.Context(), list[0].Digest))
	list, err = repo.Referrers(t.Context(), subject, "")
	require.NoError(t, err)
	assert.Len(t, list, 1)
	assert.Contains(t, s.files, "/v2/library/model/manifests/"+strings.Replace(subject, ":", "-", 1))
}

// All options, in both directions.
func TestMinimalRegistryWithEveryOption(t *testing.T) {
	s := &shelf{files: map[string][]byte{}}
	base, mirror := minimal(t, s.ServeHTTP), minimal(t, http.NotFound)
	src, dest := t.TempDir(), t.TempDir()
	blobs := []transfer.Blob{file(t, src, "hello"), file(t, src, "world")}
	file(t, dest, "hello")
	wrong := filepath.Join(dest, strings.Replace(blobs[0].Digest, ":", "-", 1))
	require.NoError(t, os.WriteFile(wrong, []byte("HELLO"), 0o644))
	var done atomic.Int32
	var last [2]int64
	progress := func(completed, total int64) { last = [2]int64{completed, total} }
	trace := &transfer.Trace{Done: func(transfer.DoneInfo) { done.Add(1) }}
	limiter := transfer.NewLimiter(1 << 20)
	blobs[0].From = "other"
	require.NoError(t, transfer.Upload(t.Context(), transfer.UploadOptions{
		Blobs: blobs, BaseURL: base + "/", SrcDir: src, Repository: "library/model", Concurrency: 2,
		Progress: progress, Client: &http.Client{}, Token: "secret", Logger: slog.New(slog.DiscardHandler),
		UserAgent: "test/1", BodyConcurrency: 1, StallTimeout: time.Second, RetryTimeout: time.Second,
		MaxBytesPerSecond: 1 << 20, Trace: trace, Limiter: limiter,
		Manifest: []byte(`{"schemaVersion":2}`), ManifestRef: "latest",
	}))
	assert.Equal(t, [2]int64{10, 10}, last)
	require.NoError(t, transfer.Download(t.Context(), transfer.DownloadOptions{
		Blobs: blobs, BaseURL: base + "/", DestDir: dest, Repository: "library/model", Concurrency: 2,
		Progress: progress, Client: &http.Client{}, Token: "secret", Logger: slog.New(slog.DiscardHandler),
		UserAgent: "test/1", BodyConcurrency: 1, StallTimeout: time.Second, RetryTimeout: time.Second,
		MaxBytesPerSecond: 1 << 20, Trace: trace, Limiter: limiter,
		Verify: true, Mirrors: []string{mirror}, Reuse: []string{filepath.Join(src, "none")},
	}))
	assert.Equal(t, [2]int64{10, 10}, last)
	assert.EqualValues(t, 4, done.Load())
	data, err := os.ReadFile(wrong)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(data))
}
