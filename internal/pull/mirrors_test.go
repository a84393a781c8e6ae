package pull_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/pull"
)

// mirrored returns a world with two mirrors.
func mirrored(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.mirrors = []string{"one.test", "two.test"}
	w.begin()
	return w
}

func TestMirrorsAreAskedInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mirrored(t)
		w.fetched(part(0, 100))
		w.next()
		w.fetched(says(503, ""), part(100, 200))
		time.Sleep(time.Second)
		w.next()
		w.fetched(says(503, ""), fails(errBroken), part(200, 300))
		assert.Equal(t, []string{
			"one.test bytes=0-99",
			"one.test bytes=100-199", "two.test bytes=100-199",
			"one.test bytes=200-299", "two.test bytes=200-299", "registry.test bytes=200-299",
		}, w.requests())
	})
}

func TestErrorIsThatOfTheRegistry(t *testing.T) {
	w := mirrored(t)
	_, err := w.fetch(says(503, ""), says(503, ""), says(404, ""))
	var status *statusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, http.StatusNotFound, status.status)
}

// A mirror that asks to be left alone is, for as long as it asked. Nobody else is.
func TestN46MirrorThatAsksToBeLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mirrored(t)
		began := time.Now()
		w.fetched(says(429, "").with("Retry-After", "60"), part(0, 100))
		w.next()
		w.fetched(part(100, 200))
		assert.Zero(t, time.Since(began), "nothing has waited")
		time.Sleep(time.Minute)
		w.next()
		w.fetched(part(200, 300))
		assert.Equal(t, []string{
			"one.test bytes=0-99", "two.test bytes=0-99", "two.test bytes=100-199", "one.test bytes=200-299",
		}, w.requests())
	})
}

// A mirror need not have a blob. It is not asked for that again, and nobody is warned.
func TestN46MirrorWithoutTheBlob(t *testing.T) {
	w := mirrored(t)
	w.fetched(says(404, ""), part(0, 100))
	w.next()
	w.fetched(part(100, 200))
	assert.Equal(t, []string{
		"one.test bytes=0-99", "two.test bytes=0-99", "two.test bytes=100-199",
	}, w.requests())
	assert.NotContains(t, w.log.String(), "level=WARN")
	another := &pull.Blob{Digest: w.blob.Digest, Size: w.size, Budget: w.blob.Budget}
	w.next()
	w.request = pull.NewPieceFetch(w.sources, another, w.request.Piece, nil)
	w.fetched(part(200, 300))
	assert.Equal(t, []string{"one.test bytes=200-299"}, w.requests(), "it may have another one")
}

// Three failures in a row are enough for a while, of which one a second counts. Meanwhile nobody asks.
func TestE8MirrorIsLeftAloneAfterThreeFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mirrors = []string{"one.test"}
		w.begin()
		failed := says(502, "")
		for range 3 {
			assert.Equal(t, tryAgain, w.verdict(failed, says(503, "")))
			assert.Equal(t, tryAgain, w.verdict(says(503, "")), "the mirror is passed over")
			time.Sleep(time.Second)
		}
		assert.Equal(t, 1, strings.Count(w.log.String(), "level=WARN"), "one warning")
		time.Sleep(28 * time.Second)
		assert.Equal(t, tryAgain, w.verdict(says(503, "")))
		time.Sleep(time.Second)
		assert.Equal(t, tryAgain, w.verdict(failed, says(503, "")), "it is asked again, once")
		assert.Equal(t, tryAgain, w.verdict(says(503, "")))
		time.Sleep(30 * time.Second)
		w.requests()
		w.fetched(part(0, 100))
		w.next()
		w.fetched(part(100, 200))
		assert.Equal(t, []string{"one.test bytes=0-99", "one.test bytes=100-199"}, w.requests(), "it is back")
		assert.Equal(t, 1, strings.Count(w.log.String(), "level=WARN"))
	})
}

func TestE8BreakAfterBytesIsNoFailure(t *testing.T) {
	w := newWorld(t)
	w.mirrors = []string{"one.test"}
	w.begin()
	for i := range int64(5) {
		assert.Equal(t, tryAgain, w.verdict(part(10*i, 100).cut(10), says(503, "")))
	}
	assert.NotContains(t, w.log.String(), "level=WARN")
}

// A mirror that does not serve ranges says nothing of the registry.
func TestN47MirrorBreaksTheRulesForRanges(t *testing.T) {
	w := mirrored(t)
	w.fetched(says(416, ""), says(206, ""), part(0, 100))
	assert.Equal(t, []string{
		"one.test bytes=0-99", "two.test bytes=0-99", "registry.test bytes=0-99",
	}, w.requests())
	assert.Equal(t, pieces.RangesIgnored, w.schedule.Ranges(0))
}

func TestN47MirrorIgnoresRanges(t *testing.T) {
	w := mirrored(t)
	w.fetched(whole().cut(150), says(404, ""), part(150, 400))
	assert.Equal(t, []string{"one.test bytes=0-99", "two.test bytes=150-399", "registry.test bytes=150-399"},
		w.requests(), "the second mirror may serve them")
}

// That a mirror serves ranges says nothing of the registry either.
func TestN10MirrorServesRanges(t *testing.T) {
	w := mirrored(t)
	w.fetched(part(0, 100))
	w.next()
	n, err := w.fetch(says(404, ""), says(404, ""), whole())
	require.NoError(t, err)
	assert.Equal(t, int64(300), n)
}

func TestMirrorsETagIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mirrored(t)
		w.fetched(
			part(0, 100).with("ETag", `"one"`).cut(60), part(60, 100).with("ETag", `"two"`).cut(10),
			part(70, 100),
		)
		assert.NotContains(t, strings.Join(w.requests(), " "), " if ")
		w.next()
		failing := says(503, "")
		assert.Equal(t, tryAgain, w.verdict(failing, failing, part(100, 200).with("ETag", `"ours"`).cut(50)))
		w.requests()
		time.Sleep(time.Second)
		assert.Equal(t, tryAgain, w.verdict(failing, failing, failing))
		assert.Equal(t, []string{
			"one.test bytes=150-199", "two.test bytes=150-199", `registry.test bytes=150-199 if "ours"`,
		}, w.requests())
	})
}

// The redirect of a mirror leads to the mirror's own store.
func TestMirrorsRedirectIsNotRemembered(t *testing.T) {
	w := mirrored(t)
	w.fetched(to("store.test"), part(0, 100))
	w.next()
	w.fetched(says(404, ""), says(404, ""), part(100, 200))
	assert.Equal(t, []string{
		"one.test bytes=0-99", "store.test bytes=0-99",
		"one.test bytes=100-199", "two.test bytes=100-199", "registry.test bytes=100-199",
	}, w.requests())
}

// What the store of a mirror refuses says nothing of the registry's.
func TestN40RefusalOfAMirrorsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mirrored(t)
		refused, there := says(403, ""), to("store.test")
		assert.Equal(t, anotherWay, w.verdict(there, refused, there, refused, // N49: with and without a range
			refused, refused, to("ours.test"), refused))
		time.Sleep(time.Second)
		w.fetched(refused, refused, refused, refused, to("ours.test"), part(0, 100))
	})
}

// Another worker has taken the rest of the piece.
func TestMirrorFailsBehindTheEndOfAPiece(t *testing.T) {
	w := mirrored(t)
	broken := fails(errBroken)
	broken.before = func(*http.Request) { w.request.Piece.Finish() }
	assert.Equal(t, stored, w.verdict(broken))
	assert.Equal(t, []string{"one.test bytes=0-99"}, w.requests())
}

func TestWrongBytesMayBeAMirrors(t *testing.T) {
	w := mirrored(t)
	w.blob.SkipMirrors.Store(true)
	w.fetched(part(0, 100))
	assert.Equal(t, []string{"registry.test bytes=0-99"}, w.requests())
}

var errDisk = errors.New("disk full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errDisk }

// No other source can help against a full disk.
func TestS1FullDiskIsNoFailureOfAMirror(t *testing.T) {
	w := mirrored(t)
	w.answers = []answer{part(0, 100)}
	require.ErrorIs(t, w.request.Fetch(t.Context(), fullDisk{}), errDisk)
	assert.Equal(t, []string{"one.test bytes=0-99"}, w.requests())
}

// That no socket can be opened says nothing about a mirror.
func TestE8NoDescriptorIsNoFailureOfAMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mirrors = []string{"one.test"}
		w.begin()
		none := fails(&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)})
		for range 5 {
			assert.Equal(t, tryAgain, w.verdict(none, none))
			time.Sleep(time.Second)
		}
		w.requests()
		w.fetched(part(0, 100))
		assert.Equal(t, []string{"one.test bytes=0-99"}, w.requests())
		assert.NotContains(t, w.log.String(), "level=WARN")
	})
}

// A mirror that is silent does not have the registry waited for longer.
func TestE8SilenceOfAMirrorIsNotTheRegistrys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mirrors = []string{"one.test"}
		w.begin()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.dog.Run(ctx)
		silent := answer{wrote: true, before: func(r *http.Request) { <-r.Context().Done() }, err: errBroken}
		began := time.Now()
		assert.Equal(t, tryAgain, w.verdict(silent, silent))
		assert.InDelta(t, 2*stallTimeout, time.Since(began), float64(time.Second))
	})
}
