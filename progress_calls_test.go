package transfer_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

func TestI16ProgressPanics(t *testing.T) {
	cases := map[string]int{"at once": 1, "in the middle": 2}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, at int) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "**slow(1M)")
		opts := w.uploadOptions(w.local(3<<20), w.local(4<<20))
		calls := 0
		opts.Progress = func(int64, int64) {
			if calls++; calls == at {
				panic("out of paper")
			}
		}
		begun := time.Now()
		assert.PanicsWithValue(t, "out of paper", func() { _ = transfer.Upload(t.Context(), opts) })
		assert.Less(t, time.Since(begun), time.Second, "nothing more is sent")
		assert.Equal(t, at, calls, "no call after the panic")
		w.reg.Wait()
		assert.Zero(t, w.reg.Sessions())
	})
}

func TestI17ProgressBlocks(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.uploadOptions(w.local(10), w.local(3<<20))
		begun := time.Now()
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		opts.Progress = func(completed, total int64) {
			time.Sleep(time.Hour)
			w.progress.add(completed, total)
		}
		require.NoError(t, w.upload(opts))
		assert.Equal(t, 1, w.reg.Count("PUT", "/manifests/"))
		requests := w.reg.Requests()
		last := requests[len(requests)-1]
		assert.Contains(t, last.Path, "/manifests/")
		assert.Less(t, last.At.Sub(begun), time.Minute, "requests do not wait for the callback")
	})
}

func TestI18ProgressCancelsAndReenters(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", "slow(1M)")
		ctx, cancel := context.WithCancel(t.Context())
		opts := w.uploadOptions(w.local(3 << 20))
		opts.Progress = func(int64, int64) { cancel() }
		require.ErrorIs(t, transfer.Upload(ctx, opts), context.Canceled)

		inner := w.uploadOptions(w.local(100))
		opts.Progress = func(completed, total int64) {
			assert.NoError(t, transfer.Upload(t.Context(), inner))
			w.progress.add(completed, total)
		}
		require.NoError(t, transfer.Upload(t.Context(), opts))
	})
}

// From what is there to all of it, one call at a time, and none after the return.
func TestDownloadProgress(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.local(500), w.remote(1000), w.remote(mebibyte), w.remoteLarge())
		w.reg.Fault("GET", "", "reset(300)->**slow(4M)")
		var inside sync.Mutex
		returned := false
		opts.Progress = func(completed, total int64) {
			if assert.True(t, inside.TryLock(), "one call at a time") {
				defer inside.Unlock()
			}
			assert.False(t, returned)
			assert.EqualValues(t, 500+1000+mebibyte+largeSize, total)
			w.progress.add(completed, total)
		}
		require.NoError(t, w.download(opts))
		inside.Lock()
		returned = true
		inside.Unlock()
		assert.EqualValues(t, 500, w.progress.first())
		assert.Zero(t, w.progress.falls)
		assert.Greater(t, len(w.progress.calls), 10)
	})
}

// I16: a panic of the callback reaches the caller, when all has been let go.
func TestI16DownloadProgressPanics(t *testing.T) {
	cases := map[string]int64{"at once": 0, "in the middle": 1, "at the end": 3 * mebibyte}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, at int64) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.remote(mebibyte), w.remote(2*mebibyte))
		w.reg.Fault("GET", "", "**slow(1M)")
		calls := 0
		opts.Progress = func(completed, total int64) {
			if calls++; completed >= at {
				panic("ours")
			}
		}
		begun := time.Now()
		assert.PanicsWithValue(t, "ours", func() { _ = transfer.Download(t.Context(), opts) })
		if at < mebibyte {
			assert.Less(t, time.Since(begun), time.Second, "nothing more is fetched")
		}
		told := calls
		w.reg.Wait()
		assert.Zero(t, w.reg.InFlight())
		assert.Equal(t, told, calls, "it is not called again")
		w.checkNames()
		opts.Progress = nil
		require.NoError(t, transfer.Download(t.Context(), opts), "nothing is locked")
	})
}

// I17: a slow callback delays nothing but itself.
func TestI17DownloadProgressBlocks(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		start := time.Now()
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions()
		for i := range 30 {
			opts.Blobs = append(opts.Blobs, w.remote(1000+i))
		}
		opts.Concurrency = 2
		opts.Progress = func(completed, total int64) {
			time.Sleep(time.Hour)
			w.progress.add(completed, total)
		}
		require.NoError(t, w.download(opts))
		requests := w.reg.Requests()
		require.Len(t, requests, 30)
		assert.Less(t, requests[29].At.Sub(start), time.Hour, "all were made while the first callback slept")
		assert.LessOrEqual(t, len(w.progress.calls), 3, "what came meanwhile is told at once")
	})
}

// I18: a callback may cancel the call, and make another.
func TestI18DownloadProgressCancelsAndReenters(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		b, other := w.remote(mebibyte), w.remote(1000)
		w.reg.Fault("GET", b.Digest, "slow(100K)")
		opts := w.downloadOptions(b)
		opts.Progress = func(completed, _ int64) {
			if completed > 0 && ctx.Err() == nil {
				inner := w.downloadOptions(other)
				inner.Progress = nil
				assert.NoError(t, transfer.Download(t.Context(), inner))
				cancel(errOurs)
			}
		}
		require.ErrorIs(t, transfer.Download(ctx, opts), errOurs)
		w.requireBlob(other)
		w.requirePartial(b)
	})
}

// What comes slowly is told, and stored, as it comes.
func TestDownloadProgressOfASlowBody(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "slow(10K)")
		require.NoError(t, w.download(w.downloadOptions(w.remote(50_000))))
		assert.Greater(t, len(w.progress.calls), 15)
	})
}

func TestUploadProgress(t *testing.T) {
	cases := map[string]string{"clean": "ok", "reset": "reset(9M)", "lost answer": "swallow"}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("PUT", "/uploads/", script)
		there, b, small := w.local(5<<20), w.local(10<<20), w.local(100)
		w.reg.Put(repository, w.data(there))
		require.NoError(t, w.upload(w.uploadOptions(there, b, small, small)))
		assert.Zero(t, w.progress.falls, "it never goes backwards")
		for _, call := range w.progress.calls {
			assert.EqualValues(t, 15<<20+100, call[1], "total")
		}
	})
}
