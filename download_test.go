package transfer_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
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

func TestDownload(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		w.dir = filepath.Join(w.dir, "made", "by", "the", "call")
		small := []transfer.Blob{w.remote(0), w.remote(1), w.remote(256 << 10), w.remote(256<<10 + 1), w.remote(3 << 20)}
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

func TestDownloadMaxBytesPerSecond(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		opts := w.downloadOptions(w.remote(4<<20), w.remote(3<<20), w.remote(2<<20), w.remote(1<<20))
		opts.MaxBytesPerSecond = 1 << 20
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InEpsilon(t, 10, took.Seconds(), 0.05)
	})
}

// Pieces that are slow only because of the cap are left with those who have them: on a new connection they would be no faster,
// and what was on its way would come twice.
func TestDownloadMaxBytesPerSecondFetchesNothingTwice(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b, fast := w.remote(50<<20), w.remote(64<<10) // this one comes before the cap is felt
		opts := w.downloadOptions(b, fast)
		opts.MaxBytesPerSecond = 3 << 20
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Equal(t, b.Size+fast.Size, w.reg.BytesSent())
	})
}

// What has to be read past counts too.
func TestDownloadMaxBytesPerSecondWithoutRanges(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remote(4 * mebibyte)
		w.reg.Fault("GET", b.Digest, "slow(4M)+eof(2M)")
		opts := w.downloadOptions(b)
		opts.MaxBytesPerSecond = mebibyte
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InEpsilon(t, 6, took.Seconds(), 0.1)
	})
}

func TestDownloadMaxBytesPerSecondIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(10_000)
		opts := w.downloadOptions(b)
		opts.MaxBytesPerSecond, opts.StallTimeout = 100, time.Second
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.InEpsilon(t, 100, took.Seconds(), 0.05)
		assert.Equal(t, 1, w.gets(b))
	})
}

func TestDownloadBodyConcurrency(t *testing.T) {
	for _, c := range []struct{ concurrency, bodies, want int }{{8, 3, 3}, {2, 0, 2}, {4, 100, 4}, {1, 1, 1}} {
		t.Run(fmt.Sprint(c.concurrency, c.bodies), func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				w.reg.Fault("GET", "", "**delay(100ms)+slow(1M)")
				var blobs []transfer.Blob
				for range 10 {
					blobs = append(blobs, w.remote(300<<10))
				}
				opts := w.downloadOptions(blobs...)
				opts.Concurrency, opts.BodyConcurrency = c.concurrency, c.bodies
				require.NoError(t, w.download(opts))
				assert.Equal(t, c.want, w.reg.MaxInFlight())
			})
		})
	}
}

// A blob whose turn comes late has all its patience.
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

// A blob that another call was fetching for long, in vain, has all its patience too.
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
		w.requireHalf(b)
		w.reg.Wait()
		before := w.reg.BytesSent()
		w.progress = &progressLog{}
		require.NoError(t, w.download(w.downloadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, b.Size-w.progress.first(), w.reg.BytesSent()-before, "only what is missing was fetched")
		assert.Greater(t, w.progress.first(), int64(8<<20))
	})
}

func TestI8ManyBlobs(t *testing.T) {
	const there, missing, concurrency = 100_000, 300, 8
	var most atomic.Int64
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	blobs := make([]transfer.Blob, 0, there+missing)
	source := filepath.Join(w.dir, "source")
	for i := range there { // trusted by their size
		b := transfer.Blob{Digest: digest.FromString(fmt.Sprint(i)).String()}
		blobs = append(blobs, b)
		if os.Link(source, w.path(b)) != nil { // it has as many names as it can have
			source = w.path(b)
			require.NoError(t, os.WriteFile(source, nil, 0o644))
		}
	}
	for range missing {
		blobs = append(blobs, w.remote(100))
	}
	opts := w.downloadOptions(blobs...)
	opts.Concurrency = concurrency
	w.client.Transport.(*http.Transport).MaxIdleConnsPerHost = concurrency
	opts.Progress = func(int64, int64) { most.Store(max(most.Load(), int64(runtime.NumGoroutine()))) }
	before := runtime.NumGoroutine()
	require.NoError(t, transfer.Download(t.Context(), opts))
	for _, b := range blobs[there:] {
		w.requireBlob(b)
	}
	assert.Len(t, w.reg.Requests(), missing)
	assert.Less(t, int(most.Load())-before, missing/2, "goroutines, with those of the connections and the server")
}

func TestI8ManyMissingBlobsOfOneWorker(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		var blobs []transfer.Blob
		for range 100 {
			blobs = append(blobs, w.remote(50))
		}
		opts := w.downloadOptions(blobs...)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		assert.Len(t, w.reg.Requests(), 100)
		assert.Equal(t, 1, w.dials(), "the connection is used again")
	})
}
