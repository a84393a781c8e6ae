package pull

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// learn remembers what an answer of the registry tells.
func (a *attempt) learn(resp *exchange.Response) {
	if a.src.mirror || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return
	}
	a.expired.Store(false)
	a.ranges.tagged(resp.Header.Get("ETag"))
	if !resp.Target.Left || a.remembered != nil && resp.Target.URL == a.remembered.URL {
		return // it led nowhere else
	}
	a.remembered = &resp.Target // so that this attempt can still drop it
	a.resolved.Store(a.remembered)
	if !a.redirects.Swap(true) {
		a.OnRedirects(resp.Target.Host())
	}
}

// check reports whether the answer is the bytes that were asked for, before one of them is read.
func (a *attempt) check(resp *exchange.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		switch n := resp.ContentLength; {
		case n != a.Size && wire.LooksLikeWebPage(resp.Header):
			return retry.Permanent(fmt.Errorf("%w: a web page instead of the blob (check the URL of the "+
				"registry, and whether a proxy or a login page answers in its place)", sentinel.ErrProtocol))
		case n >= 0 && n != a.Size:
			return retry.Permanent(
				fmt.Errorf("%w: the registry has %d bytes, not %d", sentinel.ErrSizeMismatch, n, a.Size))
		}
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		if why := a.wrongRange(resp); why != "" {
			return a.rangeViolated(why)
		}
	default:
		return a.refusal(resp)
	}
	if coding := wire.Coding(resp.Response, a.Size); coding != "" {
		return retry.Permanent(
			fmt.Errorf("%w: content coding %.20q, which was not asked for", sentinel.ErrProtocol, coding))
	}
	return nil
}

// refusal says what a failure means: a signed URL that was refused, a range that was, or that there is no
// blob.
func (a *attempt) refusal(resp *exchange.Response) error {
	status := resp.StatusCode
	err := a.Exchange.Error(resp)
	if status == http.StatusNotFound {
		err = notFoundError{err}
	}
	fromStore := !a.src.mirror && resp.Target.Left && resp.Target.Host() != a.Registry.Host()
	if fromStore && !retry.Retryable(err) {
		if err = a.signatureRefused(err); retry.IsOtherWay(err) {
			return err
		}
	}
	a.rangeRefused = a.ranged && !a.src.ranges.Load() && a.refusesRanges(status, retry.Retryable(err))
	return err
}

// signatureRefused says what the refusal of an object store means: its URL was signed for a short time. It
// is asked for anew where it was remembered, and else once until bytes come: it may have expired while the
// request waited for a slot, and a cache before the registry may hand out old ones.
func (a *attempt) signatureRefused(err error) error {
	if a.remembered == nil && a.refused {
		return err
	}
	a.refused = true
	a.expired.Store(true)
	return retry.OtherWay(err)
}

// refusesRanges tells whether an answer to a range may mean that ranges are refused, and the blob served
// without. A 500 may pass, and means that only when it comes again.
func (a *attempt) refusesRanges(status int, temporary bool) bool {
	if status == http.StatusInternalServerError {
		again := slices.Contains(a.failedAt, a.src)
		a.failedAt = append(a.failedAt, a.src)
		return again
	}
	return wire.RefusesRange(status) && !temporary
}

// wrongRange says what is wrong with a 206 or 416, if anything.
func (a *attempt) wrongRange(resp *exchange.Response) string {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return "416, though the range is inside the blob"
	}
	start, end, size, err := wire.ContentRange(resp.Header)
	switch {
	case !a.ranged:
		return "206, though no range was asked for"
	case err != nil:
		return err.Error()
	case start != a.Piece.Pos() || end < a.Piece.End() || size >= 0 && size != a.Size:
		return fmt.Sprintf("bytes %d-%d of %d, which is not what was asked for", start, end-1, size)
	}
	return ""
}

// rangeViolated says what an answer means that broke the rules for ranges. One node of many may be stale: the
// range is asked for again at a new URL and on a new connection. Where that is the habit of the registry, the
// blob is asked for as a whole.
func (a *attempt) rangeViolated(why string) error {
	err := fmt.Errorf("%w: %s", sentinel.ErrProtocol, why)
	if a.src.mirror {
		a.mirrors.ignoredAt.Store(a.src, true)
		a.Schedule.RangesIgnored(a.Index)
		return err
	}
	habit := 1
	if a.Size >= largeSize || a.src.ranges.Load() {
		habit = 2
	}
	again, before := a.ranges.violate(habit, a.violations)
	switch {
	case again:
		a.stale = true
		return retry.OtherWay(err)
	case before, a.ranged: // asked for before that was known
		a.Schedule.RangesIgnored(a.Index)
		return err
	case a.src.servesOthers(a.Blob) && a.wrong < retry.MaxTries-1: // some of its nodes are well
		a.wrong++
		a.stale = true
		return retry.OtherWay(err)
	default:
		return retry.Permanent(err)
	}
}
