// Package pull fetches one piece of a blob from the mirrors of a registry or from the registry itself.
//
// An answer counts only when it is the bytes that were asked for:
//
//	status                          is taken for
//	200 to a request without Range  the blob
//	200 to a range                  the blob, and a registry that ignores ranges; where this blob's ranges
//	                                were served before, a stale node; after If-Range, another ETag
//	400, 403, 405, 501 to a range,  ranges that are refused, where the source has served none: the blob is
//	500 to a second one             asked for without a range, once
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
	"net/http"
	"sync/atomic"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/pieces"
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
	started   time.Time
}

// New returns sources. Mirrors are asked first, in their order.
func New(c Config) *Sources {
	s := &Sources{Config: c, started: time.Now()}
	for _, m := range c.Mirrors {
		s.all = append(s.all, &source{Registry: m, mirror: true})
	}
	s.all = append(s.all, &source{Registry: c.Registry})
	return s
}

func (s *Sources) stallTimeout() time.Duration { return s.Exchange.Watchdog.StallTimeout() }

func (s *Sources) now() time.Duration { return time.Since(s.started) }

// StoreError is an error of the writer, and so of the disk. No source is to blame.
type StoreError struct{ Err error }

func (e *StoreError) Error() string { return e.Err.Error() }
func (e *StoreError) Unwrap() error { return e.Err }

// Fetch makes one attempt at what is left of a piece, at each source that is worth it until one succeeds. The
// error that counts is the registry's. What came is in w, also on failure.
func (s *Sources) Fetch(ctx context.Context, p *PieceFetch, w io.Writer) (err error) {
	for _, src := range s.all {
		if src.mirror && !s.worthAsking(ctx, src, p.Blob) {
			continue
		}
		start := p.Piece.Pos()
		err = s.fetchFrom(ctx, src, p, w)
		p.count(err)
		_, disk := errors.AsType[*StoreError](err)
		if err == nil || disk || ctx.Err() != nil { // the latter where another took the piece over
			src.health.unknown()
			return err
		}
		if src.mirror {
			s.mirrorFailed(ctx, src, p, p.Piece.Pos() > start, err)
			if p.Piece.Pos() == p.Piece.End() {
				return nil // it failed behind the end of the piece
			}
		}
	}
	return err
}

// fetchFrom makes one attempt at a source, and another without a range where that was refused.
func (s *Sources) fetchFrom(ctx context.Context, src *source, p *PieceFetch, w io.Writer) error {
	p.rangeRefused = false
	err := s.attempt(src, p).run(ctx, w)
	if p.rangeRefused && ctx.Err() == nil {
		return s.attempt(src, p).run(ctx, w)
	}
	return err
}

// worthAsking tells whether a mirror may have the blob. One that wants to be left alone is passed over
// meanwhile.
func (s *Sources) worthAsking(ctx context.Context, mirror *source, b *Blob) bool {
	_, lacking := b.mirrors.notFoundAt.Load(mirror)
	return !lacking && !b.SkipMirrors.Load() && s.Exchange.Held(mirror.Host()) <= 0 &&
		mirror.health.ask(ctx, s.stallTimeout()/3)
}

// mirrorFailed remembers what a failure of a mirror means, after which the next source is asked. A mirror
// need not have every blob, and one that has brought bytes is there.
func (s *Sources) mirrorFailed(ctx context.Context, mirror *source, p *PieceFetch, moved bool, err error) {
	level, what := slog.LevelDebug, "mirror failed, asking the next"
	switch {
	case errors.Is(err, errNotFound):
		p.mirrors.notFoundAt.Store(mirror, true)
		mirror.health.answered()
	case moved, errors.Is(err, exchange.ErrHeld):
		mirror.health.unknown()
	case mirror.health.failed():
		level, what = slog.LevelWarn, "mirror keeps failing and is left alone for a while"
	}
	s.skipped(mirror, err)
	s.Log.LogAttrs(ctx, level, what, slog.String("mirror", mirror.Host()),
		slog.String("digest", p.Digest.String()), slog.Any("error", err))
}

// skipped tells of a mirror that is left alone since its last failure.
func (s *Sources) skipped(mirror *source, err error) {
	if s.OnSkipped == nil {
		return
	}
	if until, news := mirror.health.leftAlone(s.Exchange.Held(mirror.Host())); news {
		s.OnSkipped(mirror.Host(), err, until)
	}
}

// errNotFound goes with the failure of a source that does not have the blob.
var errNotFound = errors.New("not there")

// notFound marks the error of a 404.
func notFound(status int, err error) error {
	if status != http.StatusNotFound {
		return err
	}
	return &notFoundError{err}
}

type notFoundError struct{ error }

func (e *notFoundError) Unwrap() error        { return e.error }
func (e *notFoundError) Is(target error) bool { return target == errNotFound }
