package pull

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/modeltransfer/transfer/internal/blobstore"
	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// slotSize is the most that a slot is asked for: a larger blob comes in pieces.
	slotSize = 8 << 20 // 8 MiB

	// tinySize is the size up to which a piece of a large blob costs no more than a small blob.
	tinySize = 16 << 10 // 16 KiB
)

// PieceFetch is a piece that a worker fetches, in as many attempts as it takes.
type PieceFetch struct {
	*Sources
	*Blob
	Piece *pieces.Piece

	partial      *blobstore.Partial
	host         string    // that was asked last
	begin        int64     // where the piece began
	slow         int       // attempts that were ended for being slow
	unanswered   int       // attempts in a row in which no byte came in time
	wrong        int       // answers to a request without a range that are none
	refused      bool      // a signed URL was refused, and no byte has come since
	failedAt     []*source // those that have answered 500 to a range
	rangeRefused bool      // the next request is to be made without a range
}

// NewPieceFetch returns the fetch of a piece of a blob from the sources, to where the blob is stored.
func NewPieceFetch(from *Sources, b *Blob, p *pieces.Piece, to *blobstore.Partial) *PieceFetch {
	return &PieceFetch{Sources: from, Blob: b, Piece: p, partial: to, begin: p.Pos()}
}

// Host is the host that was asked last.
func (p *PieceFetch) Host() string { return p.host }

// Attempt makes one attempt at what is left of the piece, and tells whether it has brought any of it. What
// came is stored and recorded, also on failure.
func (p *PieceFetch) Attempt(ctx context.Context) (moved bool, err error) {
	start := p.Piece.Pos()
	if start >= p.Piece.End() {
		return false, nil // another worker took the rest
	}
	p.Budget.Attempt()
	w := p.partial.WriterAt(start)
	err = p.Fetch(ctx, w)
	if closing := w.Close(); err == nil {
		err = closing
	}
	return p.Piece.Pos() > start, err
}

// attempt is one request to a source for what is left of a piece.
type attempt struct {
	*PieceFetch
	src     *source
	request exchange.Request
	told    bool // Trace.Start was called

	start      int64         // of what is left
	asked      time.Duration // when it was asked for, by the scheduler's clock
	violations int           // of the rules for ranges that were counted before it asked
	ranged     bool          // it asks for a range
	whole      bool          // the piece was the whole blob
	ifRange    bool          // only if the blob is still the one that the piece was begun with
	remembered *wire.Target  // where the registry's redirects led; nil before it has answered with one
	stale      bool          // the node that answered is one that the next request should not meet
}

var _ exchange.Caller = (*attempt)(nil)

// from returns a request to a source for what is left of the piece: for a range, unless that is the whole
// blob.
func (p *PieceFetch) from(src *source) *attempt {
	a := &attempt{PieceFetch: p, src: src, start: p.Piece.Pos(), violations: p.ranges.now()}
	a.request = exchange.Request{
		SlotFor: a.slotFor(), Blob: true, Caller: a, MayRecall: p.Size > pace.Small, // others end soon
		AnswerTime: p.Budget.Longer(p.Exchange.Watchdog.StallTimeout(), p.unanswered),
		MaySlow:    p.slow >= watchdog.MaxReplaced, Budget: p.Budget,
		Elsewhere: src.mirror || p.mirrorIsNear(),
	}
	a.request.Method, a.request.NewConn = http.MethodGet, p.SkipMirrors.Load()
	a.choose()
	end := p.Piece.End()
	a.whole = a.start == 0 && end == p.Size
	if a.whole || p.rangeRefused || src.plain.Load() || p.rangesIgnored(src) {
		return a
	}
	a.ranged = true
	a.request.Header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", a.start, end-1)}}
	if etag := p.ranges.ifRange(); etag != "" && a.start > p.begin && !src.mirror {
		a.ifRange = true
		a.request.Header.Set("If-Range", etag)
	}
	return a
}

// choose chooses the URL. Asking the registry for one needs no slot, but has it all the same where a URL has
// expired, perhaps while the request waited for its slot.
func (a *attempt) choose() {
	a.request.Target = a.src.Blob(a.Repository, a.Digest)
	if at := a.resolved.Load(); at != nil && !a.src.mirror {
		a.request.Target, a.remembered = *at, at
	}
	a.host = a.request.Target.Host()
	a.request.AskFirst = !a.request.Target.Left && a.redirects.Load() && !a.refused && !a.expired.Load()
}

// slotFor returns the size of the body that a slot is needed for. The rest of a piece counts as a whole one.
//
// A tiny range, as of a blob of which much is reused, needs none unless the caller has set how many bodies
// may move: it brings too little to find out by it how many are best.
func (a *attempt) slotFor() int64 {
	end := a.Piece.End()
	switch n := end - a.start; {
	case a.Schedule.Ranges(a.Index) != pieces.RangesServed:
	case n <= tinySize && a.Exchange.Bodies.Fixed():
		return n
	case n <= tinySize:
		return 0
	case a.Scattered:
		return min(end-a.begin, slotSize)
	}
	return min(a.Size, slotSize)
}

// run makes the request, and stores what it brings.
func (a *attempt) run(ctx context.Context, w io.Writer) error {
	resp, err := a.Exchange.Do(ctx, a.request)
	if err != nil {
		a.end(err)
		return err
	}
	err = a.take(resp, w)
	a.end(err) // before the slot is given back: who gets it next would ask there too
	_ = resp.Body.Close()
	if a.stale {
		a.Exchange.CloseIdle() // the connection is idle only now that the body is closed
	}
	return err
}

// take stores what an answer brings.
func (a *attempt) take(resp *exchange.Response, w io.Writer) error {
	a.learn(resp)
	if err := a.check(resp); err != nil {
		return err
	}
	a.src.serves(a.Blob)
	a.Piece.Flowing(a.Schedule.Now())
	a.Trace.From(resp.Target.Host())
	b := body{resp, a, w}
	if resp.StatusCode == http.StatusOK {
		return b.takeWhole()
	}
	a.src.ranges.Store(true)
	if !a.src.mirror {
		a.ranges.serve()
	}
	a.Schedule.RangesServed(a.Index, pace.Near(a.Schedule.Now()-a.asked, resp.Dialed))
	if resp.ContentLength < 0 { // what has a length is read to its end, and leaves its connection to others
		start, end, _, _ := wire.ContentRange(resp.Header) // it was checked
		resp.ContentLength = end - start
	}
	return b.copy()
}

// end drops the URL that was remembered where it brought nothing, unless another worker has resolved it anew:
// it may have expired, and its host be dead, or a stale node, and one of several.
func (a *attempt) end(err error) {
	a.Piece.Rest(a.Schedule.Now())
	if err != nil && a.remembered != nil && a.Piece.Pos() == a.start {
		a.resolved.CompareAndSwap(a.remembered, nil)
	}
}

// Ready chooses the URL again, now that there is a slot, and tells once that the piece is asked for. The
// URL that was remembered, or that a redirect led to, may have expired meanwhile, as the refusal of another
// request shows.
func (a *attempt) Ready(to wire.Target) wire.Target {
	refused := a.remembered != nil || to.Left && a.expired.Load()
	if !to.IsZero() && !a.src.mirror && (refused || a.resolved.Load() != nil) {
		a.remembered = nil
		a.choose()
		to = a.request.Target
	}
	a.asked = a.Schedule.Now()
	a.Piece.Requested(a.asked)
	if !a.told {
		a.Trace.Start(a.host, a.start, a.Piece.End()-a.start)
	}
	a.told = true
	return to
}

// Body is not called: a GET has no body.
func (a *attempt) Body() (io.ReadCloser, error) { return nil, nil }

// Recall puts the rest of the piece back, to be fetched later. It leaves the piece alone where all of it
// would have to be fetched again, and where all wait for the cap on the rate.
func (a *attempt) Recall() {
	if a.Schedule.Ranges(a.Index) == pieces.RangesServed && !a.Exchange.Rate.Full() {
		a.Piece.Lose()
	}
}
