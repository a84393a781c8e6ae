// Package pull fetches one piece of a blob from the mirrors of a registry or from the registry itself.
//
// An answer counts only when it is the bytes that were asked for:
//
//	status                          is taken for
//	200 to a request without Range  the blob
//	200 to a range                  the blob, and a registry that ignores ranges; where this blob's ranges
//	                                were served before, a stale node; after If-Range, another ETag
//	a lasting 4xx but 401, 404,     ranges that are refused, where the source has served none: the blob is
//	407 and 410, or 501, to a       asked for without a range, once
//	range, 500 to a second one
//	206, exactly the range          the range
//	another 206, 416                a violation: the range is asked for again at a new URL, or the whole
//	                                blob where violations are the registry's habit
//	a lasting one of an object      a signed URL that has expired: another is asked for, once for each piece
//	store, such as 400 or 403       where it was used at once, always where it was remembered
//	all others                      a failure
package pull

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pieces"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/watchdog"
	"github.com/modeltransfer/transfer/internal/wire"
)

// Config says where pieces come from.
type Config struct {
	Exchange   *exchange.Exchange
	Registry   *wire.Registry
	Mirrors    []*wire.Registry
	Repository string
	Schedule   *pieces.Scheduler
	Log        *slog.Logger

	// Moved is told of n bytes that are stored.
	Moved func(n int64)

	// OnRedirects is called once, when the registry is found to answer with redirects to a host. Asking needs
	// no slot then.
	OnRedirects func(host string)

	// OnSkipped is told of a mirror that is left alone, with its last error, and until when. Nil means that
	// nobody wants to know.
	OnSkipped func(host string, err error, until time.Time)
}

// Sources are the mirrors and the registry. They are safe for concurrent use.
type Sources struct {
	Config
	all       []*source
	redirects atomic.Bool
}

// New returns sources. Mirrors are asked first, in their order.
func New(c Config) *Sources {
	s := &Sources{Config: c}
	for _, m := range c.Mirrors {
		s.all = append(s.all, &source{Registry: m, mirror: true})
	}
	s.all = append(s.all, &source{Registry: c.Registry})
	return s
}

// storeError is an error of the writer, and so of the disk. No source is to blame.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// Fetch fetches what is left of the piece, from each source that is worth it until one succeeds. The error
// that counts is the registry's. What came is in w, also on failure.
func (p *PieceFetch) Fetch(ctx context.Context, w io.Writer) (err error) {
	for _, src := range p.all {
		if src.mirror && !p.worthAsking(ctx, src) {
			continue
		}
		start := p.Piece.Pos()
		err = p.fetchFrom(ctx, src, w)
		_, disk := errors.AsType[storeError](err)
		if err == nil || disk || ctx.Err() != nil { // the latter where another took the piece over
			src.health.unknown()
			return err
		}
		if src.mirror {
			p.mirrorFailed(ctx, src, p.Piece.Pos() > start, err)
			if p.Piece.Pos() == p.Piece.End() {
				return nil // it failed behind the end of the piece
			}
		}
	}
	if p.mirrorIsNear() && (retry.Asked(err) > 0 || errors.Is(err, exchange.ErrHeld)) {
		return retry.OtherWay(err)
	}
	return err
}

// mirrorIsNear tells whether a mirror may have the blob that has not failed for long: then nobody waits for a
// registry that asks to be left alone.
func (p *PieceFetch) mirrorIsNear() bool {
	for _, src := range p.all {
		if src.mirror && p.mayHave(src) && !src.health.isAlone() {
			return true
		}
	}
	return false
}

// fetchFrom asks a source, and once more without a range where that was refused. It notes what the next
// attempt needs to know of the error.
func (p *PieceFetch) fetchFrom(ctx context.Context, src *source, w io.Writer) error {
	p.rangeRefused = false
	err := p.from(src).run(ctx, w)
	if p.rangeRefused && ctx.Err() == nil {
		err = p.from(src).run(ctx, w)
	}
	switch {
	case watchdog.IsSlow(err):
		p.slow++
	case errors.Is(err, exchange.ErrUnanswered) && !src.mirror:
		p.unanswered++
	}
	return err
}

// worthAsking tells whether a mirror may have the blob, and is worth asking now.
func (p *PieceFetch) worthAsking(ctx context.Context, mirror *source) bool {
	return p.mayHave(mirror) && mirror.health.ask(ctx, p.Exchange.Watchdog.StallTimeout()/3)
}

// mayHave tells whether a mirror does not lack the blob, as far as is known, and does not want to be left
// alone.
func (p *PieceFetch) mayHave(mirror *source) bool {
	_, lacking := p.mirrors.notFoundAt.Load(mirror)
	return !lacking && !p.SkipMirrors.Load() && p.Exchange.Held(mirror.Host()) <= 0
}

// mirrorFailed remembers what a failure of a mirror means, after which the next source is asked. A mirror
// need not have every blob, and one that has brought bytes is there.
func (p *PieceFetch) mirrorFailed(ctx context.Context, mirror *source, moved bool, err error) {
	level, what := slog.LevelDebug, "mirror failed, asking the next"
	switch {
	case errors.As(err, new(notFoundError)):
		p.mirrors.notFoundAt.Store(mirror, true)
		mirror.health.answered()
	case moved, errors.Is(err, exchange.ErrHeld), retry.NoDescriptor(err):
		mirror.health.unknown()
	case mirror.health.failed():
		level, what = slog.LevelWarn, "mirror keeps failing and is left alone for a while"
	}
	until, news := mirror.health.leftAlone(p.Exchange.Held(mirror.Host()))
	if news && p.OnSkipped != nil {
		p.OnSkipped(mirror.Host(), err, until)
	}
	p.Log.LogAttrs(ctx, level, what, slog.String("mirror", mirror.Host()),
		slog.String("digest", p.Digest.String()), slog.Any("error", err))
}

// notFoundError is the failure of a source that does not have the blob.
type notFoundError struct{ error }

func (e notFoundError) Unwrap() error { return e.error }
