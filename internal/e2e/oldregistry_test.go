package e2e

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/registry"
)

// newOldRegistry is distribution 2.8, which many a company still runs, as Debian packs it, with a record of
// its traffic before it.
func newOldRegistry(t testing.TB) *server {
	t.Helper()
	path := program(t, "docker-registry")
	address := freeAddress(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(file, []byte(`
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: `+filepath.Join(dir, "registry")+`}, delete: {enabled: true}}
http: {addr: "`+address+`", secret: a secret that only the tests know}
`), 0o600))
	cmd := exec.Command(path, "serve", file)
	cmd.Dir = dir
	start(t, cmd)
	awaitListener(t, address)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: address})
		r.Out.Host = r.In.Host // Location is made of it
	}, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }}
	return serve(t, proxy, false)
}

// kept leaves out the body of a POST, which distribution answers with 202 and drops. One small blob is tried
// so.
func kept(e exchange) bool { return e.kind == kindUpload && e.method != http.MethodPost }

func TestRoundTripAtDistribution2(t *testing.T) {
	s := newOldRegistry(t)
	src, dst := t.TempDir(), t.TempDir()
	m, blobs := layersOf(t, src, addBlobs(t, src, 100, mixedSizes...))
	repo := open(t, s, registry.Credentials{})
	pushModel(t, repo, src, "latest", m, blobs)
	assert.Equal(t, sumOf(blobs), sumReceived(s.seen(byLibrary, kept)), "bytes sent")
	p := newPeer(t, s, repository)
	for _, b := range blobs {
		p.requireBlob(t, src, b)
	}

	got, err := repo.Pull(t.Context(), "latest", dst, nil)
	require.NoError(t, err)
	assert.Equal(t, m, got)
	requireSame(t, src, dst, blobs)
	s.forget()
	pushModel(t, repo, src, "latest", m, blobs)
	assert.Zero(t, sumReceived(s.seen(byLibrary, kind(kindUpload))), "bytes sent again")
}

// Distribution 2 cannot go on with a session after a body was cut: it is begun anew, and nothing wrong is
// stored.
func TestCutBodiesAtDistribution2(t *testing.T) {
	s := newOldRegistry(t)
	connections := 0
	p := newResetter(t, s, func() int64 {
		if connections++; connections > 8 {
			return gib
		}
		return 10 * mib
	})
	src := t.TempDir()
	blobs := addBlobs(t, src, 300, 10, 70_000, 3*mib, 40*mib, 41*mib, 42*mib)
	opts := upload(s, src, blobs)
	opts.BaseURL, opts.RetryTimeout = p.url, retryTimeout
	push(t, opts)
	received := sumReceived(s.seen(kept))
	t.Logf("%d resets, %d bytes sent for %d", p.resets.Load(), received, sumOf(blobs))
	assert.Positive(t, p.resets.Load())
	assert.LessOrEqual(t, received, sumOf(blobs)+8*10*mib, "what was cut is sent again, and no more")
	peer := newPeer(t, s, repository)
	for _, b := range blobs {
		peer.requireBlob(t, src, b)
	}
}

// Where no connection lasts for a whole blob, each chunk has one of its own, and becomes small enough for it.
func TestU9EveryConnectionIsCutAtDistribution2(t *testing.T) {
	const limit, size = 10 * mib, 60 * mib
	s := newOldRegistry(t)
	p := newResetter(t, s, func() int64 { return limit })
	src := t.TempDir()
	blobs := addBlobs(t, src, 500, size)
	opts := upload(s, src, blobs)
	opts.BaseURL, opts.RetryTimeout = p.url, retryTimeout
	push(t, opts)
	received := sumReceived(s.seen(kept))
	t.Logf("%d resets, %d bytes sent for %d", p.resets.Load(), received, sumOf(blobs))
	assert.LessOrEqual(t, received, int64(size+3*limit), "three sessions are lost at most")
	newPeer(t, s, repository).requireBlob(t, src, blobs[0])
}

func TestBodyLimitBeforeDistribution2(t *testing.T) {
	s := newOldRegistry(t)
	limited := serve(t, bodiesUpTo(8*mib, s.next), false)
	src := t.TempDir()
	blobs := addBlobs(t, src, 400, 1000, 8*mib+1, 40*mib+7)
	push(t, upload(limited, src, blobs))
	assert.NotEmpty(t, limited.seen(method(http.MethodPatch), status(http.StatusAccepted)))
	assert.Equal(t, sumOf(blobs), sumReceived(limited.seen(byLibrary, kept)), "each byte is sent once")
	p := newPeer(t, s, repository)
	for _, b := range blobs {
		p.requireBlob(t, src, b)
	}
}
