package transfer_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
)

func requireStatus(t *testing.T, err error, code int) *transfer.StatusError {
	t.Helper()
	var status *transfer.StatusError
	require.ErrorAs(t, err, &status)
	require.Equal(t, code, status.StatusCode)
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

// withCancelAfter returns a context that is cancelled with errOurs after a while.
func withCancelAfter(t *testing.T, wait time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(wait, func() { cancel(errOurs) })
	return ctx, func() { timer.Stop(); cancel(nil) }
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

func requireNoSecrets(t *testing.T, told string) {
	t.Helper()
	for _, secret := range secrets {
		require.NotContains(t, told, secret)
	}
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
