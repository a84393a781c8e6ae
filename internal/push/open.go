package push

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/modeltransfer/transfer/internal/fault"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
)

// open begins an upload, with the blob itself where it is small and the registry takes that. The first small blob finds
// out.
func (b *Blob) open(ctx context.Context) (state, error) {
	if b.recovery.chunked {
		return b.openWithout(ctx)
	}
	switch single, trial := b.learned.trySingle(b.size); {
	case single:
		return b.openWith(ctx, trial)
	default:
		return b.openWithout(ctx)
	}
}

// openWith begins an upload with the blob itself, which may be all.
func (b *Blob) openWith(ctx context.Context, trial bool) (state, error) {
	r := b.beginning(url.Values{"digest": {b.digest.String()}})
	a, err := b.source.send(ctx, r, 0, b.size)
	took := err == nil && a.is(http.StatusCreated)
	if trial { // a broken connection is how some refuse a body
		b.learned.takesSingle(took && a.whole())
	}
	switch {
	case err != nil:
		return b.presence.recheck(), err
	case took:
		return b.created(a, true)
	case trial && a.refused():
		return opening, nil
	case a.temporary():
		return b.presence.recheck(), b.err(a)
	default:
		return b.begun(a)
	}
}

// openWithout begins an upload whose body comes later. Some registries answer that they have the blob.
func (b *Blob) openWithout(ctx context.Context) (state, error) {
	query := url.Values{}
	if b.learned.ollama.Load() {
		query.Set("digest", b.digest.String())
	}
	r := b.beginning(query)
	if b.learned.direct.Load() { // the URL that it answers with may be too old when there is room
		r.Room, r.Keep = b.size, &b.source.room
	}
	a, err := b.ask(ctx, r)
	switch {
	case err != nil:
		return opening, err
	case a.is(http.StatusCreated) && (len(query) > 0 || a.digest() != ""):
		return b.created(a, false)
	default:
		return b.begun(a)
	}
}

// begun judges the answer to a request that begins an upload, where that is not all.
func (b *Blob) begun(a answer) (state, error) {
	switch {
	case a.failed:
		return opening, b.err(a)
	case !a.is(http.StatusAccepted):
		return opening, a.unexpected("202")
	case a.location() == "":
		return opening, retry.Permanent(fmt.Errorf("%w: POST %s: 202 without a Location",
			fault.ErrProtocol, wire.Redact(a.Target.URL)))
	}
	return sending, b.opened(a)
}

// created judges a 201 to the request that begins an upload. Without a body, it says that the registry has the blob.
func (b *Blob) created(a answer, single bool) (state, error) {
	next, err := b.presence.stored(a)
	if next == done && !single && b.size > 0 && a.digest() != b.digest {
		b.presence.doubt = a.unexpected("202")
		return confirming, nil
	}
	return next, err
}

// opened learns what the registry tells with a new session.
func (b *Blob) opened(a answer) error {
	b.session.begin(a)
	b.way = whole{b}
	if b.recovery.chunked {
		b.way = chunks{b}
	}
	if b.recovery.parts || a.Header.Get("Docker-Upload-Location") != "" {
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
	return b.session.follow(a, b.way.resumable())
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
		b.session.drop(ctx)
		return opening, nil
	}
	have, err := wire.UploadRange(a.Header)
	if err != nil || have > b.size {
		b.session.drop(ctx)
		return opening, nil
	}
	b.session.offset, b.session.earlier = have, false
	if have > 0 || b.recovery.chunked {
		b.way = chunks{b}
	}
	b.Log.LogAttrs(ctx, slog.LevelDebug, "upload continues",
		slog.String("digest", b.digest.String()), slog.Int64("offset", have))
	return sending, b.session.follow(a, b.way.resumable())
}
