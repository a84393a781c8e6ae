package push

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/fault"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sessions"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// resumeSize is the size from which on an upload is continued after a fault: below, asking how much has arrived
	// takes longer than sending it again.
	resumeSize = 8 << 20 // 8 MiB

	// abortTimeout bounds the deletion of an upload session.
	abortTimeout = 5 * time.Second
)

// session is an upload session of the registry.
type session struct {
	target   wire.Target     // where the upload goes on; zero when none is open
	offset   int64           // how much of the blob the session has
	minChunk int64           // the least size of a chunk
	saved    *sessions.Entry // remembers the session for a later call
	earlier  bool            // an earlier call has begun it, and it was not asked yet how much it has
	foreign  bool            // an earlier call has begun it: what it has may be of another file
}

func (s *session) isZero() bool { return s.target.IsZero() }

// claim takes over the session that an earlier call has left, if there is one.
func (b *Blob) claim() {
	if b.size < b.KeepSize || b.again {
		return
	}
	s := &b.session
	s.saved = b.Sessions.Claim(b.Registry.Blob(b.Repository, b.digest).URL.String())
	target, err := b.Registry.Uploads(b.Repository, url.Values{}).Resolve(s.saved.Session())
	if err == nil && !target.Left {
		s.target, s.earlier, s.foreign = target, true, true
	}
}

// beginning is the request that begins an upload.
func (b *Blob) beginning(query url.Values) exchange.Request {
	r := b.request(http.MethodPost, b.Registry.Uploads(b.Repository, query))
	r.Header = http.Header{"X-Redirect-Uploads": {"2"}, "X-Content-Length": {strconv.FormatInt(b.size, 10)}}
	return r
}

// open begins an upload, with the blob itself where it is small and the registry takes that. The first small blob finds
// out.
func (b *Blob) open(ctx context.Context) (state, error) {
	var single, trial bool
	if !b.memory.chunked {
		single, trial = b.learned.trySingle(b.size)
	}
	query := url.Values{}
	if single || b.learned.ollama.Load() {
		query.Set("digest", b.digest.String())
	}
	r := b.beginning(query)
	var a answer
	var err error
	if single {
		a, err = b.send(ctx, r, 0, b.size)
	} else {
		if b.learned.direct.Load() { // the URL that it answers with may be too old when there is room
			r.Room, r.Keep = b.size, &b.room
		}
		a, err = b.ask(ctx, r)
	}
	took := err == nil && a.is(http.StatusCreated)
	if trial { // a broken connection is how some refuse a body
		b.learned.takesSingle(took && a.whole())
	}
	switch {
	case err != nil && single:
		return b.recheck(), err
	case err != nil:
		return opening, err
	case took && (single || len(query) > 0 || a.digest() != ""):
		return b.created(a, single)
	case trial && a.refused():
		return opening, nil
	case a.temporary() && single:
		return b.recheck(), b.err(a)
	case a.failed:
		return opening, b.err(a)
	case !a.is(http.StatusAccepted):
		return opening, a.unexpected("202")
	case a.location() == "":
		return opening, retry.Permanent(fmt.Errorf("%w: POST %s: 202 without a Location", fault.ErrProtocol, wire.Redact(a.Target.URL)))
	}
	return sending, b.opened(a)
}

// created judges a 201 to the request that begins an upload. Without a body, it says that the registry has the blob.
func (b *Blob) created(a answer, single bool) (state, error) {
	next, err := b.stored(a)
	if next == done && !single && b.size > 0 && a.digest() != b.digest {
		b.memory.doubt = a.unexpected("202")
		return confirming, nil
	}
	return next, err
}

// opened learns what the registry tells with a new session.
func (b *Blob) opened(a answer) error {
	b.session = session{saved: b.session.saved, minChunk: wire.MinChunk(a.Header)}
	b.way = whole{b}
	if b.memory.chunked {
		b.way = chunks{b}
	}
	if b.memory.parts || a.Header.Get("Docker-Upload-Location") != "" {
		b.toParts()
	}
	if place := a.Header.Get("X-Direct-Upload-Url"); place != "" {
		header, err := wire.SignedHeaders(a.Header)
		if err != nil {
			return retry.Permanent(fmt.Errorf("%w: %w", fault.ErrProtocol, err))
		}
		target, err := a.Target.Resolve(place)
		if err != nil {
			return err
		}
		b.learned.direct.Store(true)
		b.way = &direct{Blob: b, target: target, header: header}
	}
	return b.follow(a)
}

// follow goes on where an answer says that the session is now.
func (b *Blob) follow(a answer) (err error) {
	if a.location() != "" {
		b.session.target, err = a.Target.Resolve(a.location())
	}
	if err == nil && b.resumable() {
		b.session.saved.Save(b.session.target.URL.String())
	}
	return err
}

// resumable tells whether a later call can continue the upload: not in an object store, whose URLs are signed for a
// short time and are secrets.
func (b *Blob) resumable() bool {
	return b.size >= b.KeepSize && b.way.resumable() && !b.session.isZero() && !b.session.target.Left
}

// restore asks a session how much it has, and goes on from there. A session that the registry does not know, or will not
// tell about, is given up.
func (b *Blob) restore(ctx context.Context) (state, error) {
	a, err := b.ask(ctx, b.request(http.MethodGet, b.session.target))
	switch {
	case err != nil:
		return restoring, err
	case a.failed && !a.refused():
		return restoring, b.err(a)
	case a.refused():
		b.drop(ctx)
		return opening, nil
	}
	have, err := wire.UploadRange(a.Header)
	if err != nil || have > b.size {
		b.drop(ctx)
		return opening, nil
	}
	b.session.offset, b.session.earlier = have, false
	if have > 0 || b.memory.chunked {
		b.way = chunks{b}
	}
	b.Log.LogAttrs(ctx, slog.LevelDebug, "upload continues",
		slog.String("digest", b.digest.String()), slog.Int64("offset", have))
	return sending, b.follow(a)
}

// drop deletes the session, if there is one, so that another can be begun.
func (b *Blob) drop(ctx context.Context) {
	if !b.session.isZero() {
		b.abort(ctx, b.session.target)
	}
	b.session = session{saved: b.session.saved}
}

// abort deletes a session. It has a short time of its own, also after a cancel, and may fail.
func (b *Blob) abort(ctx context.Context, session wire.Target) {
	if session.Left {
		return // an object store knows no sessions
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	a, err := b.ask(ctx, b.request(http.MethodDelete, session))
	for n := 0; err == nil && outOfStep(a) && retry.Sleep(ctx, retry.Delay(n, abortTimeout)) == nil; n++ {
		a, err = b.deleteCurrent(ctx, session)
	}
	if err == nil && a.failed {
		err = b.err(a)
	}
	if err != nil {
		b.Log.LogAttrs(ctx, slog.LevelDebug, "upload session not deleted", slog.Any("error", err))
	}
}

// deleteCurrent deletes a session where it is now.
func (b *Blob) deleteCurrent(ctx context.Context, session wire.Target) (answer, error) {
	a, err := b.ask(ctx, b.request(http.MethodGet, session))
	if err != nil || a.failed {
		return a, err
	}
	if a.location() != "" {
		if session, err = a.Target.Resolve(a.location()); err != nil || session.Left {
			return a, err
		}
	}
	return b.ask(ctx, b.request(http.MethodDelete, session))
}

// outOfStep tells whether a registry has more, or less, of a session than its URL says. It may still be writing what it
// got of a request that was cut.
func outOfStep(a answer) bool { return a.is(http.StatusRequestedRangeNotSatisfiable) }
