package transfer_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// N38: what ends because the caller has cancelled is not tried again.
func TestN38CancelledAttemptIsNotTriedAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", "", "**stall(500)")
		ctx, cancel := withCancelAfter(t, 5*time.Second)
		defer cancel()
		var log logBook
		opts := w.downloadOptions(b)
		opts.Logger = log.logger()
		require.ErrorIs(t, transfer.Download(ctx, opts), errOurs)
		w.reg.Wait()
		assert.NotContains(t, log.String(), "trying again")
		assert.Equal(t, 1, w.gets(b))
	})
}

func TestN38Cancel(t *testing.T) {
	cases := map[string]string{
		"before the headers":  "stallheaders",
		"in the body":         "stall(500)",
		"while backing off":   "**503",
		"during Retry-After":  "2*429(retry-after: 100)",
		"in a slow body":      "slow(1)",
		"while slots are few": "**delay(2s)+slow(1)",
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		b, other := w.remote(1000), w.remote(999)
		fault := w.reg.Fault("GET", "", script)
		opts := w.downloadOptions(b, other)
		opts.Concurrency, opts.BodyConcurrency = 2, 1
		start := time.Now()
		ctx, cancel := withCancelAfter(t, 5*time.Second)
		defer cancel()
		err := transfer.Download(ctx, opts)
		require.ErrorIs(t, err, errOurs, "the caller's reason")
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 5*time.Second, time.Since(start))
		w.checkDownload(opts, err)
		w.requireNothing(b)
		w.reg.Wait()

		deadline, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		fault.Stop()
		w.reg.Fault("GET", "", "**stallheaders")
		err = transfer.Download(deadline, w.downloadOptions(b))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		w.requireNothing(b)
		w.reg.Wait()
	})
}

// A call that was cancelled before its first request has moved nothing, and says so.
func TestN38CancelledBefore(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		down := w.downloadOptions(w.remote(1000))
		for _, verify := range []bool{false, true} {
			down.Verify = verify
			require.ErrorIs(t, transfer.Download(ctx, down), context.Canceled)
		}
		w.requireOnly()
		require.ErrorIs(t, transfer.Upload(ctx, w.uploadOptions(w.local(100))), context.Canceled)
		assert.Empty(t, w.reg.Requests())
	})
}

func TestI9NilContext(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	var none context.Context
	down, up := w.downloadOptions(w.remote(10)), w.uploadOptions(w.local(20))
	for _, err := range []error{transfer.Download(none, down), transfer.Upload(none, up)} {
		require.ErrorIs(t, err, transfer.ErrInvalidOption)
		assert.ErrorContains(t, err, "nil context")
	}
	assert.Empty(t, w.reg.Requests())
}

func TestN38UploadCancelled(t *testing.T) {
	cases := map[string]time.Duration{
		"during HEAD": 500 * time.Millisecond, "during POST": 1500 * time.Millisecond,
		"during PUT": 4 * time.Second, "while it is answered": 9 * time.Second,
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, after time.Duration) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("HEAD", "", "delay(1s)")
		w.reg.Fault("POST", "", "delay(1s)")
		w.reg.Fault("PUT", "", "slow(1M)+swallow+stallheaders")
		opts := w.uploadOptions(w.local(5 << 20))
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		ctx, cancel := withCancelAfter(t, after)
		defer cancel()
		begun := time.Now()
		err := transfer.Upload(ctx, opts)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errOurs)
		assert.LessOrEqual(t, time.Since(begun), after+time.Second)
		w.progress.check(t, err)
		w.reg.Wait()
		assert.Zero(t, w.reg.Sessions(), "the session is deleted")
		assert.Zero(t, w.reg.Count("PUT", "/manifests/"))
	})
}

func TestN38UploadDeadline(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("", "", "**503")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begun := time.Now()
		err := transfer.Upload(ctx, w.uploadOptions(w.local(10)))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 20*time.Second, time.Since(begun))
	})
}
