package transfer_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
	"github.com/modeltransfer/transfer/internal/watchdog"
)

// Nothing that a call has started runs when it has returned.
func TestNothingRunsWhenACallHasReturned(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	opts := w.downloadOptions(w.local(10))
	const report = "progressTracker).report("
	run := runtime.FuncForPC(reflect.ValueOf((*watchdog.Watchdog).Run).Pointer()).Name() + "("
	stacks := make([]byte, 1<<20)
	running := func() string { return string(stacks[:runtime.Stack(stacks, true)]) }
	opts.Progress = func(int64, int64) { assert.Contains(t, running(), report) }
	for range 100 {
		require.NoError(t, transfer.Download(t.Context(), opts))
		left := running()
		require.NotContains(t, left, run)
		require.NotContains(t, left, report)
	}
}

// What other blobs were doing when one failed ends too, and leaves nothing.
func TestFailureEndsTheOthers(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions()
		opts.Concurrency = 10 // all begin at once
		for i := range opts.Concurrency {
			opts.Blobs = append(opts.Blobs, w.remote(1000+i))
		}
		w.reg.Fault("GET", opts.Blobs[3].Digest, "delay(3s)+403")
		w.reg.Fault("GET", "", "**stall(100)")
		took, err := w.timed(opts)
		w.requireStatus(err, opts.Blobs[3], http.StatusForbidden)
		assert.Equal(t, 3*time.Second, took)
		assert.Zero(t, w.reg.InFlight())
		w.requireOnly()
		assert.NotContains(t, err.Error(), fmt.Sprint(context.Canceled), "the first error, and not what came of it")
	})
}

func TestI6EmptyBlobIsFetched(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		empty := w.remote(0)
		require.NoError(t, w.download(w.downloadOptions(empty)))
		w.requireOnly(empty)

		wrong := transfer.Blob{Digest: "sha256:" + someHex}
		w.progress = &progressLog{}
		require.ErrorIs(t, w.download(w.downloadOptions(wrong)), transfer.ErrDigestMismatch)
		w.requireNothing(wrong)
	})
}

func TestS13ListedTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", "", "slow(1M)")
		require.NoError(t, w.download(w.downloadOptions(b, b, b)))
		assert.Equal(t, 1, w.gets(b))
		assert.Equal(t, [2]int64{mebibyte, mebibyte}, w.progress.calls[len(w.progress.calls)-1], "counted once")
	})
}

// Small blobs move beside the pieces of a large one, and not after them, when nothing fills the link
// while they are waited for.
func TestDownloadOfSmallBlobsBesideALargeOne(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{Latency: 50 * time.Millisecond})
		large := w.remote(40 << 20) // five pieces, a second for each
		w.reg.Fault("GET", large.Digest, "**slow(8M)")
		blobs := []transfer.Blob{large}
		for i := range 20 {
			blobs = append(blobs, w.remote(1000+i))
		}
		opts := w.downloadOptions(blobs...)
		opts.Concurrency = 5
		begun, early := time.Now(), 0
		opts.Progress = func(int64, int64) {
			if time.Since(begun) < time.Second {
				early = len(w.reg.Requests()) - w.reg.Count("GET", large.Digest)
			}
		}
		require.NoError(t, w.download(opts))
		assert.Equal(t, 20, early, "small blobs that were asked for before a piece was complete")
	})
}

// An idle worker takes no tail as long as it could not move it: what was on its way would come twice,
// and nothing sooner.
func TestDownloadTakesNoTailWithoutRoom(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.reg.Fault("GET", "", "**slow(1M)")
		var blobs []transfer.Blob
		for i := range 4 {
			blobs = append(blobs, w.remote(8<<20+i))
		}
		opts := w.downloadOptions(blobs...)
		opts.BodyConcurrency = 4
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Len(t, w.reg.Requests(), 4)
		assert.Equal(t, w.progress.calls[0][1], w.reg.BytesSent())
	})
}

func TestDownload(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.dir = filepath.Join(w.dir, "made", "by", "the", "call")
		small := []transfer.Blob{w.remote(0), w.remote(1), w.remote(256 << 10), w.remote(256<<10 + 1),
			w.remote(3 << 20)}
		large := w.remoteLarge()
		require.NoError(t, w.download(w.downloadOptions(append(small, large)...)))
		w.reg.Wait()
		var total int64
		for _, b := range append(small, large) {
			total += b.Size
		}
		assert.Equal(t, total, w.reg.BytesSent(), "bytes on the wire")
		for _, b := range small[1:] { // an empty blob needs no request
			assert.Equal(t, []string{""}, w.ranges(b), "one request, for all of it")
		}
		assert.Len(t, w.ranges(large), 5, "one request for each piece")
		assert.Zero(t, w.progress.falls)
		assert.Zero(t, w.progress.first())
		entries, err := os.ReadDir(w.dir)
		require.NoError(t, err)
		assert.Len(t, entries, len(small)+1, "nothing but the blobs is left")
	})
}

func TestDownloadAsksForNothingThatIsThere(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	opts := w.downloadOptions(w.local(10), w.local(0), w.local(1<<20))
	require.NoError(t, w.download(opts))
	assert.Empty(t, w.reg.Requests())
	assert.Zero(t, w.net.Dials("registry.test:80"))
	assert.Equal(t, [][2]int64{{10 + 1<<20, 10 + 1<<20}}, w.progress.calls)
}

func TestDownloadOfNothing(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	w.dir = filepath.Join(w.dir, "missing")
	require.NoError(t, transfer.Download(t.Context(), w.downloadOptions()))
	assert.NoDirExists(t, w.dir)
}

func TestS9Verify(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		good, bad := w.local(1000), w.remote(1001)
		wrong := make([]byte, bad.Size)
		require.NoError(t, os.WriteFile(w.path(bad), wrong, 0o644))
		opts := w.downloadOptions(good, bad)
		require.NoError(t, transfer.Download(t.Context(), opts), "trusted by default")
		assert.Empty(t, w.reg.Requests())
		opts.Verify = true
		require.NoError(t, w.download(opts))
		assert.Equal(t, 1, w.gets(bad))
		assert.Zero(t, w.gets(good))
	})
}

func TestS9VerifyWithoutARegistry(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	w.server.Close()
	opts := w.downloadOptions(w.local(1000), w.local(2000))
	opts.Verify = true
	require.NoError(t, w.download(opts))
}

// A blob whose turn comes late has its whole retry budget.
func TestDownloadWaitingForItsTurnIsNoFailure(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		first, second := w.remote(60_000), w.remote(50_000)
		w.reg.Fault("GET", first.Digest, "slow(100)")
		w.reg.Fault("GET", second.Digest, "3*503")
		opts := w.downloadOptions(first, second)
		opts.BodyConcurrency, opts.RetryTimeout = 1, time.Minute
		require.NoError(t, w.download(opts))
	})
}

// A blob that another call was fetching for long, in vain, has its whole retry budget too.
func TestDownloadWaitingForAnotherCallIsNoFailure(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "slow(100)->503")
		ctx, cancel := withCancelAfter(t, 10*time.Minute)
		defer cancel()
		var other sync.WaitGroup
		other.Go(func() {
			opts := w.downloadOptions(b)
			opts.Progress = nil
			assert.ErrorIs(t, transfer.Download(ctx, opts), errOurs)
		})
		time.Sleep(time.Second)
		require.NoError(t, w.download(w.downloadOptions(b)))
		other.Wait()
	})
}

func TestDownloadLargeBlobInPieces(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", "", "**slow(1M)")
		took, err := w.timed(w.downloadOptions(b))
		require.NoError(t, err)
		assert.Greater(t, w.reg.MaxInFlight(), 1, "pieces flow at once")
		assert.Less(t, took, 12*time.Second, "a piece takes 16 s, unless idle workers take half of it")
		assert.LessOrEqual(t, w.reg.BytesSent(), b.Size+b.Size/10)
	})
}

func TestDownloadStealsTheTailOfASlowPiece(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->slow(64K)->**slow(4M)")
		took, err := w.timed(w.downloadOptions(b))
		require.NoError(t, err)
		assert.Less(t, took, 20*time.Second, "16 MiB at 64 KiB/s take 256 s")
		assert.LessOrEqual(t, w.reg.BytesSent(), b.Size+b.Size/10)
		assert.Zero(t, w.progress.falls)
	})
}

func TestDownloadResumesAfterCancel(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "stall(1M)")
		ctx, cancel := withCancelAfter(t, 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, transfer.Download(ctx, w.downloadOptions(b)), errOurs)
		w.requirePartial(b)
		w.reg.Wait()
		before := w.reg.BytesSent()
		w.progress = &progressLog{}
		require.NoError(t, w.download(w.downloadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, b.Size-w.progress.first(), w.reg.BytesSent()-before, "only what is missing was fetched")
		assert.Greater(t, w.progress.first(), int64(8<<20))
	})
}
