package transfer_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
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

	// latency passes before each answer of a registry, unless a test wants more. Faked time stands still until all
	// goroutines wait, so none can make several requests while another is held up by the machine.
	latency = time.Millisecond

	// noBackoff is more time than some requests take, and less than the shortest backoff.
	noBackoff = 50 * time.Millisecond
)

// TestMain fails when a test has left a goroutine or a descriptor behind (I5).
func TestMain(m *testing.M) {
	cache, err := os.MkdirTemp("", "transfer-test")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} { // open upload sessions are remembered there
		os.Setenv(name, cache)
	}
	before := descriptors()
	code := m.Run()
	os.RemoveAll(cache)
	if leaked := waitForGoroutines(5 * time.Second); leaked != "" && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+leaked)
		code = 1
	}
	if after := descriptors(); after > before && code == 0 {
		fmt.Fprintf(os.Stderr, "descriptors left behind: %d before, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// waitForGoroutines returns the stacks of what still runs after the time.
func waitForGoroutines(patience time.Duration) string {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
		for stack := range strings.SplitSeq(b.String(), "\n\n") {
			if strings.Contains(stack, "transfer") && !strings.Contains(stack, "waitForGoroutines") || strings.Contains(stack, "net/http") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}

// descriptors counts the open files of the process; where that cannot be known it is 0.
func descriptors() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode") && !strings.Contains(target, "/proc/") {
			n++
		}
	}
	return n
}

// inBubbles runs a test for each protocol, with faked time.
func inBubbles(t *testing.T, test func(t *testing.T, mode registrytest.Mode)) {
	t.Helper()
	for _, mode := range []registrytest.Mode{registrytest.H1, registrytest.H2} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, mode) })
		})
	}
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
	cache := t.TempDir()
	for _, place := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(place, cache) // upload sessions of other tests are none of ours
	}
	n := registrytest.NewNetwork(t)
	opts.Latency = cmp.Or(opts.Latency, latency)
	reg := registrytest.New(opts)
	transport := n.Transport()
	transport.ExpectContinueTimeout = time.Second // as in http.DefaultTransport
	return &world{
		t: t, reg: reg, net: n, server: n.Serve("registry.test", reg, mode), client: &http.Client{Transport: transport},
		dir: t.TempDir(), progress: &progressLog{}, content: make(map[digest.Digest][]byte),
	}
}

// make returns a blob of that size, with content of its own, that nobody has.
func (w *world) make(size int) transfer.Blob {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(len(w.content)), byte(len(w.content) >> 8), byte(size), byte(size >> 8), byte(size >> 16)})
	_, _ = source.Read(data)
	dg := digest.FromBytes(data)
	w.content[dg] = data
	return transfer.Blob{Digest: dg.String(), Size: int64(size)}
}

// remote returns a blob that the registry has.
func (w *world) remote(size int) transfer.Blob {
	b := w.make(size)
	w.reg.Put(repository, w.content[digest.Digest(b.Digest)])
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
		Blobs: blobs, BaseURL: w.server.URL, DestDir: w.dir, Repository: repository, Client: w.client, Progress: w.progress.add,
	}
}

func (w *world) uploadOptions(blobs ...transfer.Blob) transfer.UploadOptions {
	return transfer.UploadOptions{
		Blobs: blobs, BaseURL: w.server.URL, SrcDir: w.dir, Repository: repository, Client: w.client, Progress: w.progress.add,
	}
}

// download downloads with the world's options and checks what must hold whatever comes.
func (w *world) download(opts transfer.DownloadOptions) error {
	w.t.Helper()
	err := transfer.Download(w.t.Context(), opts)
	w.checkDownload(opts, err)
	return err
}

func (w *world) checkDownload(opts transfer.DownloadOptions, err error) {
	w.t.Helper()
	w.progress.check(w.t, err)
	w.checkNames()
	for _, b := range opts.Blobs {
		if err == nil {
			w.requireBlob(b)
		}
	}
}

// checkNames checks I1: whatever has a final name is that blob.
func (w *world) checkNames() {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	require.NoError(w.t, err)
	for _, e := range entries {
		if len(e.Name()) != len("sha256-")+64 || !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(w.dir, e.Name()))
		require.NoError(w.t, err)
		assert.Equal(w.t, e.Name(), strings.Replace(digest.FromBytes(data).String(), ":", "-", 1), "a wrong file under a final name")
	}
}

func (w *world) requireBlob(b transfer.Blob) {
	w.t.Helper()
	data, err := os.ReadFile(w.path(b))
	require.NoError(w.t, err)
	require.True(w.t, bytes.Equal(w.data(b), data), "content of %s", b.Digest)
}

// requireNothing checks that nothing of a blob is left (∅ in the matrix of faults).
func (w *world) requireNothing(b transfer.Blob) {
	w.t.Helper()
	left, err := filepath.Glob(w.path(b) + "*")
	require.NoError(w.t, err)
	require.Empty(w.t, left)
}

// upload uploads with the world's options and checks what must hold whatever comes.
func (w *world) upload(opts transfer.UploadOptions) error {
	w.t.Helper()
	err := transfer.Upload(w.t.Context(), opts)
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

// progressLog checks I6 with each call.
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
