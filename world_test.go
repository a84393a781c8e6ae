package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

const (
	repository = "library/model"

	// latency passes before each answer of a registry, unless a test wants more. Faked time stands still
	// until all goroutines wait, so none can make several requests while another is held up by the
	// machine.
	latency = time.Millisecond

	// noBackoff is more time than some requests take, and less than the shortest backoff.
	noBackoff = 50 * time.Millisecond
)

const mebibyte = 1 << 20

// TestMain fails when a test has left a goroutine or a descriptor behind.
func TestMain(m *testing.M) { registrytest.Main(m, registrytest.NoDescriptorLeft()) }

// inBubbles runs a test for each protocol at the same time, with faked time.
func inBubbles(t *testing.T, test func(t *testing.T, mode registrytest.Mode)) {
	t.Helper()
	for _, mode := range []registrytest.Mode{registrytest.H1, registrytest.H2} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, mode) })
		})
	}
}

// eachInBubbles runs a test for each case and protocol, with faked time. Cases have names.
func eachInBubbles[C any](
	t *testing.T, cases map[string]C, test func(t *testing.T, mode registrytest.Mode, name string, c C),
) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) { test(t, mode, name, c) })
		})
	}
}

// inBubble runs a subtest with faked time.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// named returns cases that are their own names.
var named = registrytest.Named[string]

// sizeName names a size for subtests.
func sizeName(size int) string { return " " + strconv.Itoa(size) }

// withCancelAfter returns a context that is cancelled with errOurs after a while.
func withCancelAfter(t *testing.T, wait time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(wait, func() { cancel(errOurs) })
	return ctx, func() { timer.Stop(); cancel(nil) }
}

var errOurs = errors.New("the caller's own reason")

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

// make returns a blob of that size, with content of its own, that nobody has.
func (w *world) make(size int) transfer.Blob { return w.keep(w.fresh(size)) }

// fresh returns content that no other blob of the world has.
func (w *world) fresh(size int) registrytest.Content {
	return registrytest.ContentOf(size, uint64(1+len(w.content)))
}

// keep has the world know a blob.
func (w *world) keep(c registrytest.Content) transfer.Blob {
	w.content[c.Digest] = c.Data
	w.reg.Expect(c.Digest, c.Data)
	return transfer.Blob{Digest: c.Digest.String(), Size: int64(len(c.Data))}
}

// resumableSize is the size from which on upload sessions are remembered. No two worlds have the same file of
// that size, or one would continue what another has left.
const resumableSize = 8 << 20

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
	c := w.fresh(size)
	if size >= resumableSize {
		c = c.Numbered(resumable.Add(1))
	}
	b := w.keep(c)
	require.NoError(w.t, os.WriteFile(w.path(b), w.data(b), 0o644))
	return b
}

// largeSize is that of a blob of which half is kept.
const largeSize = 33 << 20

// remoteLarge returns a blob of 33 MiB that the registry has.
func (w *world) remoteLarge() transfer.Blob {
	c := registrytest.ContentOf(largeSize, 0)
	w.content[c.Digest] = c.Data
	w.reg.Replace(repository, c.Digest, c.Data)
	return transfer.Blob{Digest: c.Digest.String(), Size: largeSize}
}

// remoteOf is remote, or remoteLarge for that size.
func (w *world) remoteOf(size int) transfer.Blob {
	if size == largeSize {
		return w.remoteLarge()
	}
	return w.remote(size)
}

func (w *world) data(b transfer.Blob) []byte { return w.content[digest.Digest(b.Digest)] }

// path is the final name of a blob.
func (w *world) path(b transfer.Blob) string {
	return filepath.Join(w.dir, strings.Replace(b.Digest, ":", "-", 1))
}

// port is the port of the registry, with a colon.
func (w *world) port() string {
	if strings.HasPrefix(w.server.URL, "https") {
		return ":443"
	}
	return ":80"
}

// host is the registry's, as a trace is told it.
func (w *world) host() string { return "registry.test" }

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

func (w *world) downloadOptions(blobs ...transfer.Blob) transfer.DownloadOptions {
	return transfer.DownloadOptions{
		Blobs: blobs, BaseURL: w.server.URL, DestDir: w.dir, Repository: repository, Client: w.client,
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

// timed downloads, and says how long that took by the clock of the bubble.
func (w *world) timed(opts transfer.DownloadOptions) (time.Duration, error) {
	w.t.Helper()
	start := time.Now()
	err := w.download(opts)
	w.reg.Wait()
	return time.Since(start), err
}

// hold has another call download with the options until the context ends with errOurs. It returns when that
// call has the claim of its blobs; wait returns when the call has ended.
func (w *world) hold(ctx context.Context, opts transfer.DownloadOptions) (wait func()) {
	opts.Progress = nil
	var call sync.WaitGroup
	call.Go(func() { assert.ErrorIs(w.t, transfer.Download(ctx, opts), errOurs) })
	time.Sleep(time.Second) // of the bubble's clock
	return call.Wait
}

// leavePartial has a call end when it has fetched the first bytes of a blob.
func (w *world) leavePartial(b transfer.Blob, bytes int64) {
	w.t.Helper()
	w.reg.Fault("GET", b.Digest, "ok->eof(12M)->404")
	opts := w.downloadOptions(b)
	opts.Concurrency = 1
	w.requireStatus(w.download(opts), b, 404)
	w.requirePartial(b)
	w.reg.Wait()
	last := w.progress.calls[len(w.progress.calls)-1]
	require.Equal(w.t, bytes, last[0])
	w.progress = &progressLog{}
}

func (w *world) uploadOptions(blobs ...transfer.Blob) transfer.UploadOptions {
	return transfer.UploadOptions{
		Blobs: blobs, BaseURL: w.server.URL, SrcDir: w.dir, Repository: repository, Client: w.client,
		Progress: w.progress.add,
	}
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

// interrupted makes a call that is cancelled with half of a blob sent.
func (w *world) interrupted(b transfer.Blob) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	opts := w.uploadOptions(b)
	opts.Progress = func(completed, _ int64) {
		if completed > b.Size/2 {
			cancel()
		}
	}
	slow := w.reg.Fault("PUT", "/uploads/", "slow(10M)") // or all is there before Progress is called
	require.ErrorIs(w.t, transfer.Upload(ctx, opts), context.Canceled)
	slow.Stop()
	w.reg.Wait()
	require.Equal(w.t, 1, w.reg.Sessions(), "the session is kept")
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

// dials is how often the registry was dialled.
func (w *world) dials() int { return w.net.Dials("registry.test" + w.port()) }

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

// requireNotUploaded checks what a permanent failure leaves: no blob, no session, no manifest.
func (w *world) requireNotUploaded(b transfer.Blob) {
	w.t.Helper()
	w.reg.Wait()
	_, there := w.reg.Blob(digest.Digest(b.Digest))
	require.False(w.t, there)
	require.Zero(w.t, w.reg.Sessions())
	require.Zero(w.t, w.reg.Count("", "/manifests/"))
}

// requireStatus checks an error that is a status of the registry.
func (w *world) requireStatus(err error, b transfer.Blob, code int) *transfer.StatusError {
	w.t.Helper()
	var status *transfer.StatusError
	require.ErrorAs(w.t, err, &status)
	assert.Equal(w.t, code, status.StatusCode)
	assert.Equal(w.t, "GET", status.Method)
	assert.Contains(w.t, status.URL, b.Digest)
	assert.Contains(w.t, err.Error(), b.Digest)
	return status
}

// requireExhausted checks an error that ended a blob after many attempts.
func (w *world) requireExhausted(err error, b transfer.Blob, cause error) {
	w.t.Helper()
	require.ErrorIs(w.t, err, transfer.ErrRetriesExhausted)
	require.ErrorIs(w.t, err, cause)
	var blob *transfer.BlobError
	require.ErrorAs(w.t, err, &blob)
	assert.Equal(w.t, b.Digest, blob.Digest)
	assert.Equal(w.t, "download", blob.Op)
	assert.Greater(w.t, blob.Attempts, 3)
	assert.Contains(w.t, err.Error(), b.Digest)
	assert.Contains(w.t, err.Error(), fmt.Sprintf("%d attempts", blob.Attempts))
}

func requireStatus(t *testing.T, err error, code int) *transfer.StatusError {
	t.Helper()
	var status *transfer.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, code, status.StatusCode)
	return status
}

// requireBlobError checks that an error names the blob and what was being done.
func requireBlobError(t *testing.T, err error, b transfer.Blob, op string) *transfer.BlobError {
	t.Helper()
	var blob *transfer.BlobError
	require.ErrorAs(t, err, &blob)
	require.Equal(t, b.Digest, blob.Digest)
	require.Equal(t, op, blob.Op)
	require.Contains(t, err.Error(), b.Digest)
	return blob
}

func requireNoSecrets(t *testing.T, told string) {
	t.Helper()
	for _, secret := range secrets {
		require.NotContains(t, told, secret)
	}
}

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

// progressLog checks with each call of Progress what holds for all of them.
type progressLog struct {
	mu    sync.Mutex
	calls [][2]int64
	wrong string
	falls int64 // bytes by which completed went backwards
}

func (p *progressLog) add(completed, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if completed < 0 || completed > total {
		p.wrong = fmt.Sprintf("completed %d of %d", completed, total)
	}
	if n := len(p.calls); n > 0 && p.calls[n-1][1] == total {
		p.falls += max(0, p.calls[n-1][0]-completed)
	}
	p.calls = append(p.calls, [2]int64{completed, total})
}

func (p *progressLog) first() int64 { return p.calls[0][0] }

func (p *progressLog) check(t *testing.T, err error) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Empty(t, p.wrong)
	if err == nil && len(p.calls) > 0 {
		last := p.calls[len(p.calls)-1]
		assert.Equal(t, last[1], last[0], "completed and total of the last call")
	}
}

// logBook keeps all that was logged.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// traceLog records what a Trace is told.
type traceLog struct {
	mu      sync.Mutex // guards the fields that follow
	order   map[string][]string
	present map[string]transfer.Where
	started map[string][]transfer.StartInfo
	moving  map[string]int64
	retried map[string][]transfer.RetryInfo
	skipped []transfer.MirrorInfo
	done    map[string]transfer.DoneInfo
	failed  map[string]error
	over    bool // the call has returned
	late    int  // calls after that
}

func newTraceLog() (*traceLog, *transfer.Trace) {
	l := &traceLog{
		order: map[string][]string{}, present: map[string]transfer.Where{}, moving: map[string]int64{},
		started: map[string][]transfer.StartInfo{}, retried: map[string][]transfer.RetryInfo{},
		done: map[string]transfer.DoneInfo{}, failed: map[string]error{},
	}
	return l, &transfer.Trace{
		Present: func(i transfer.PresentInfo) {
			l.note(i.Blob.Digest, "Present", func() { l.present[i.Blob.Digest] = i.Where })
		},
		Waiting: func(i transfer.WaitInfo) { l.note(i.Blob.Digest, "Waiting", func() {}) },
		Started: func(i transfer.StartInfo) {
			l.note(i.Blob.Digest, "Started", func() {
				l.started[i.Blob.Digest] = append(l.started[i.Blob.Digest], i)
			})
		},
		Moving: func(i transfer.MoveInfo) {
			l.note(i.Blob.Digest, "Moving", func() { l.moving[i.Blob.Digest] = i.Completed })
		},
		Retried: func(i transfer.RetryInfo) {
			l.note(i.Blob.Digest, "Retried", func() {
				l.retried[i.Blob.Digest] = append(l.retried[i.Blob.Digest], i)
			})
		},
		Skipped: func(i transfer.MirrorInfo) {
			l.note("", "Skipped", func() { l.skipped = append(l.skipped, i) })
		},
		Done: func(i transfer.DoneInfo) {
			l.note(i.Blob.Digest, "Done", func() { l.done[i.Blob.Digest] = i })
		},
		Failed: func(i transfer.FailInfo) {
			l.note(i.Blob.Digest, "Failed", func() { l.failed[i.Blob.Digest] = i.Err })
		},
	}
}

// note records one call. The digest is empty where it is about no blob.
func (l *traceLog) note(dg, event string, record func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		l.late++
		return
	}
	if dg != "" {
		l.order[dg] = append(l.order[dg], event)
	}
	record()
}

// tracedDownload has a download be traced, unless a test does.
func tracedDownload(opts *transfer.DownloadOptions) *traceLog { return tracedTo(&opts.Trace) }

// tracedUpload has an upload be traced, unless a test does.
func tracedUpload(opts *transfer.UploadOptions) *traceLog { return tracedTo(&opts.Trace) }

func tracedTo(trace **transfer.Trace) *traceLog {
	if *trace != nil {
		return nil
	}
	var l *traceLog
	l, *trace = newTraceLog()
	return l
}

// check checks what holds whatever happens, after a call at these blobs has returned err.
func (l *traceLog) check(t *testing.T, blobs []transfer.Blob, err error) {
	t.Helper()
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	var wrong *transfer.BlobError
	if errors.As(err, &wrong) {
		assert.Contains(t, l.failed, wrong.Digest, "the blob that ended the call: %v", err)
	}
	for _, b := range blobs {
		order := l.order[b.Digest]
		l.checkOrder(t, order, err)
		if done, ok := l.done[b.Digest]; ok {
			l.checkDone(t, done)
		}
		for _, s := range l.started[b.Digest] {
			assert.NotEmpty(t, s.Host)
			assert.True(t, s.Offset >= 0 && s.Size >= 0 && s.Offset+s.Size <= b.Size, "%+v", s)
		}
		for _, r := range l.retried[b.Digest] {
			assert.Error(t, r.Err)
			assert.GreaterOrEqual(t, r.Wait, time.Duration(0))
		}
		assert.LessOrEqual(t, l.moving[b.Digest], b.Size)
	}
}

// checkOrder checks the events of one blob.
func (l *traceLog) checkOrder(t *testing.T, order []string, err error) {
	t.Helper()
	ends := 0
	for i, event := range order {
		if !isEnd(event) {
			continue
		}
		// Begun again, because the registry lacks what it has said it has.
		again := i+1 < len(order) && order[i+1] == "Retried" && event != "Failed"
		if !again {
			ends++
			assert.Equal(t, len(order)-1, i, "%s is not the last of %v", event, order)
		}
	}
	switch {
	case err == nil:
		assert.Equal(t, 1, ends, "Present or Done, once: %v", order)
		assert.NotContains(t, order, "Failed")
	case len(order) > 0:
		assert.Equal(t, 1, ends, "Present, Done or Failed, once: %v", order)
	}
	assert.LessOrEqual(t, count(order, "Waiting"), 1)
	if slices.Contains(order, "Present") && !slices.Contains(order, "Done") && err == nil {
		assert.NotContains(t, order, "Started")
	}
}

// checkDone checks the figures of a blob that was moved.
func (l *traceLog) checkDone(t *testing.T, d transfer.DoneInfo) {
	t.Helper()
	assert.GreaterOrEqual(t, d.Moved+d.Reused, d.Blob.Size, "%+v", d)
	assert.LessOrEqual(t, d.Reused, d.Blob.Size, "%+v", d)
	assert.GreaterOrEqual(t, d.Duration, time.Duration(0))
	assert.Equal(t, d.Moved > 0, d.Host != "", "%+v", d)
	if d.Moved > 0 {
		assert.NotEmpty(t, l.started[d.Blob.Digest])
	}
}

// isEnd tells the events that nothing follows.
func isEnd(event string) bool { return event == "Present" || event == "Done" || event == "Failed" }

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}
