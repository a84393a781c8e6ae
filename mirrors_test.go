package transfer_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
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

// mirrored is a world with two mirrors of its registry, which wants a token.
func mirrored(t *testing.T, mode registrytest.Mode) (
	w *world, one, two *registrytest.Registry, options func(...transfer.Blob) transfer.DownloadOptions,
) {
	w = newWorld(t, mode, registrytest.Options{Token: "secret"})
	w.client.Jar = jar{}
	one, two = registrytest.New(registrytest.Options{}), registrytest.New(registrytest.Options{})
	urls := []string{w.net.Serve("one.test", one, mode).URL, w.net.Serve("two.test", two, mode).URL}
	return w, one, two, func(blobs ...transfer.Blob) transfer.DownloadOptions {
		opts := w.withToken(w.downloadOptions(blobs...))
		opts.Mirrors = urls
		return opts
	}
}

func TestMirrorsAreAskedInOrder(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, two, options := mirrored(t, mode)
		first, second, third := w.remote(1000), w.remote(2000), w.remote(3000)
		one.Put(repository, w.data(first))
		two.Put(repository, w.data(first))
		two.Put(repository, w.data(second))
		took, err := w.timed(options(first, second, third))
		require.NoError(t, err)
		assert.Less(t, took, noBackoff, "a mirror that lacks a blob costs no wait")
		asked := func(b transfer.Blob) []int {
			return []int{one.Count("GET", b.Digest), two.Count("GET", b.Digest), w.gets(b)}
		}
		assert.Equal(t, []int{1, 0, 0}, asked(first))
		assert.Equal(t, []int{1, 1, 0}, asked(second))
		assert.Equal(t, []int{1, 1, 1}, asked(third))
		for _, r := range append(one.Requests(), two.Requests()...) {
			assert.Equal(t, "ns=registry.test", r.RawQuery)
		}
		requireBare(t, append(one.Requests(), two.Requests()...))
		assert.Equal(t, []string{"Bearer secret"}, w.reg.Tokens())
	})
}

// A mirror that lacks what it is asked for is asked again; one that has just failed is not, nor one that
// wants to be left alone (N46).
func TestE8MirrorThatFails(t *testing.T) {
	cases := map[string]int{"**404": 20, "**503": 1, "**401": 1, "**429(retry-after: 100)": 1, "**hangup": 1,
		"ok->503->**ok": 2}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, script string, asked int) {
		w, one, _, options := mirrored(t, mode)
		one.Fault("GET", "", script)
		opts := options()
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.remote(1000+i))
			one.Put(repository, w.data(opts.Blobs[i]))
		}
		opts.Mirrors, opts.Concurrency = opts.Mirrors[:1], 1
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Equal(t, asked, one.Count("GET", ""))
		assert.Less(t, took, noBackoff, "the next is asked at once")
	})
}

// One dead mirror costs three requests and one warning, however many workers there are.
func TestE8DeadMirror(t *testing.T) {
	cases := named("**503", "**hangup", "**stallheaders", "**reset")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w, one, _, options := mirrored(t, mode)
		one.Fault("GET", "", script)
		w.reg.Fault("GET", "", "**slow(100K)")
		opts := options()
		for i := range 200 {
			opts.Blobs = append(opts.Blobs, w.remote(10_000+i))
		}
		opts.Mirrors = opts.Mirrors[:1]
		var log warnings
		opts.Logger = slog.New(&log)
		_, err := w.timed(opts)
		require.NoError(t, err)
		assert.LessOrEqual(t, one.Count("GET", ""), 3)
		assert.LessOrEqual(t, int(log.Load()), 1)
	})
}

// All that breaks in one event is one failure: the mirror is asked again a second later.
func TestE8OneBlip(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, _, options := mirrored(t, mode)
		one.Fault("GET", "", "**slow(20K)")
		begun := time.Now()
		one.Configure(func(o *registrytest.Options) {
			o.Before = func(http.ResponseWriter, *http.Request) bool {
				if at := time.Since(begun); at > time.Second && at < 1600*time.Millisecond {
					panic(http.ErrAbortHandler)
				}
				return false
			}
		})
		w.reg.Fault("GET", "", "**slow(20K)")
		opts := options()
		for i := range 200 {
			opts.Blobs = append(opts.Blobs, w.remote(10_000+i))
			one.Put(repository, w.data(opts.Blobs[i]))
		}
		opts.Mirrors, opts.Concurrency = opts.Mirrors[:1], 8
		_, err := w.timed(opts)
		require.NoError(t, err)
		assert.Less(t, len(w.reg.Requests()), 30)
	})
}

// warnings counts what is logged at level Warn.
type warnings struct{ atomic.Int64 }

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *warnings) WithGroup(string) slog.Handler            { return w }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.Add(1)
	}
	return nil
}

// What a mirror began the registry goes on with.
func TestMirrorThatBreaksOff(t *testing.T) {
	cases := named("eof(300K)", "reset(300K)", "stall(300K)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w, one, _, options := mirrored(t, mode)
		b := w.remote(mebibyte)
		one.Put(repository, w.data(b))
		one.Fault("GET", "", script)
		took, err := w.timed(options(b))
		require.NoError(t, err)
		assert.LessOrEqual(t, took, 11*time.Second)
		assert.Regexp(t, `^bytes=[1-9]\d*-1048575$`, w.ranges(b)[0])
		assert.Zero(t, w.progress.falls)
	})
}

// A mirror that does not serve ranges does not have the registry send again what came.
func TestMirrorWithoutRangesThatBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, one, _, options := mirrored(t, registrytest.H1)
		b := w.remoteLarge()
		one.Put(repository, w.data(b))
		one.Configure(func(o *registrytest.Options) { o.NoRange = true })
		one.Fault("GET", "", "eof(20M)->**503")
		opts := options(b)
		opts.Mirrors = opts.Mirrors[:1]
		_, err := w.timed(opts)
		require.NoError(t, err)
		assert.EqualValues(t, b.Size-20*mebibyte, w.reg.BytesSent())
	})
}

// A piece that was taken over from a mirror that does not answer is no business of the registry's.
func TestMirrorIsTakenOverFrom(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, _, options := mirrored(t, mode)
		b := w.remoteLarge()
		one.Put(repository, w.data(b))
		one.Fault("GET", "", "3*slow(4M)->stallheaders->**slow(4M)")
		opts := options(b)
		opts.Mirrors = opts.Mirrors[:1]
		_, err := w.timed(opts)
		require.NoError(t, err)
		assert.Empty(t, w.ranges(b))
		one.Wait()
		assert.LessOrEqual(t, one.BytesSent(), b.Size+b.Size/10)
	})
}

// A mirror that sends too much has sent all there is.
func TestMirrorThatGoesOn(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, _, options := mirrored(t, mode)
		b := w.remote(mebibyte)
		one.Put(repository, w.data(b))
		one.Fault("GET", "", "**long(1)")
		require.NoError(t, w.download(options(b)))
		assert.Empty(t, w.reg.Requests())
	})
}

// A mirror need not be trusted: what it spoils comes from the registry.
func TestMirrorThatLies(t *testing.T) {
	cases := named(
		"**flip(5)", "**endless", "**clen(5)", "**206", "**range()", "**encoding(gzip)", "**norange",
		"**redirect(file:///x)", "**307",
		"**204", "**errorbody(endless)",
	)
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w, one, _, options := mirrored(t, mode)
		b := w.remote(mebibyte)
		one.Put(repository, w.data(b))
		one.Fault("GET", "", script)
		opts := options(b)
		opts.Mirrors = opts.Mirrors[:1]
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Less(t, took, time.Second)
		assert.LessOrEqual(t, w.reg.BytesSent(), b.Size, "the registry sends it once at most")
		w.requireOnly(b)
	})
}

func TestMirrorWithAnotherBlob(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, two, options := mirrored(t, mode)
		b := w.remote(mebibyte)
		for _, mirror := range []*registrytest.Registry{one, two} {
			mirror.Replace(repository, digest.Digest(b.Digest), make([]byte, b.Size))
		}
		require.NoError(t, w.download(options(b)))
		assert.Equal(t, 1, w.gets(b))
		assert.Equal(t, 1, one.Count("GET", ""))
		assert.Zero(t, two.Count("GET", ""), "after a mismatch no mirror is asked")
	})
}

// E10: a mirror whose blob is longer says nothing about what the registry has sent since.
func TestE10LongerBlobOfAMirrorDiscardsNothing(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, _, options := mirrored(t, mode)
		b := w.remote(mebibyte)
		one.Replace(repository, digest.Digest(b.Digest), make([]byte, b.Size))
		one.Fault("GET", "", "long(1)")
		w.reg.Fault("GET", "", "**stall(500K)")
		ctx, cancel := withCancelAfter(t, 5*time.Second)
		defer cancel()
		opts := options(b)
		opts.Progress = nil
		require.ErrorIs(t, transfer.Download(ctx, opts), errOurs)
		w.requirePartial(b)
		assert.Equal(t, 1, one.Count("GET", ""))
	})
}

// A mirror that lacks a blob is not asked for each piece of it.
func TestMirrorThatLacksALargeBlob(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, two, options := mirrored(t, mode)
		require.NoError(t, w.download(options(w.remoteLarge())))
		assert.Len(t, one.Requests(), 1)
		assert.Len(t, two.Requests(), 1)
	})
}

// A mirror that lacks a blob is no reason to warn anybody.
func TestN46MirrorThatLacksABlobIsNoWarning(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, _, _, options := mirrored(t, mode)
		var book logBook
		opts := options(w.remote(1000), w.remote(2000))
		opts.Logger = book.logger()
		require.NoError(t, w.download(opts))
		assert.NotContains(t, book.String(), "level=WARN")
		assert.Equal(t, 4, strings.Count(book.String(), "mirror failed"))
	})
}

// A mirror that lacks a blob does not have the registry sign a new URL for each piece.
func TestMirrorLeavesTheURLAlone(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remoteLarge()
		mirror := registrytest.New(registrytest.Options{})
		opts := w.withToken(w.downloadOptions(b))
		opts.Mirrors, opts.Concurrency = []string{w.net.Serve("mirror.test", mirror, mode).URL}, 1
		require.NoError(t, w.download(opts))
		assert.Equal(t, 1, w.gets(b))
		assert.Equal(t, 3, cdn.Count("GET", b.Digest))
	})
}

// The ETag of the registry says nothing of what a mirror has.
func TestMirrorIsNotToldTheETagOfTheRegistry(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, _, options := mirrored(t, mode)
		b := w.remote(mebibyte)
		one.Put(repository, w.data(b))
		one.Fault("GET", "", "503")
		w.reg.Fault("GET", b.Digest, `header(etag: "v1")+slow(300K)+eof(600K)`)
		opts := options(b)
		opts.Mirrors = opts.Mirrors[:1]
		require.NoError(t, w.download(opts))
		require.Equal(t, 2, one.Count("GET", ""))
		assert.NotEmpty(t, one.Requests()[1].Header.Get("Range"))
		assert.Empty(t, one.Requests()[1].Header.Get("If-Range"))
	})
}

// The error that counts is that of the registry.
func TestMirrorsAndRegistryFail(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, two, options := mirrored(t, mode)
		b := w.make(1000)
		one.Fault("GET", "", "**503")
		two.Fault("GET", "", "**stallheaders")
		_, err := w.timed(options(b))
		status := w.requireStatus(err, b, http.StatusNotFound)
		assert.Contains(t, status.URL, "registry.test")
		w.requireNothing(b)
	})
}

// A registry that wants to be left alone does not hold up what a mirror has.
func TestMirrorIsAskedWhileTheRegistryIsLeftAlone(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		mirror := registrytest.New(registrytest.Options{Latency: 10 * time.Millisecond})
		only := w.remote(5000)
		blobs := []transfer.Blob{only}
		for i := range 20 {
			b := w.make(1000 + i)
			mirror.Put(repository, w.data(b))
			blobs = append(blobs, b)
		}
		w.reg.Fault("GET", only.Digest, "429(retry-after: 100)")
		opts := w.downloadOptions(blobs...)
		opts.Concurrency = 2
		opts.Mirrors = []string{w.net.Serve("mirror.test", mirror, mode).URL}
		begun, early := time.Now(), int64(0)
		opts.Progress = func(completed, _ int64) {
			if time.Since(begun) < 50*time.Second {
				early = completed
			}
		}
		require.NoError(t, w.download(opts))
		assert.GreaterOrEqual(t, time.Since(begun), 100*time.Second)
		assert.EqualValues(t, 20*1000+190, early, "bytes that came in the meantime")
	})
}

// N46: a mirror's Retry-After holds back that mirror only.
func TestN46RetryAfterOfAMirror(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, two, options := mirrored(t, mode)
		var blobs []transfer.Blob
		for i := range 20 {
			b := w.remote(1000 + i)
			blobs = append(blobs, b)
			one.Put(repository, w.data(b))
			two.Put(repository, w.data(b))
		}
		one.Fault("GET", "", "429(retry-after: 60)")
		two.Fault("GET", "", "**slow(1K)")
		opts := options(blobs...)
		opts.Concurrency = 1
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Zero(t, w.reg.Count("GET", ""), "the second mirror has them all")
		assert.Less(t, took, 60*time.Second)
		assert.Equal(t, 1, one.Count("GET", ""))
	})
}

// A mirror that asks to be left alone has nobody wait for it where the registry is well.
func TestE12NobodyWaitsForAMirrorThatIsHeld(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w, one, _, options := mirrored(t, mode)
		one.Fault("GET", "", "ok->429(retry-after: 100)")
		opts := options()
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.remote(3*mebibyte+i))
			one.Put(repository, w.data(opts.Blobs[i]))
		}
		opts.Mirrors = opts.Mirrors[:1]
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Less(t, took, 10*time.Second)
	})
}

// Nor has a registry that asks to be left alone anybody wait where a mirror has failed for a moment only.
func TestE12MirrorIsBackBeforeTheRegistryIs(t *testing.T) {
	cases := named("429(retry-after: 100)", "429(retry-after: 3600)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w, one, _, options := mirrored(t, mode)
		begun := time.Now()
		one.Configure(func(o *registrytest.Options) {
			o.Before = func(rw http.ResponseWriter, _ *http.Request) bool {
				failing := time.Since(begun) < time.Second/2
				if failing {
					rw.WriteHeader(http.StatusBadGateway)
				}
				return failing
			}
		})
		w.reg.Fault("GET", "", "**"+script)
		opts := options()
		for i := range 20 {
			opts.Blobs = append(opts.Blobs, w.remote(3*mebibyte+i))
			one.Put(repository, w.data(opts.Blobs[i]))
		}
		opts.Mirrors = opts.Mirrors[:1]
		took, err := w.timed(opts)
		require.NoError(t, err)
		assert.Less(t, took, 10*time.Second)
	})
}

// A registry that leads to another host each time, all of which ask to be left alone, is left alone too.
func TestE13RetryAfterOfHostsWithoutEnd(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		cdn := w.reg.CDN()
		cdn.Fault("GET", "", "**503(retry-after: 1)")
		var hosts atomic.Int64
		w.reg.Configure(func(o *registrytest.Options) {
			o.Redirect = func(*http.Request) string {
				n := hosts.Add(1)
				if n > 200 {
					return ""
				}
				return w.net.Serve(fmt.Sprintf("cdn-%d.test", n), cdn, mode).URL
			}
		})
		opts := w.downloadOptions(w.remote(5000))
		opts.RetryTimeout = 20 * time.Second
		_, err := w.timed(opts)
		require.ErrorIs(t, err, transfer.ErrRetriesExhausted)
		assert.LessOrEqual(t, hosts.Load(), int64(21))
	})
}
