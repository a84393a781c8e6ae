package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// A piece is larger where the server is near, because a request costs more than the network there.
func TestPiecesAreLargerWhereTheServerIsNear(t *testing.T) {
	for latency, pieces := range map[time.Duration]int{time.Millisecond: 3, 20 * time.Millisecond: 5} {
		inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
			w := newWorld(t, mode, registrytest.Options{Latency: latency})
			b := w.remoteLarge()
			opts := w.downloadOptions(b)
			opts.Concurrency = 2
			require.NoError(t, w.download(opts))
			assert.Len(t, w.ranges(b), pieces)
		})
	}
}

// quickConn is a connection to a server of the same network.
type quickConn struct{ net.Conn }

func (quickConn) DialTime() time.Duration { return 100 * time.Microsecond }

// A registry that is busy is no farther away: where there is a large blob for each of the first bodies, all
// but its first piece comes at once, and there are no more bodies than for a server that is quick.
func TestABusyServerIsStillNear(t *testing.T) {
	for name, c := range map[string]struct {
		latency time.Duration
		near    bool
		pieces  int // of each blob
	}{
		"near and busy": {18 * time.Millisecond, true, 2},
		"as far":        {18 * time.Millisecond, false, 5},
		"near and late": {25 * time.Millisecond, true, 5},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{Latency: c.latency})
				transport := w.client.Transport.(*http.Transport)
				dial := transport.DialContext
				transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := dial(ctx, network, addr)
					if c.near && err == nil {
						conn = quickConn{conn}
					}
					return conn, err
				}
				var blobs []transfer.Blob
				for i := range 4 {
					blobs = append(blobs, w.remote(largeSize+i))
				}
				require.NoError(t, w.download(w.downloadOptions(blobs...)))
				for _, b := range blobs {
					assert.Len(t, w.ranges(b), c.pieces)
				}
			})
		})
	}
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
		assert.Len(t, w.ranges(large), 3, "one request for each piece: of 8 MiB, and of 16 when it is near")
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

func TestI6EmptyBlobIsFetched(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		empty := w.remote(0)
		require.NoError(t, w.download(w.downloadOptions(empty)))
		w.requireOnly(empty)

		wrong := transfer.Blob{Digest: "sha256:" + someHex}
		w.progress = &progressLog{}
		err := w.download(w.downloadOptions(wrong))
		require.ErrorIs(t, err, transfer.ErrDigestMismatch)
		assert.NotContains(t, err.Error(), "registry", "it was not asked")
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
		assert.Equal(t, [2]int64{mebibyte, mebibyte}, w.progress.calls[len(w.progress.calls)-1],
			"counted once")
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

// An idle worker takes no tail as long as it could not move it: what was on its way would come twice,
// and nothing sooner.
func TestDownloadTakesNoTailWithoutASlot(t *testing.T) {
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

// A piece that waits to be tried again is not taken for a slow one, and one that waits for its turn
// does not extend the retry budget of its blob for the others.
func TestN20PiecesAreLeftToThoseWhoRetryThem(t *testing.T) {
	const pieces = 10
	type test struct{ bodies, requests int }
	cases := map[string]test{
		"one at a time after the trouble": {0, pieces + 40},
		"all at once":                     {pieces, pieces * 10},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c test) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(pieces * 8 << 20)
		w.reg.Fault("GET", b.Digest, "ok->**delay(700ms)+503")
		opts := w.downloadOptions(b)
		opts.RetryTimeout, opts.StallTimeout, opts.BodyConcurrency = 20*time.Second, 2*time.Second, c.bodies
		took, err := w.timed(opts)
		requireStatus(t, err, http.StatusServiceUnavailable)
		assert.ErrorIs(t, err, transfer.ErrRetriesExhausted)
		assert.InDelta(t, 20, took.Seconds(), 10,
			"the last attempt begins within the retry budget, and may wait for the others")
		assert.LessOrEqual(t, w.gets(b), c.requests)
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
		assert.Equal(t, b.Size-w.progress.first(), w.reg.BytesSent()-before,
			"only what is missing was fetched")
		assert.Greater(t, w.progress.first(), int64(8<<20))
	})
}

// passing is a fault that passes.
type passing struct {
	script   string
	requests int
	wait     time.Duration // at least; at most 2 s more
}

// survive checks that a fault that passes costs another request, and that no byte that had come is fetched
// again.
func survive(t *testing.T, cases map[string]passing) {
	t.Helper()
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c passing) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, c.script)
		took, err := w.timed(w.downloadOptions(b))
		require.NoError(t, err)
		assert.Equal(t, c.requests, w.gets(b))
		assert.Zero(t, w.progress.falls)
		assert.GreaterOrEqual(t, took, c.wait)
		assert.LessOrEqual(t, took, c.wait+2*time.Second)
		if mode != registrytest.H2 { // where a reset may overtake what was sent
			assert.LessOrEqual(t, w.reg.BytesSent(), b.Size+64, "bytes on the wire")
		}
		w.requireOnly(b)
	})
}

func TestN1DownloadSurvivesResets(t *testing.T) {
	survive(t, map[string]passing{
		"reset":                       {"reset(300K)", 2, 0},
		"reset of the connection":     {"connreset(300K)", 2, 0},
		"reset in place of an answer": {"reset", 2, 0},
		"many resets":                 {"9*reset(64K)", 10, 0},
	})
}

func TestN2N3DownloadSurvivesAnEarlyEnd(t *testing.T) {
	survive(t, map[string]passing{
		"N2 of a known length": {"eof(300K)", 2, 0}, "N3 of an unknown length": {"noclen(300K)", 2, 0},
	})
}

func TestN4DownloadSurvivesAnEarlyEndOfChunks(t *testing.T) {
	survive(t, map[string]passing{"chunks": {"truncchunk(300K)", 2, 0}})
}

func TestN7N8DownloadSurvivesStalls(t *testing.T) {
	survive(t, map[string]passing{
		"N7 in the middle":         {"stall(300K)", 2, 10 * time.Second},
		"N7 before the first byte": {"stall(0)", 2, 10 * time.Second},
		"N8 before the headers":    {"stallheaders", 2, 10 * time.Second},
	})
}

func TestN18DownloadSurvivesOverload(t *testing.T) {
	survive(t, map[string]passing{
		"429": {"429(retry-after: 7)", 2, 7 * time.Second},
		"503": {"503(retry-after: 90)", 2, 90 * time.Second},
	})
}

func TestN36DownloadSurvivesAFarewell(t *testing.T) {
	survive(t, map[string]passing{
		"at the end": {"goaway", 1, 0}, "in the middle": {"goaway+eof(300K)", 2, 0},
	})
}

func TestN39DownloadSurvivesHints(t *testing.T) {
	survive(t, map[string]passing{"hints": {"hints(5)", 1, 0}})
}

func TestDownloadOfABodyWithoutALength(t *testing.T) {
	survive(t, map[string]passing{"chunks": {"chunked", 1, 0}, "no length": {"noclen", 1, 0}})
}

// giveUp checks that a fault that does not pass is given up in the end, and that nothing is left of a small
// blob.
func giveUp(t *testing.T, name, script string, modes []registrytest.Mode, is error) {
	t.Helper()
	for _, mode := range modes {
		inBubble(t, name+" "+mode.String(), func(t *testing.T) {
			w := newWorld(t, mode, registrytest.Options{})
			other, b := w.remote(2*mebibyte), w.remote(mebibyte)
			w.reg.Fault("GET", b.Digest, script)
			opts := w.downloadOptions(other, b)
			opts.Concurrency = 1
			took, err := w.timed(opts)
			w.requireExhausted(err, b, is)
			assert.InDelta(t, 5*time.Minute, took, float64(45*time.Second))
			assert.LessOrEqual(t, w.gets(b), 25, "requests")
			w.requireOnly(other)
		})
	}
}

func TestN1N36DownloadGivesUpResets(t *testing.T) {
	modes := registrytest.Modes()
	giveUp(t, "N1", "**reset(0)", modes[:1], syscall.ECONNRESET)
	giveUp(t, "N36", "**reset(0)", modes[2:], transfer.ErrRetriesExhausted)
}

func TestN2N3DownloadGivesUpEarlyEnds(t *testing.T) {
	modes := registrytest.Modes()
	giveUp(t, "N2", "**eof(0)", modes[:2], io.ErrUnexpectedEOF)
	giveUp(t, "N3", "**noclen(0)", modes, transfer.ErrSizeMismatch)
}

func TestN4DownloadGivesUpEarlyEndsOfChunks(t *testing.T) {
	giveUp(t, "chunks", "**truncchunk(0)", registrytest.Modes()[:2], io.ErrUnexpectedEOF)
}

func TestN7N8DownloadGivesUpStalls(t *testing.T) {
	giveUp(t, "N7", "**stall(0)", registrytest.Modes(), transfer.ErrStalled)
	giveUp(t, "N8", "**stallheaders", registrytest.Modes(), transfer.ErrStalled)
}

// resume checks that what came of a large blob stays, and is not fetched again by the next call.
func resume(t *testing.T, scripts map[string]string) {
	t.Helper()
	for name, script := range scripts {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remoteLarge()
			w.reg.Fault("GET", b.Digest, script+"->404")
			opts := w.downloadOptions(b)
			opts.Concurrency = 1
			w.requireStatus(w.download(opts), b, http.StatusNotFound)
			w.requirePartial(b)
			w.reg.Wait()
			before := w.reg.BytesSent()
			w.progress = &progressLog{}
			require.NoError(t, w.download(w.downloadOptions(b)))
			w.reg.Wait()
			assert.EqualValues(t, 9*mebibyte, w.progress.first())
			assert.EqualValues(t, b.Size-9*mebibyte, w.reg.BytesSent()-before)
			w.requireOnly(b)
		})
	}
}

func TestN1N2DownloadIsResumable(t *testing.T) {
	resume(t, map[string]string{"N1": "ok->reset(1M)", "N2": "ok->eof(1M)"})
}

func TestN3N7DownloadIsResumable(t *testing.T) {
	resume(t, map[string]string{"N3": "ok->noclen(1M)", "N7": "ok->stall(1M)"})
}

func TestN11DownloadIsResumable(t *testing.T) {
	resume(t, map[string]string{"wrong range": "ok->eof(1M)->asked(bytes=5-20000000)"})
}

// permanent is a fault that no second request would mend.
type permanent struct {
	script   string
	is       error
	requests int
	unread   bool // the body must not be read
}

// failAtOnce checks that such a fault ends the call.
func failAtOnce(t *testing.T, cases map[string]permanent) {
	t.Helper()
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, c permanent) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, c.script)
		_, err := w.timed(w.downloadOptions(b))
		require.ErrorIs(t, err, c.is)
		require.NotErrorIs(t, err, transfer.ErrRetriesExhausted)
		var blob *transfer.BlobError
		require.ErrorAs(t, err, &blob)
		assert.Equal(t, b.Digest, blob.Digest)
		assert.Equal(t, c.requests, w.gets(b))
		assert.LessOrEqual(t, w.reg.BytesSent(), 2*b.Size+8*mebibyte,
			"what an endless body sends into buffers")
		if c.unread {
			assert.Zero(t, w.progress.calls[len(w.progress.calls)-1][0])
		}
		if strings.HasPrefix(c.script, "eof(300K)") {
			w.requirePartial(b)
		} else {
			w.requireNothing(b)
		}
	})
}

func TestN5N6BodyOfAnotherSizeFailsAtOnce(t *testing.T) {
	failAtOnce(t, map[string]permanent{
		"N5 one byte too many": {"**long(1)", transfer.ErrSizeMismatch, 1, false},
		"N5 endless":           {"**endless", transfer.ErrSizeMismatch, 1, false},
		"N6 longer":            {"**clen(1048577)", transfer.ErrSizeMismatch, 1, true},
		"N6 shorter":           {"**clen(1048575)", transfer.ErrSizeMismatch, 1, true},
		"N6 nothing":           {"**clen(0)+eof(0)", transfer.ErrSizeMismatch, 1, false},
	})
}

func TestN12N13WrongRangesForEverFail(t *testing.T) {
	failAtOnce(t, map[string]permanent{
		"N12 another range": {"eof(300K)->**range(bytes 1-2/3)", transfer.ErrProtocol, 3, false},
		"N13 206":           {"**206", transfer.ErrProtocol, 2, false},
	})
}

func TestN14RefusedRangesForEverFail(t *testing.T) {
	failAtOnce(t, map[string]permanent{"416": {"eof(300K)->**416", transfer.ErrProtocol, 3, false}})
}

func TestN16WrongBytesForEverFail(t *testing.T) {
	failAtOnce(t, map[string]permanent{"flip": {"**flip(777)", transfer.ErrDigestMismatch, 2, false}})
}

func TestN17EncodedBodyFailsAtOnce(t *testing.T) {
	failAtOnce(t, map[string]permanent{
		"gzip": {"**encoding(gzip)", transfer.ErrProtocol, 1, false},
		"zstd": {"**encoding(zstd)", transfer.ErrProtocol, 1, false},
	})
}

func TestN27N28RedirectsThatLeadNowhereFailAtOnce(t *testing.T) {
	failAtOnce(t, map[string]permanent{
		"N27 in circles":         {"**302(location: ?again)", transfer.ErrRedirectRefused, 11, true},
		"N28 no Location":        {"**307", transfer.ErrRedirectRefused, 1, true},
		"N28 malformed Location": {"**302(location: http://[::1/)", transfer.ErrRedirectRefused, 1, true},
		"N28 another scheme": {"**302(location: file:///etc/passwd)", transfer.ErrRedirectRefused, 1,
			true},
	})
}

// N5: nothing is kept of a large blob either.
func TestN5LargeBlobThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{NoRange: true})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "**long(1)")
		require.ErrorIs(t, w.download(w.downloadOptions(b)), transfer.ErrSizeMismatch)
		assert.Equal(t, 1, w.gets(b))
		w.requireNothing(b)
	})
}

// U15: a captive portal or a front page in the place of the registry.
func TestU15WebPageInsteadOfABlob(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "**page")
		took, err := w.timed(w.downloadOptions(b))
		require.ErrorIs(t, err, transfer.ErrProtocol)
		assert.ErrorContains(t, err, "web page")
		assert.Less(t, took, noBackoff)
		assert.Equal(t, 1, w.gets(b))
		w.requireNothing(b)
	})
}

func TestN17IdentityIsAskedFor(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(1000)
		w.reg.Fault("GET", b.Digest, "encoding(identity)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		assert.Equal(t, []string{"identity"}, w.reg.Requests()[0].Header.Values("Accept-Encoding"))
	})
}

func TestN15ObjectChangedBetweenTries(t *testing.T) {
	cases := map[string]string{`"v1"`: `"v1"`, `W/"v1"`: "", "v1": ""}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, etag, ifRange string) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		dg := digest.Digest(b.Digest)
		w.reg.Replace(repository, dg, make([]byte, mebibyte))
		w.reg.Fault("GET", b.Digest, "header(etag: "+etag+")+eof(300K)")
		w.observe(func() {
			if w.gets(b) > 1 {
				w.reg.Replace(repository, dg, w.data(b))
			}
		})
		require.NoError(t, w.download(w.downloadOptions(b)))
		assert.Equal(t, 3, w.gets(b), "the digest decides")
		assert.Equal(t, ifRange, w.reg.Requests()[1].Header.Get("If-Range"))
		assert.LessOrEqual(t, w.progress.falls, b.Size)
	})
}

func TestN16FlippedBit(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, "flip(777)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, 2, w.gets(b))
		assert.Equal(t, 2*b.Size, w.reg.BytesSent())
		assert.LessOrEqual(t, w.progress.falls, b.Size, "progress falls by no more than was thrown away")
	})
}

func TestN16FlippedBitOfALargeBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registrytest.H1, registrytest.Options{})
		b := w.remoteLarge()
		flip := w.reg.Fault("GET", b.Digest, "ok->flip(777)")
		require.NoError(t, w.download(w.downloadOptions(b)))
		w.reg.Wait()
		assert.True(t, flip.Done())
		assert.Equal(t, 2*b.Size, w.reg.BytesSent())

		w.reg.Fault("GET", b.Digest, "**flip(777)")
		w.dir, w.progress = t.TempDir(), &progressLog{}
		before := w.reg.BytesSent()
		require.ErrorIs(t, w.download(w.downloadOptions(b)), transfer.ErrDigestMismatch)
		w.reg.Wait()
		assert.Equal(t, 2*b.Size, w.reg.BytesSent()-before)
		w.requireNothing(b)
	})
}

// What an earlier call left may be wrong in more ways than one: damaged on disk, never the blob's, or both.
func TestN16WrongBytesOfEarlierCalls(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		lie := bytes.Repeat([]byte("x"), int(b.Size))
		w.reg.Replace(repository, digest.Digest(b.Digest), lie)
		opts := w.downloadOptions(b)
		opts.RetryTimeout = time.Second
		faults := w.reg.Fault("GET", b.Digest, "ok->**503")
		requireStatus(t, w.download(opts), http.StatusServiceUnavailable)
		faults.Stop()
		flipBit(t, w.path(b)+".partial", 777)

		w.reg.Replace(repository, digest.Digest(b.Digest), w.data(b))
		w.progress = &progressLog{}
		require.NoError(t, w.download(w.downloadOptions(b)))
	})
}

// What is fetched again comes over a new connection.
func TestN16NewConnection(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	dg := reg.Put(repository, []byte("content"))
	reg.Fault("GET", "", "flip(0)")
	server := registrytest.Serve(t, reg, registrytest.H1)
	require.NoError(t, transfer.Download(t.Context(), transfer.DownloadOptions{
		Blobs: []transfer.Blob{{Digest: dg.String(), Size: 7}}, BaseURL: server.URL, DestDir: t.TempDir(),
		Repository: repository,
	}))
	requests := reg.Requests()
	require.Len(t, requests, 2)
	assert.NotEqual(t, requests[0].Remote, requests[1].Remote)
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

func TestN10LargeBlobWithoutRanges(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{NoRange: true})
		b := w.remoteLarge()
		require.NoError(t, w.download(w.downloadOptions(b)))
		w.reg.Wait()
		assert.Equal(t, 1, w.gets(b))
		assert.Equal(t, b.Size, w.reg.BytesSent())
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

// answerRanges checks that a blob comes after an answer to a range that is not what was asked for. Cases have
// the script and the number of requests.
func answerRanges(t *testing.T, cases map[string]int) {
	t.Helper()
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, script string, requests int) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(mebibyte)
		w.reg.Fault("GET", b.Digest, script)
		require.NoError(t, w.download(w.downloadOptions(b)))
		ranges := w.ranges(b)
		require.Len(t, ranges, requests)
		if requests == 3 {
			assert.Regexp(t, `^bytes=\d+-1048575$`, ranges[1])
			assert.Empty(t, ranges[2], "asked for as a whole")
		}
		assert.Zero(t, w.progress.falls, "nothing wrong was written")
		w.requireOnly(b)
	})
}

func TestN10N11DownloadSurvivesRangesThatBeginElsewhere(t *testing.T) {
	answerRanges(t, map[string]int{
		"eof(300K)->norange":              2, // N10
		"eof(300K)->asked(bytes=5-)":      3,
		"eof(300K)->asked(bytes=0-)":      3,
		"eof(300K)->asked(bytes=400000-)": 3,
	})
}

func TestN12DownloadSurvivesWrongContentRanges(t *testing.T) {
	answerRanges(t, map[string]int{
		"eof(300K)->range()": 3,
		"eof(300K)->range(bytes 307200-1048575/1048576; bytes 0-9/1048576)": 3,
		"eof(300K)->range(bytes */1048576)":                                 3,
		"eof(300K)->range(lines 1-2/3)":                                     3,
		"eof(300K)->range(bytes 307200-307300/1048576)":                     3, // too short
		"eof(300K)->range(bytes 307200-1048575/1048577)":                    3,
		"eof(300K)->range(bytes 307200-1048575/*)":                          2,
	})
}

func TestN13N14DownloadSurvivesRangesThatNobodyAskedFor(t *testing.T) {
	answerRanges(t, map[string]int{
		"206": 2, "range(bytes 0-1048575/1048576)": 2, // N13
		"eof(300K)->416": 3, // N14
	})
}

// A registry whose ranges were wrong once is not asked for ranges of that blob again, by nobody.
func TestN11NoStealingAfterWrongRanges(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remote(20 * mebibyte)
		w.reg.Fault("GET", b.Digest, "eof(300K)->range()->slow(1M)->**range()")
		require.NoError(t, w.download(w.downloadOptions(b)))
		assert.Equal(t, 3, w.gets(b))
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

// N47: one node of many is stale. Ranges go on, and nothing is sent twice.
func TestN47OneWrongAnswerToARange(t *testing.T) {
	for name, script := range map[string]string{
		"416": "416", "two in a row": "2*416", "no Content-Range": "range()",
		"another range":  "range(bytes 0-9/34603008)",
		"the whole blob": "norange", "again and again": "416->ok->416->ok->416->ok->416->ok->416",
	} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, registrytest.H1, registrytest.Options{})
			b := w.remoteLarge()
			w.reg.Fault("GET", b.Digest, "ok->"+script)
			opts := w.downloadOptions(b)
			opts.Concurrency = 1
			require.NoError(t, w.download(opts))
			w.reg.Wait()
			assert.Less(t, w.reg.BytesSent(), b.Size+b.Size/4)
		})
	}
}

// N47: a registry that has served a range of another blob is asked once more, also for a blob that costs
// little as a whole.
func TestN47WrongAnswerToTheFirstRangeOfABlob(t *testing.T) {
	cases := named("416", "range()", "range(bytes 0-9/17825792)")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		first, second := w.remote(20<<20), w.remote(17<<20)
		opts := w.downloadOptions(first, second)
		opts.Concurrency = 1
		w.reg.Fault("GET", first.Digest, "eof(10M)")
		w.reg.Fault("GET", second.Digest, "eof(10M)->"+script)
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Less(t, w.reg.BytesSent(), first.Size+second.Size+1<<20, "nothing is sent twice")
	})
}

// N47: the next request must not meet the same node.
func TestN47NewConnectionAfterAWrongAnswer(t *testing.T) {
	cases := named("416", "status(416, content-length: 0)", "range()", "norange")
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _, script string) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->"+script)
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		assert.Equal(t, 2, w.dials())
	})
}

// N47: a registry that has served other blobs has nodes that are well, however often another one answers.
func TestN47StaleNodeInARow(t *testing.T) {
	for wrong, c := range map[string]struct {
		times int
		fails bool
	}{"416": {times: 6}, "206": {times: 6}, "range()": {times: 7, fails: true}} {
		t.Run(wrong, func(t *testing.T) {
			inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
				w := newWorld(t, mode, registrytest.Options{})
				first, b := w.remote(2*mebibyte), w.remote(mebibyte)
				w.reg.Fault("GET", b.Digest, fmt.Sprintf("%d*%s", c.times, wrong))
				opts := w.downloadOptions(first, b)
				opts.Concurrency = 1
				err := w.download(opts)
				assert.Equal(t, 7, w.gets(b))
				if c.fails {
					require.ErrorIs(t, err, transfer.ErrProtocol)
					return
				}
				require.NoError(t, err)
				w.requireOnly(first, b)
			})
		})
	}
}

// N47: where it is the habit of a registry that has served ranges, the blob comes as a whole.
func TestN47RangesThatAreNoLongerServed(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->**norange")
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.LessOrEqual(t, w.reg.BytesSent(), 3*b.Size)
	})
}

// N47: nodes that disagree on the ETag answer If-Range with the whole blob. It is not sent any more,
// and ranges go on.
func TestN47NodesThatDisagreeOnTheETag(t *testing.T) {
	inBubbles(t, func(t *testing.T, mode registrytest.Mode) {
		w := newWorld(t, mode, registrytest.Options{})
		b := w.remoteLarge()
		w.reg.Fault("GET", b.Digest, "ok->eof(1M)->norange->eof(1M)")
		opts := w.downloadOptions(b)
		opts.Concurrency = 1
		require.NoError(t, w.download(opts))
		w.reg.Wait()
		assert.Less(t, w.reg.BytesSent(), b.Size+b.Size/4)
		conditional := 0
		for _, r := range w.reg.Requests() {
			if r.Header.Get("If-Range") != "" {
				conditional++
			}
		}
		assert.Equal(t, 1, conditional)
	})
}
