package pull

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pace"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// asked is one request for what is left of a piece.
type asked struct {
	exchange.Request
	src      *source
	ranged   bool         // it asks for a range
	whole    bool         // the piece was the whole blob
	ifRange  bool         // only if the blob is still the one that the piece was begun with
	resolved *wire.Target // where the registry's redirects led; nil before it has answered with one
	stale    bool         // the node that answered is one that the next request should not meet
}

// attempt makes one request, or two where the registry only tells where the blob is, and stores what it
// brings.
func (s *Sources) attempt(ctx context.Context, src *source, r *Request, w io.Writer) (err error) {
	start := r.Piece.Pos()
	a := s.request(src, r)
	defer func() {
		r.Piece.Rest(s.now())
		if err != nil && r.Piece.Pos() == start {
			r.forget(&a)
		}
		if a.stale {
			s.Exchange.CloseIdle() // the connection is idle only now that the body is closed
		}
	}()
	resp, err := s.Exchange.Do(ctx, a.Request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.learn(r.Blob, &a, resp)
	if err := s.check(r, &a, resp); err != nil {
		return err
	}
	src.serves(r.Blob)
	r.Piece.Flowing(s.now())
	r.Trace.From(resp.Target.URL.Host)
	b := body{resp, src, start, w}
	if resp.StatusCode == http.StatusOK {
		return s.takeWhole(r, &a, b)
	}
	src.ranges.Store(true)
	if !src.mirror {
		r.ranges.serve()
	}
	s.Schedule.RangesServed(r.Index)
	return s.copy(r, b)
}

// request makes the request for what is left of a piece. It asks for a range unless that is the whole blob.
func (s *Sources) request(src *source, r *Request) asked {
	a := asked{src: src}
	a.Method = http.MethodGet
	a.Target = src.Blob(s.Repository, r.Digest)
	a.Room, a.Budget, a.MaySlow = s.room(r), r.Budget, r.slow >= watchdog.MaxReplaced
	a.Elsewhere, a.NewConn = src.mirror, r.SkipMirrors.Load()
	a.OnRoom = func() { r.Piece.Requested(s.now()); r.start() }
	if r.Size > pace.Small { // others end soon
		a.OnRecall = func() { s.recall(r) }
	}
	a.AnswerTime = s.StallTimeout * (1<<min(r.unanswered, maxDoublings) - 1)
	if at := r.resolved.Load(); at != nil && !src.mirror {
		a.Target, a.resolved = *at, at
	}
	r.host, r.told = a.Target.URL.Host, false
	// Asking needs no room, but has it all the same where a URL has expired, perhaps while it waited for room.
	a.AskFirst = !a.Target.Left && s.redirects.Load() && !r.refused && !r.expired.Load()

	start, end := r.Piece.Pos(), r.Piece.End()
	a.whole = start == 0 && end == r.Size
	if a.whole || r.rangeRefused || src.plain.Load() || r.rangesIgnored(src) {
		return a
	}
	a.ranged = true
	a.Header = make(http.Header, 2)
	a.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
	if etag := r.ranges.ifRange(); etag != "" && start > r.begin && !src.mirror {
		a.ifRange = true
		a.Header.Set("If-Range", etag)
	}
	return a
}

// room returns the size of the body that a piece needs room for. The rest of a piece counts as a whole one.
//
// A tiny range, as of a blob of which much is reused, needs none unless the caller has set how many bodies may
// move: it brings too little to find out by it how many are best.
func (s *Sources) room(r *Request) int64 {
	end := r.Piece.End()
	switch n := end - r.Piece.Pos(); {
	case s.Schedule.Ranges(r.Index) != pieces.RangesServed:
	case n <= tinySize && s.Exchange.Bodies.Fixed():
		return n
	case n <= tinySize:
		return 0
	case r.Scattered:
		return min(end-r.begin, roomSize)
	}
	return min(r.Size, roomSize)
}

// recall has the rest of a piece fetched later. It leaves the piece alone where all of it would have to be
// fetched again, and where the cap on the rate is what holds up all.
func (s *Sources) recall(r *Request) {
	if s.Schedule.Ranges(r.Index) == pieces.RangesServed && !s.Exchange.Rate.Full() {
		r.Piece.Lose()
	}
}

// check reports whether the answer is the bytes that were asked for, before one of them is read.
func (s *Sources) check(r *Request, a *asked, resp *exchange.Response) error {
	switch status := resp.StatusCode; status {
	case http.StatusOK:
		switch n := resp.ContentLength; {
		case n != r.Size && wire.LooksLikeWebPage(resp.Header):
			return retry.Permanent(fmt.Errorf("%w: a web page instead of the blob (check the URL of the registry, "+
				"and whether a proxy or a login page answers in its place)", sentinel.ErrProtocol))
		case n >= 0 && n != r.Size:
			return retry.Permanent(
				fmt.Errorf("%w: the registry has %d bytes, not %d", sentinel.ErrSizeMismatch, n, r.Size))
		}
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if why := wrongRange(r, a, resp); why != "" {
			return s.rangeViolated(r, a, why)
		}
	default:
		err := notFound(status, s.Exchange.Error(resp))
		if s.fromStore(a, resp) && !retry.Retryable(err) {
			if err = r.signatureRefused(a, err); retry.IsOtherWay(err) {
				return err
			}
		}
		r.rangeRefused = a.ranged && !a.src.ranges.Load() && r.refusesRanges(a.src, status, retry.Retryable(err))
		return err
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !isBlob(r, coding, resp) {
		return retry.Permanent(
			fmt.Errorf("%w: content coding %.20q, which was not asked for", sentinel.ErrProtocol, coding))
	}
	return nil
}

// isBlob tells whether an answer with a content coding is the blob all the same. Some stores tell the coding
// of the blob itself, which is compressed: then the length that they tell is the blob's, and the digest decides.
func isBlob(r *Request, coding string, resp *exchange.Response) bool {
	size := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		_, _, size, _ = wire.ContentRange(resp.Header)
	}
	switch strings.ToLower(coding) {
	case "identity":
		return true
	case "gzip", "x-gzip":
		return size == r.Size
	}
	return false
}

// refusesRanges tells whether an answer to a range may mean that ranges are refused, and the blob served without.
// A 500 may pass, and means that only when it comes again.
func (r *Request) refusesRanges(src *source, status int, temporary bool) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return !temporary
	case http.StatusInternalServerError:
		again := slices.Contains(r.failedAt, src)
		r.failedAt = append(r.failedAt, src)
		return again
	}
	return false
}

// fromStore tells whether an answer is that of an object store to which the registry has sent us.
func (s *Sources) fromStore(a *asked, resp *exchange.Response) bool {
	return !a.src.mirror && resp.Target.Left && resp.Target.URL.Host != s.Registry.Host()
}

// wrongRange says what is wrong with a 206 or 416, if anything.
func wrongRange(r *Request, a *asked, resp *exchange.Response) string {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return "416, though the range is inside the blob"
	}
	start, end, size, err := wire.ContentRange(resp.Header)
	switch {
	case !a.ranged:
		return "206, though no range was asked for"
	case err != nil:
		return err.Error()
	case start != r.Piece.Pos() || end < r.Piece.End() || size >= 0 && size != r.Size:
		return fmt.Sprintf("bytes %d-%d of %d, which is not what was asked for", start, end-1, size)
	}
	return ""
}

// rangeViolated says what an answer means that broke the rules for ranges. One node of many may be stale: the
// range is asked for again at a new URL and on a new connection. Where that is the habit of the registry, the
// blob is asked for as a whole.
func (s *Sources) rangeViolated(r *Request, a *asked, why string) error {
	err := fmt.Errorf("%w: %s", sentinel.ErrProtocol, why)
	if a.src.mirror {
		r.ignoredAt.Store(a.src, true)
		s.Schedule.RangesIgnored(r.Index)
		return err
	}
	habit := 1
	if r.Size >= largeSize || a.src.ranges.Load() {
		habit = 2
	}
	again, before := r.ranges.violate(habit)
	switch {
	case again:
		a.stale = true
		return retry.OtherWay(err)
	case before, a.ranged: // asked for before that was known
		s.Schedule.RangesIgnored(r.Index)
		return err
	case a.src.servesOthers(r.Blob) && r.wrong < retry.MaxTries-1: // some of its nodes are well
		r.wrong++
		a.stale = true
		return retry.OtherWay(err)
	default:
		return retry.Permanent(err)
	}
}

// rangeIgnored says what the whole blob means as the answer to a range; nil where it is to be taken.
func (s *Sources) rangeIgnored(r *Request, a *asked) error {
	if a.src.mirror {
		r.ignoredAt.Store(a.src, true)
		return nil
	}
	if a.ifRange {
		if r.ranges.disagree() {
			return retry.OtherWay(fmt.Errorf("%w: the nodes of the registry disagree on the ETag", sentinel.ErrProtocol))
		}
	}
	if again, _ := r.ranges.violate(1); again {
		a.stale = true
		return retry.OtherWay(fmt.Errorf("%w: 200 to a range, though ranges were served before", sentinel.ErrProtocol))
	}
	return nil
}
