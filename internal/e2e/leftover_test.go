package e2e

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

// sessions are the files of the upload sessions that the registry knows. The directory of one
// that was deleted is no measure: distribution puts the state of its hash back into it.
func (d *distribution) sessions(t testing.TB) []string {
	t.Helper()
	root, ok := d.Storage["filesystem"]["rootdirectory"].(string)
	require.True(t, ok)
	uploads := filepath.Join(root, "docker/registry/v2/repositories", repository, "_uploads")
	files, err := filepath.Glob(filepath.Join(uploads, "*/startedat"))
	require.NoError(t, err)
	return files
}

// tripwire is a middleware that calls a function once when so many bytes of uploads have
// been read.
type tripwire struct {
	next http.Handler

	mu   sync.Mutex // guards the fields that follow
	left int64
	trip func()
}

func (w *tripwire) set(n int64, trip func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.trip = n, sync.OnceFunc(trip)
}

func (w *tripwire) read(n int) {
	w.mu.Lock()
	w.left -= int64(n)
	trip := w.trip
	if w.left > 0 {
		trip = nil
	}
	w.mu.Unlock()
	if trip != nil {
		trip()
	}
}

func (w *tripwire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if kindOf(r.URL.Path) == kindUpload {
		r = withBody(r, &wiredBody{ReadCloser: r.Body, wire: w})
	}
	w.next.ServeHTTP(rw, r)
}

type wiredBody struct {
	io.ReadCloser
	wire *tripwire
}

func (b *wiredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.wire.read(n)
	return n, err
}

// cancelled pushes one blob and cancels the call when the registry has read n bytes of it.
func cancelled(t testing.TB, w *tripwire, opts transfer.UploadOptions, n int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.set(n, cancel)
	require.ErrorIs(t, transfer.Upload(ctx, opts), context.Canceled)
}

func TestCancelledUploadOfASmallBlobLeavesNoSession(t *testing.T) {
	d := newDistribution(t)
	w := &tripwire{next: d.handler(t)}
	s := serve(t, w, false)
	src := t.TempDir()
	blobs := addBlobs(t, src, 1, 6*mib)
	opts := upload(s, src, blobs)
	cancelled(t, w, opts, 2*mib)
	assert.Empty(t, d.sessions(t))

	push(t, opts)
	newPeer(t, s, repository).requireBlob(t, src, blobs[0])
	assert.Empty(t, d.sessions(t))
}

func TestCancelledUploadOfALargeBlobIsContinued(t *testing.T) {
	d := newDistribution(t)
	w := &tripwire{next: d.handler(t)}
	s := serve(t, w, false)
	src := t.TempDir()
	blobs := addBlobs(t, src, 1, 96*mib)
	opts := upload(s, src, blobs)
	for _, n := range []int64{24 * mib, 32 * mib} {
		cancelled(t, w, opts, n)
		assert.Len(t, d.sessions(t), 1)
	}
	assert.Empty(t, s.seen(method(http.MethodDelete)))
	push(t, opts)
	assert.Len(t, s.seen(method(http.MethodPost)), 1, "one session")
	assert.Equal(t, blobs[0].Size, sumReceived(s.seen(byLibrary)), "each byte is sent once")
	newPeer(t, s, repository).requireBlob(t, src, blobs[0])
	assert.Empty(t, d.sessions(t))
}
