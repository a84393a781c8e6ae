package model_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// source is a registry with a model of two blobs and a signature of it.
func source(t *testing.T) (host string, dg digest.Digest) {
	t.Helper()
	_, host = serve(t, registrytest.Options{})
	repo, err := model.Open(parse(t, host+"/me/model"), model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	dir := t.TempDir()
	var blobs []transfer.Blob
	for _, content := range []string{"{}", strings.Repeat("weights ", 100_000)} {
		b := transfer.Blob{Digest: digest.FromString(content).String(), Size: int64(len(content))}
		name := strings.Replace(b.Digest, ":", "-", 1)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		blobs = append(blobs, b)
	}
	up := repo.UploadOptions()
	up.SrcDir, up.Blobs = dir, blobs
	require.NoError(t, transfer.Upload(t.Context(), up))
	text := manifestText(blobs, "")
	require.NoError(t, repo.PutManifest(t.Context(), "v1", registry.NewManifest([]byte(text), "")))
	dg = digest.FromString(text)
	signature := manifestText(blobs[:1], `"subject":{"mediaType":"`+registry.MediaTypeManifest+`","digest":"`+
		dg.String()+`","size":1},`)
	require.NoError(t, repo.PutManifest(t.Context(), "", registry.NewManifest([]byte(signature), "")))
	return host, dg
}

func manifestText(blobs []transfer.Blob, more string) string {
	descriptor := func(b transfer.Blob) string {
		return `{"mediaType":"x/y","digest":"` + b.Digest + `","size":` + strconv.FormatInt(b.Size, 10) + `}`
	}
	var layers []string
	for _, b := range blobs[1:] {
		layers = append(layers, descriptor(b))
	}
	return `{"schemaVersion":2,"mediaType":"` + registry.MediaTypeManifest + `",` + more + `"config":` +
		descriptor(blobs[0]) + `,"layers":[` + strings.Join(layers, ",") + `]}`
}

// With the zero options all comes along, and a second copy moves nothing.
func TestCopyTakesAModelWithWhatRefersToIt(t *testing.T) {
	from, dg := source(t)
	_, to := serve(t, registrytest.Options{})
	dir, cache := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("DOCKER_CONFIG", dir)
	var last, total int64
	opts := model.CopyOptions{}
	opts.Progress = func(completed, all int64) { last, total = completed, all }
	var done []string
	opts.Trace = &transfer.Trace{Done: func(i transfer.DoneInfo) { done = append(done, i.Blob.Digest) }}
	opts.BodyConcurrency = 1
	r, err := model.Copy(t.Context(), from+"/me/model:v1", to+"/you/model:v2", opts)
	require.NoError(t, err)
	assert.Equal(t, dg.String(), r.Digest)
	assert.Equal(t, to+"/you/model:v2", r.Reference.String())
	assert.Equal(t, 1, r.Referrers)
	assert.Len(t, r.Files, 2)
	assert.Len(t, r.Missing, 2)
	assert.EqualValues(t, 800_002, r.Bytes)
	assert.Equal(t, r.Bytes, r.Moved)
	assert.Equal(t, []int64{r.Bytes, r.Bytes}, []int64{last, total})
	assert.Len(t, done, 2)
	left, err := os.ReadDir(cache)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing went through the disk")

	alone := model.CopyOptions{NoReferrers: true}
	r, err = model.Copy(t.Context(), from+"/me/model:v1", to+"/you/model:v2", alone)
	require.NoError(t, err)
	assert.Zero(t, r.Moved)
	assert.Zero(t, r.Referrers)
	assert.Equal(t, r.Bytes, r.There)

	repo, err := model.Open(parse(t, to+"/you/model"), model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	referrers, err := repo.Referrers(t.Context(), dg.String(), "")
	require.NoError(t, err)
	assert.Len(t, referrers, 1)
	body, err := repo.Blob(t.Context(), blobOf(r.Files[1]))
	require.NoError(t, err)
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	require.NoError(t, err)
	assert.EqualValues(t, 800_000, n)
}

func blobOf(f model.File) transfer.Blob { return transfer.Blob{Digest: f.Digest, Size: f.Size} }

// The second of two copies that go through one directory waits for the first, and finds all done.
func TestTwoCopiesDoNotRemoveEachOthersDirectory(t *testing.T) {
	from, _ := source(t)
	reg := registrytest.New(registrytest.Options{})
	sending, waited := make(chan struct{}), make(chan struct{})
	var once sync.Once
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isBlob := strings.Contains(r.URL.Path, "/blobs/")
		if isBlob && r.Method == http.MethodPut && r.ContentLength > 0 { // as it comes
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		if r.Method == http.MethodPatch {
			once.Do(func() { close(sending) })
			<-waited
		}
		reg.ServeHTTP(w, r)
	}))
	defer target.Close()
	opts := model.CopyOptions{Dir: t.TempDir()}
	run := func(opts model.CopyOptions) model.Result {
		r, err := model.Copy(t.Context(), from+"/me/model:v1", target.URL+"/you/model:v1", opts)
		assert.NoError(t, err)
		return r
	}
	var first model.Result
	var running sync.WaitGroup
	running.Go(func() { first = run(opts) })
	<-sending
	told := sync.OnceFunc(func() { close(waited) })
	second := opts
	second.Waiting = func(string) { told() }
	time.AfterFunc(10*time.Second, told) // else it would never end where nobody waits
	r := run(second)
	running.Wait()
	assert.Equal(t, first.Bytes, first.Moved)
	assert.Equal(t, r.Bytes, r.There)
	assert.Zero(t, r.Moved)
	left, err := os.ReadDir(opts.Dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestCopyWithDryRunCopiesNothing(t *testing.T) {
	from, _ := source(t)
	_, to := serve(t, registrytest.Options{})
	dry := model.CopyOptions{DryRun: true}
	r, err := model.Copy(t.Context(), from+"/me/model:v1", to+"/you/model:v1", dry)
	require.NoError(t, err)
	assert.Len(t, r.Missing, 2)
	assert.Zero(t, r.Moved)
	repo, err := model.Open(parse(t, to+"/you/model"), model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	there, err := repo.Exists(t.Context(), "v1")
	require.NoError(t, err)
	assert.False(t, there)
}

// Errors say which of the two references they are about.
func TestAnErrorOfACopySaysWhichSideItIsOf(t *testing.T) {
	from, _ := source(t)
	_, to := serve(t, registrytest.Options{})
	readOnly := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer readOnly.Close()
	for name, test := range map[string]struct {
		from, to, about string
		is              error
	}{
		"the source has no such model": {from + "/me/model:none", to + "/you/model:v1", from, nil},
		"the target takes nothing": {
			from + "/me/model:v1", readOnly.URL + "/you/model:v1", readOnly.URL[7:], registry.ErrDenied,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := model.Copy(t.Context(), test.from, test.to, model.CopyOptions{})
			var side *model.SideError
			require.ErrorAs(t, err, &side)
			assert.Equal(t, test.about, side.Reference.Registry())
			var status *transfer.StatusError
			require.ErrorAs(t, err, &status)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
		})
	}
	_, err := model.Copy(t.Context(), "registry.example/..", to+"/a", model.CopyOptions{})
	require.ErrorIs(t, err, transfer.ErrInvalidOption)
}

// A target that says that it has what it has not is sent it when it refuses the manifest: once, through the
// disk.
func TestU28CopyToATargetThatClaimsBlobs(t *testing.T) {
	for name, fails := range map[string]bool{"believed in vain": false, "refused for ever": true} {
		t.Run(name, func(t *testing.T) {
			from, dg := source(t)
			var puts atomic.Int32
			reg, to := serve(t, registrytest.Options{CheckManifest: true, Before: claimsBlobs(fails, &puts)})
			opts := model.CopyOptions{Dir: t.TempDir()}
			r, err := model.Copy(t.Context(), from+"/me/model:v1", to+"/you/model:v1", opts)
			left, readErr := os.ReadDir(opts.Dir)
			require.NoError(t, readErr)
			if fails {
				var refused *transfer.StatusError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, http.StatusBadRequest, refused.StatusCode)
				assert.EqualValues(t, 2, puts.Load())
				return
			}
			require.NoError(t, err)
			assert.Empty(t, left)
			assert.EqualValues(t, 800_002, r.Moved)
			assert.Zero(t, r.There)
			_, ok := reg.Manifest("you/model", dg.String())
			assert.True(t, ok)
		})
	}
}

// The same of a push, of one manifest and of an index.
func TestU28PushToARegistryThatClaimsBlobs(t *testing.T) {
	for _, index := range []bool{false, true} {
		t.Run(fmt.Sprint(index), func(t *testing.T) {
			reg, host := serve(t, registrytest.Options{
				CheckManifest: true, Before: claimsBlobs(false, new(atomic.Int32)),
			})
			dir := layout(t, index)
			r, err := model.Push(t.Context(), []string{dir}, host+"/you/model:v1", model.PushOptions{})
			require.NoError(t, err)
			assert.Equal(t, r.Bytes, r.Moved)
			assert.Zero(t, r.There)
			_, ok := reg.Manifest("you/model", "v1")
			assert.True(t, ok)
		})
	}
}

// layout is an OCI layout of a model, or of an index that lists it.
func layout(t *testing.T, index bool) (dir string) {
	t.Helper()
	from, dg := source(t)
	repo, err := model.Open(parse(t, from+"/me/model"), model.Options{})
	require.NoError(t, err)
	defer repo.CloseIdleConnections()
	if index {
		text := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, registry.MediaTypeIndex,
			fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, registry.MediaTypeManifest, dg,
				sizeOf(t, repo, dg.String())))
		require.NoError(t, repo.PutManifest(t.Context(), "v1", registry.NewManifest([]byte(text), "")))
	}
	dir = filepath.Join(t.TempDir(), "layout")
	_, err = model.Pull(t.Context(), from+"/me/model:v1", dir, model.PullOptions{Form: model.OCILayout})
	require.NoError(t, err)
	return dir
}

func sizeOf(t *testing.T, repo *registry.Repository, version string) int {
	t.Helper()
	m, err := repo.Manifest(t.Context(), version)
	require.NoError(t, err)
	return len(m.Data)
}

// claimsBlobs says that all blobs are there. It may also refuse each manifest for blobs that are not.
func claimsBlobs(refuses bool, puts *atomic.Int32) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/"):
			w.Header().Set("Docker-Content-Digest", path.Base(r.URL.Path))
			return true
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && refuses:
			puts.Add(1)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`))
			return true
		}
		return false
	}
}

// noted notes the requests that it passes on.
type noted struct {
	mu       sync.Mutex // guards the field that follows
	requests []*http.Request
}

func (n *noted) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.requests = append(n.requests, r)
	n.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// The Timeout of a client would end a large blob in its middle: only its transport counts, as elsewhere.
func TestAllRequestsOfACopyAreOfItsOptions(t *testing.T) {
	from, _ := source(t)
	_, to := serve(t, registrytest.Options{})
	seen := &noted{}
	_, err := model.Copy(t.Context(), from+"/me/model:v1", to+"/you/model:v1", model.CopyOptions{
		Options: model.Options{
			Client: &http.Client{Transport: seen, Timeout: time.Hour}, UserAgent: "program/1",
		},
	})
	require.NoError(t, err)
	puts := 0
	for _, r := range seen.requests {
		assert.Equal(t, "program/1", r.UserAgent(), "%s %s", r.Method, r.URL.Path)
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/blobs/") {
			continue
		}
		puts++
		_, bounded := r.Context().Deadline()
		assert.False(t, bounded, r.URL.Path)
	}
	assert.Equal(t, 2, puts)
}
