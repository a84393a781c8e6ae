package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

const mebibyte = 1 << 20

// timed downloads, and says how long that took by the clock of the bubble.
func (w *world) timed(opts transfer.DownloadOptions) (time.Duration, error) {
	w.t.Helper()
	start := time.Now()
	err := w.download(opts)
	w.reg.Wait()
	return time.Since(start), err
}

// gets is how often a blob was asked for.
func (w *world) gets(b transfer.Blob) int { return w.reg.Count("GET", b.Digest) }

// ranges are the Range headers of the requests for a blob, "" where there was none.
func (w *world) ranges(b transfer.Blob) (all []string) {
	for _, r := range w.reg.Requests() {
		if strings.Contains(r.Path, b.Digest) {
			all = append(all, r.Header.Get("Range"))
		}
	}
	return all
}

// largeSize is that of a blob of which half is kept.
const largeSize = 33 << 20

// remoteOf is remote, or remoteLarge for that size.
func (w *world) remoteOf(size int) transfer.Blob {
	if size == largeSize {
		return w.remoteLarge()
	}
	return w.remote(size)
}

// sizeName names a size for subtests.
func sizeName(size int) string { return " " + strconv.Itoa(size) }

// remoteLarge returns a blob of 33 MiB that the registry has.
func (w *world) remoteLarge() transfer.Blob {
	c := registrytest.ContentOf(largeSize, 0)
	w.content[c.Digest] = c.Data
	w.reg.Replace(repository, c.Digest, c.Data)
	return transfer.Blob{Digest: c.Digest.String(), Size: largeSize}
}

// requireOnly checks that nothing but these blobs is in the directory.
func (w *world) requireOnly(blobs ...transfer.Blob) {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	require.NoError(w.t, err)
	require.Len(w.t, entries, len(blobs))
	for _, b := range blobs {
		w.requireBlob(b)
	}
}

// port is the port of the registry, with a colon.
func (w *world) port() string {
	if strings.HasPrefix(w.server.URL, "https") {
		return ":443"
	}
	return ":80"
}

// dials is how often the registry was dialled.
func (w *world) dials() int { return w.net.Dials("registry.test" + w.port()) }

var errOurs = errors.New("the caller's own reason")

func flipBit(t *testing.T, name string, at int64) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	var one [1]byte
	_, err = f.ReadAt(one[:], at)
	require.NoError(t, err)
	one[0] ^= 1
	_, err = f.WriteAt(one[:], at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// leavePartial has a call end when it has fetched the first bytes of a blob.
func (w *world) leavePartial(b transfer.Blob, bytes int64) {
	w.t.Helper()
	w.reg.Fault("GET", b.Digest, "ok->ok->eof(4M)->404")
	opts := w.downloadOptions(b)
	opts.Concurrency = 1
	w.requireStatus(w.download(opts), b, 404)
	w.requirePartial(b)
	w.reg.Wait()
	last := w.progress.calls[len(w.progress.calls)-1]
	require.Equal(w.t, bytes, last[0])
	w.progress = &progressLog{}
}

// world is a registry, a network and a directory for one test.
type world struct {
	t        *testing.T
	reg      *registrytest.Registry
	net      *registrytest.Network
	server   *registrytest.Server
	dir      string
	client   *http.Client
	progress *progressLog
	content  map[digest.Digest][]byte // of the blobs that were made
}

// newWorld serves a registry as registry.test in memory.
func newWorld(t *testing.T, mode registrytest.Mode, opts registrytest.Options) *world {
	t.Helper()
	n := registrytest.NewNetwork(t)
	opts.Latency = cmp.Or(opts.Latency, latency)
	reg := registrytest.New(opts)
	transport := n.Transport()
	transport.ExpectContinueTimeout = time.Second // as in http.DefaultTransport
	return &world{
		t: t, reg: reg, net: n, server: n.Serve("registry.test", reg, mode),
		client: &http.Client{Transport: transport},
		dir:    t.TempDir(), progress: &progressLog{}, content: make(map[digest.Digest][]byte),
	}
}

// redirectUploads has the registry send bodies to another host.
func (w *world) redirectUploads(base string) {
	w.reg.Configure(func(o *registrytest.Options) { o.RedirectUploads = registrytest.To(base) })
}

// redirectDownloads has the registry send requests for blobs to another host.
func (w *world) redirectDownloads(base string) {
	w.reg.Configure(func(o *registrytest.Options) { o.Redirect = registrytest.To(base) })
}

// observe has look see each request before the registry answers it.
func (w *world) observe(look func()) {
	var mu sync.Mutex
	w.reg.Configure(func(o *registrytest.Options) {
		o.Before = func(http.ResponseWriter, *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			look()
			return false
		}
	})
}

// make returns a blob of that size, with content of its own, that nobody has.
func (w *world) make(size int) transfer.Blob {
	c := registrytest.ContentOf(size, uint64(1+len(w.content)))
	if size >= resumableSize {
		c = c.Numbered(resumable.Add(1))
	}
	w.content[c.Digest] = c.Data
	w.reg.Expect(c.Digest, c.Data)
	return transfer.Blob{Digest: c.Digest.String(), Size: int64(size)}
}

// resumableSize is the size from which on upload sessions are remembered. No two worlds make the same blob of
// that size, or one would continue what another has left.
const resumableSize = 32 << 20

// resumable numbers these blobs.
var resumable atomic.Uint64

// remote returns a blob that the registry has.
func (w *world) remote(size int) transfer.Blob {
	b := w.make(size)
	w.reg.Replace(repository, digest.Digest(b.Digest), w.data(b))
	return b
}

// local returns a blob that is in the directory.
func (w *world) local(size int) transfer.Blob {
	b := w.make(size)
	require.NoError(w.t, os.WriteFile(w.path(b), w.data(b), 0o644))
	return b
}

func (w *world) data(b transfer.Blob) []byte { return w.content[digest.Digest(b.Digest)] }

// path is the final name of a blob.
func (w *world) path(b transfer.Blob) string {
	return filepath.Join(w.dir, strings.Replace(b.Digest, ":", "-", 1))
}

func (w *world) downloadOptions(blobs ...transfer.Blob) transfer.DownloadOptions {
	return transfer.DownloadOptions{
		Blobs: blobs, BaseURL: w.server.URL, DestDir: w.dir, Repository: repository, Client: w.client,
		Progress: w.progress.add,
	}
}

func (w *world) uploadOptions(blobs ...transfer.Blob) transfer.UploadOptions {
	return transfer.UploadOptions{
		Blobs: blobs, BaseURL: w.server.URL, SrcDir: w.dir, Repository: repository, Client: w.client,
		Progress: w.progress.add,
	}
}

// download downloads with the world's options and checks what must hold whatever comes.
func (w *world) download(opts transfer.DownloadOptions) error {
	w.t.Helper()
	log := tracedDownload(&opts)
	err := transfer.Download(w.t.Context(), opts)
	log.check(w.t, opts.Blobs, err)
	w.checkDownload(opts, err)
	return err
}

func (w *world) checkDownload(opts transfer.DownloadOptions, err error) {
	w.t.Helper()
	w.progress.check(w.t, err)
	right := w.checkNames()
	for _, b := range opts.Blobs {
		if err == nil && !right[b.Digest] {
			w.requireBlob(b)
		}
	}
}

// checkNames checks that whatever has a final name is that blob. It returns the digests of those that this
// world has made.
func (w *world) checkNames() (right map[string]bool) {
	w.t.Helper()
	right = map[string]bool{}
	entries, err := os.ReadDir(w.dir)
	require.NoError(w.t, err)
	for _, e := range entries {
		if len(e.Name()) != len("sha256-")+64 || !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(w.dir, e.Name())
		dg := digest.Digest(strings.Replace(e.Name(), "-", ":", 1))
		if known, ok := w.content[dg]; ok && w.holds(name, known) {
			right[dg.String()] = true
			continue
		}
		data, err := os.ReadFile(name)
		require.NoError(w.t, err)
		assert.Equal(w.t, dg, digest.FromBytes(data), "a wrong file under a final name")
	}
	return right
}

func (w *world) requireBlob(b transfer.Blob) {
	w.t.Helper()
	require.True(w.t, w.holds(w.path(b), w.data(b)), "content of %s", b.Digest)
}

// holds tells whether a file has this content. It is not read as a whole, because that takes longer.
func (w *world) holds(name string, content []byte) bool {
	w.t.Helper()
	f, err := os.Open(name)
	require.NoError(w.t, err)
	defer f.Close()
	fi, err := f.Stat()
	require.NoError(w.t, err)
	if fi.Size() != int64(len(content)) {
		return false
	}
	buf := blocks.Get().(*[64 << 10]byte)
	defer blocks.Put(buf)
	for len(content) > 0 {
		n, err := io.ReadFull(f, buf[:min(len(content), len(buf))])
		require.NoError(w.t, err)
		if !bytes.Equal(content[:n], buf[:n]) {
			return false
		}
		content = content[n:]
	}
	return true
}

// blocks are what files are read into.
var blocks = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// requireNothing checks that no file of a blob is left: "nothing left" in docs/faults.md.
func (w *world) requireNothing(b transfer.Blob) {
	w.t.Helper()
	left, err := filepath.Glob(w.path(b) + "*")
	require.NoError(w.t, err)
	require.Empty(w.t, left)
}

// requirePartial checks that what came of a blob is left to go on with: "kept" in docs/faults.md.
func (w *world) requirePartial(b transfer.Blob) {
	w.t.Helper()
	left, err := filepath.Glob(w.path(b) + "*")
	require.NoError(w.t, err)
	require.Equal(w.t, []string{w.path(b) + ".journal", w.path(b) + ".partial"}, left)
}

// upload uploads with the world's options and checks what must hold whatever comes.
func (w *world) upload(opts transfer.UploadOptions) error {
	w.t.Helper()
	log := tracedUpload(&opts)
	err := transfer.Upload(w.t.Context(), opts)
	log.check(w.t, opts.Blobs, err)
	w.progress.check(w.t, err)
	for _, b := range opts.Blobs {
		if err == nil {
			data, ok := w.reg.Blob(digest.Digest(b.Digest))
			require.True(w.t, ok, "the registry lacks %s", b.Digest)
			require.True(w.t, bytes.Equal(w.data(b), data), "content of %s", b.Digest)
		}
	}
	return err
}

// requireNotUploaded checks what a permanent failure leaves: no blob, no session, no manifest.
func (w *world) requireNotUploaded(b transfer.Blob) {
	w.t.Helper()
	w.reg.Wait()
	_, there := w.reg.Blob(digest.Digest(b.Digest))
	require.False(w.t, there)
	require.Zero(w.t, w.reg.Sessions())
	require.Zero(w.t, w.reg.Count("", "/manifests/"))
}

// interrupted makes a call that is cancelled with half of a blob of 40 MiB sent.
func (w *world) interrupted(b transfer.Blob) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	opts := w.uploadOptions(b)
	opts.Progress = func(completed, _ int64) {
		if completed > 20<<20 {
			cancel()
		}
	}
	slow := w.reg.Fault("PUT", "/uploads/", "slow(10M)") // or all is there before Progress is called
	require.ErrorIs(w.t, transfer.Upload(ctx, opts), context.Canceled)
	slow.Stop()
	w.reg.Wait()
	require.Equal(w.t, 1, w.reg.Sessions(), "the session is kept")
}

// requestsOf are the methods of the requests that name a blob, in order.
func (w *world) requestsOf(b transfer.Blob) (methods []string) {
	for _, r := range w.reg.Requests() {
		target := r.Path + "?" + r.RawQuery
		if strings.Contains(target, b.Digest) || strings.Contains(target, url.QueryEscape(b.Digest)) {
			methods = append(methods, r.Method)
		}
	}
	return methods
}
