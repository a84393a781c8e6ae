package transfer_test

import (
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// N8: a registry that is known to redirect stalls when it is asked where a blob is.
func TestN8StallWhileItIsAskedWhereABlobIs(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		first, second := w.remote(2000), w.remote(1000)
		w.reg.Fault("GET", second.Digest, "stallheaders")
		opts := w.withToken(w.downloadOptions(first, second))
		opts.Concurrency = 1
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Equal(t, 2, w.gets(second))
		assert.Equal(t, 1, cdn.Count("GET", second.Digest))
		assert.InDelta(t, 10, took.Seconds(), 2)
	})
}

// N14: the body of a 416 is not the blob's, even where its Content-Range says so.
func TestN14RefusedRangeWithAFittingContentRange(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(300K)->416(content-range: bytes 307200-1048575/1048576)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		ranges := w.ranges(b)
		require.Len(t, ranges, 3)
		assert.Empty(t, ranges[2], "asked for as a whole")
		assert.Zero(t, w.progress.falls, "nothing of it was written")
	})
}

// N26: a URL may expire again and again, as long as each one brings something.
func TestN26EachURLBringsSomething(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(mebibyte)
		cdn.Fault("GET", b.Digest, "eof(300K)->403->eof(300K)->403->eof(300K)->403")
		took, err := w.timed(w.withToken(w.downloadOptions(b)))
		require.NoError(t, err)
		assert.Equal(t, 4, w.gets(b), "asked where it is now, three times")
		assert.Less(t, took, 3*time.Second)
	})
}

// N16: what is thrown away is told as a fall of what is complete.
func TestN16FallIsTold(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "flip(777)+slow(1M)->delay(1s)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		assert.Greater(t, w.progress.falls, b.Size/2)
		assert.LessOrEqual(t, w.progress.falls, b.Size)
	})
}

// N10: a registry that has ignored a range is not asked for one of that blob again.
func TestN10IgnoredRangeIsNotAskedForAgain(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(300K)->eof(600K)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		ranges := w.ranges(b)
		require.Len(t, ranges, 3)
		assert.NotEmpty(t, ranges[1])
		assert.Empty(t, ranges[2])
	})
}

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

// S20: a token that expires while the registry wants to be left alone costs a refresh, and no wait of its own.
func TestS20UnauthorizedDuringRetryAfter(t *testing.T) {
	for name, scripts := range map[string][2]string{
		"one after the other": {"429(retry-after: 60)->401", "ok"}, "of another blob": {"429(retry-after: 60)", "delay(1s)+401"},
		"in the middle": {"eof(300K)->503(retry-after: 60)->401", "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				b, other := w.remote(mebibyte), w.remote(1000)
				w.reg.Fault("GET", b.Digest, scripts[0])
				w.reg.Fault("GET", other.Digest, scripts[1])
				var tokens issuer
				opts := w.downloadOptions(b, other)
				opts.Token, opts.GetToken = "old", tokens.getToken
				took, err := w.timed(opts)
				require.NoError(t, err)
				assert.Len(t, tokens.calls(), 1)
				assert.InDelta(t, 60, took.Seconds(), 2)
				assert.Zero(t, w.progress.falls)
				w.requireOnly(b, other)
			})
		})
	}
}

// N10: bytes that are read past are bytes that come.
func TestN10ReadingPastIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(500K)->slow(10K)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		assert.Equal(t, 2, w.gets(b))
	})
}

// I8: however many files are hashed again, few are at once.
func TestI8VerifyOfManyBlobs(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	opts := w.downloadOptions()
	for i := range 200 {
		opts.Blobs = append(opts.Blobs, w.local(100_000+i))
	}
	opts.Verify = true
	done, most := make(chan struct{}), make(chan int)
	before := runtime.NumGoroutine()
	go func() {
		n := 0
		for {
			select {
			case <-done:
				most <- n
				return
			default:
				n = max(n, runtime.NumGoroutine())
				runtime.Gosched()
			}
		}
	}()
	err := transfer.Download(t.Context(), opts)
	close(done)
	assert.Less(t, <-most-before, 50)
	require.NoError(t, err)
	assert.Empty(t, w.reg.Requests())
}

// Nothing that a call has started runs when it has returned (I5).
func TestNothingRunsWhenACallHasReturned(t *testing.T) {
	w := newWorld(t, registrytest.H1, registrytest.Options{})
	opts := w.downloadOptions(w.local(10))
	stacks := make([]byte, 1<<20)
	for range 100 {
		require.NoError(t, transfer.Download(t.Context(), opts))
		running := string(stacks[:runtime.Stack(stacks, true)])
		require.NotContains(t, running, "watchdog).run")
		require.NotContains(t, running, "progressTracker).report")
	}
}

// N7: each byte counts, so that one in less than StallTimeout is enough.
func TestN7TrickleIsNoStall(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(12)
		asked := 0
		trickle := w.net.Serve("trickle.test", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			asked++
			for _, one := range w.data(b) {
				_, _ = rw.Write([]byte{one})
				_ = http.NewResponseController(rw).Flush()
				time.Sleep(6 * time.Second)
			}
		}), mode)
		opts := w.downloadOptions(b)
		opts.BaseURL = trickle.URL
		require.NoError(t, w.download(opts))
		assert.Equal(t, 1, asked)
	})
}
