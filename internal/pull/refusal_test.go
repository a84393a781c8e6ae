package pull_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// refusedRange are statuses that may mean that ranges are refused.
var refusedRange = []int{400, 403, 405, 406, 412, 415, 417, 422, 501}

// A source that refuses a range is asked once without, which is remembered for all that it is asked for.
func TestN49RangeIsRefused(t *testing.T) {
	for _, status := range refusedRange {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			w := newWorld(t, pieces.Range{Start: 0, End: 200}, pieces.Range{Start: 300, End: 400})
			w.fetched(says(status, ""), whole())
			assert.Equal(t, []string{"registry.test bytes=0-99", "registry.test"}, w.requests())
			w.next()
			w.fetched(whole())
			assert.Equal(t, []string{"registry.test"}, w.requests(), "remembered")
			assert.Equal(t, int64(400), w.request.Piece.Pos())
		})
	}
}

// A server may merely have failed. When it fails again, it may be for the range.
func TestN49RangeFailsTwice(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, tryAgain, w.verdict(says(500, "")))
	w.fetched(says(500, ""), whole())
	assert.Equal(t, []string{
		"registry.test bytes=0-99", "registry.test bytes=0-99", "registry.test",
	}, w.requests())
}

// The whole blob is refused too: it was not the range, and the next one is asked for again.
func TestN49NotOnlyTheRangeIsRefused(t *testing.T) {
	for _, status := range refusedRange {
		w := newWorld(t)
		assert.Equal(t, permanently, w.verdict(says(status, ""), says(status, "")))
		w.requests()
		w.fetched(part(0, 100))
		assert.Equal(t, []string{"registry.test bytes=0-99"}, w.requests())
	}
}

// A source that has served ranges refuses something else.
func TestN49RefusalAfterARange(t *testing.T) {
	for _, status := range refusedRange {
		w := newWorld(t)
		w.fetched(part(0, 100))
		w.next()
		assert.Equal(t, permanently, w.verdict(says(status, "")))
	}
	w := newWorld(t)
	w.fetched(part(0, 100))
	w.next()
	for range 5 {
		assert.Equal(t, tryAgain, w.verdict(says(500, "")))
	}
}

// What an object store refuses is more likely a signature that has expired, so that is looked at first.
func TestN49SignatureIsLookedAtFirst(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, anotherWay, w.verdict(to("store.test"), says(403, "")))
	w.fetched(to("store.test"), says(403, ""), to("store.test"), whole())
	assert.Equal(t, []string{
		"registry.test bytes=0-99", "store.test bytes=0-99",
		"registry.test bytes=0-99", "store.test bytes=0-99",
		"registry.test", "store.test",
	}, w.requests())
}

// A mirror is asked without a range before the next source is.
func TestN49MirrorRefusesRanges(t *testing.T) {
	w := mirrored(t)
	w.fetched(says(405, ""), whole())
	assert.Equal(t, []string{"one.test bytes=0-99", "one.test"}, w.requests())
}

// A compressed blob whose coding is told is still the blob, where its length is.
func TestN50CodingOfTheBlobItself(t *testing.T) {
	for _, coding := range []string{"gzip", "x-gzip", "X-GZIP"} {
		w := newWorld(t)
		w.fetched(whole().with("Content-Encoding", coding))
		w = newWorld(t)
		w.fetched(part(0, 100).with("Content-Encoding", coding))
	}
}

// Any other coding is not the blob, nor is one of another or of no length.
func TestN50N17OtherCodings(t *testing.T) {
	for name, a := range map[string]answer{
		"br":             whole().with("Content-Encoding", "br"),
		"zstd":           whole().with("Content-Encoding", "zstd"),
		"twice":          whole().with("Content-Encoding", "gzip, gzip"),
		"no length":      whole().unsized().with("Content-Encoding", "gzip"),
		"another length": says(200, content(0, 399)).with("Content-Encoding", "gzip"),
		"a range of no length": part(0, 100).with("Content-Encoding", "gzip").
			with("Content-Range", "bytes 0-99/*"),
		"a range, another coded": part(0, 100).with("Content-Encoding", "deflate"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n, err := w.fetch(a)
			assert.Zero(t, n)
			assert.Equal(t, permanently, verdictOf(err))
			if name != "another length" {
				require.ErrorIs(t, err, sentinel.ErrProtocol)
			}
		})
	}
}

// Another worker has the other pieces, which came from a mirror. Whoever gets the whole blob for a piece
// gives that back, or each would read all that lies before its own.
func TestE18WholeBlobBesideOtherPieces(t *testing.T) {
	w := mirrored(t)
	w.fetched(part(0, 100))
	w.request.Piece.Finish()
	job, ok, err := w.schedule.Next(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	w.next()
	lost := false
	w.request.Piece.OnLost(func() { lost = true })
	assert.Equal(t, anotherWay, w.verdict(says(404, ""), says(404, ""), whole()))
	assert.True(t, lost, "the piece is given back")
	job.Piece.Finish()
	w.next()
	assert.Equal(t, int64(100), w.request.Piece.Pos(), "the last begins at the first byte that is missing")
	w.fetched(whole())
	assert.Equal(t, int64(400), w.request.Piece.Pos())
}

// Another worker takes the rest of the piece over, which was the whole blob, while its answer is awaited.
// That says nothing of ranges.
func TestE18WholePieceThatIsTakenOver(t *testing.T) {
	w := newWorld(t)
	w.size = 50
	w.begin()
	w.schedule.RangesServed(0, false)
	a := says(200, content(0, 50))
	a.before = func(*http.Request) { w.request.Piece.Finish() }
	_, err := w.fetch(a)
	require.NoError(t, err)
	assert.Equal(t, pieces.RangesServed, w.schedule.Ranges(0))
}

// slowDisk takes its time, in which it looks how slow the piece seems to be.
type slowDisk struct {
	*world
	takes  time.Duration
	oldest time.Duration
}

func (d *slowDisk) Write(p []byte) (int, error) {
	time.Sleep(d.takes)
	_, age, _ := d.request.Piece.Judge(d.schedule.Now())
	d.oldest = max(d.oldest, age)
	return len(p), nil
}

// However long the disk takes, the network stands no longer still than it does.
func TestE9SlowDiskIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mirrors, w.verified = []string{"one.test"}, time.Hour
		w.begin()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.dog.Run(ctx)
		a := part(0, 100)
		portions := &portionsOf{Reader: a.body, n: 25, pause: time.Second}
		a.body, a.before = portions, func(r *http.Request) { portions.ctx = r.Context() }
		w.answers = []answer{a}
		disk := &slowDisk{world: w, takes: 12 * time.Second}
		require.NoError(t, w.request.Fetch(ctx, disk))
		assert.Equal(t, []string{"one.test bytes=0-99"}, w.requests())
		assert.InDelta(t, w.blob.Budget.Timeout(), w.blob.Budget.Left(), float64(time.Second)) // for the end
		assert.LessOrEqual(t, disk.oldest, 4*time.Second, "the piece seems to be as slow as the network is")
	})
}

// portionsOf gives n bytes at a time, each after a pause, until the request has ended.
type portionsOf struct {
	io.Reader
	ctx   context.Context
	n     int
	pause time.Duration
}

func (p *portionsOf) Read(b []byte) (int, error) {
	select {
	case <-time.After(p.pause):
		return p.Reader.Read(b[:min(p.n, len(b))])
	case <-p.ctx.Done():
		return 0, p.ctx.Err()
	}
}

// A mirror that is to be left alone, or what it leads to, is passed over by those who were about to ask it.
func TestE12MirrorsStoreIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mirrors = []string{"one.test"}
		w.begin()
		began := time.Now()
		w.fetched(to("store.test"), says(503, "").with("Retry-After", "60"), part(0, 100))
		w.next()
		time.Sleep(time.Second)
		w.fetched(to("store.test"), part(100, 200))
		assert.Equal(t, time.Second, time.Since(began), "nobody has waited for it")
		assert.NotContains(t, w.log.String(), "level=WARN")
	})
}
