package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// open begins an upload, with the blob itself where it is small and the registry takes that. The first small
// blob finds out.
func (b *Blob) open(ctx context.Context) (state, error) {
	if !b.recovery.chunked && !b.recovery.noSingle {
		if single, trial := b.learned.trySingle(b.size); single {
			return b.openWithBody(ctx, trial)
		}
	}
	large := b.size > smallBody
	if large {
		if err := b.await(ctx); err != nil {
			return opening, err
		}
	}
	query := url.Values{}
	told := b.tellDigest(query)
	r := b.beginning(query)
	if b.learned.direct.Load() { // the URL that it answers with may be too old when there is room
		r.Room, r.Keep = b.size, &b.source.room
	}
	a, err := b.ask(ctx, r)
	if b.asked = true; large { // its body takes long: nobody waits for that
		defer b.learned.first.show()
	}
	switch {
	case err != nil:
		return opening, err
	case a.failed:
		return opening, b.err(a)
	case a.is(http.StatusCreated) && (told || a.digest() != ""):
		return b.presence.claimed(a)
	}
	return b.accepted(ctx, a, told)
}

// tellDigest has a request that begins an upload name the blob, where the registry wants to be told. It mounts
// what it has in other repositories. Others take such a request for a blob of no bytes.
func (b *Blob) tellDigest(query url.Values) (told bool) {
	if told = b.wantsTold(); told {
		query.Set("digest", b.digest.String())
	}
	return told
}

// wantsTold tells whether the registry may have the blob without its bytes, once it is told the digest. One that
// has said so in vain would say it again.
func (b *Blob) wantsTold() bool { return b.learned.ollama.Load() && !b.presence.disproved }

// openWithBody sends a small blob with the request that begins its upload. Where the registry refuses that,
// it is asked once without the body.
func (b *Blob) openWithBody(ctx context.Context, trial bool) (state, error) {
	a, err := b.source.send(ctx, b.beginning(url.Values{"digest": {b.digest.String()}}), 0, b.size)
	b.asked = true
	created := err == nil && a.is(http.StatusCreated)
	if trial { // a broken connection is how some refuse a body
		b.learned.takesSingle(created && a.whole())
	}
	switch {
	case err != nil:
		return b.presence.recheck(), err
	case created:
		return b.presence.stored(a)
	case a.temporary():
		return b.presence.recheck(), b.err(a)
	case a.refused():
		b.recovery.noSingle, b.recovery.resent = true, b.recovery.otherDigest(a)
		return opening, nil
	case a.failed:
		return opening, b.err(a)
	}
	return b.accepted(ctx, a, true)
}

// accepted judges an answer that should be a 202 with a new session.
func (b *Blob) accepted(ctx context.Context, a answer, told bool) (state, error) {
	switch {
	case !a.is(http.StatusAccepted):
		return opening, a.unexpected("202")
	case a.location() == "":
		return opening, retry.Permanent(fmt.Errorf("%w: POST %s: 202 without a Location",
			sentinel.ErrProtocol, wire.Redact(a.Target.URL)))
	}
	if err := b.opened(a, told); err != nil {
		return sending, err
	}
	return b.begin(ctx, sending), nil
}

// begin is where an upload goes on before the first byte of a session. One whose digest was not told may not be
// needed, as is known only now: it is given up, and the next one is told.
func (b *Blob) begin(ctx context.Context, next state) state {
	if b.session.told || !b.wantsTold() {
		return next
	}
	b.session.drop(ctx)
	return opening
}

// opened learns what the registry tells with a new session.
func (b *Blob) opened(a answer, told bool) error {
	b.session.begin(a)
	b.session.told = told
	switch {
	case a.Header.Get("X-Direct-Upload-Url") != "":
		d, err := newDirect(b, a)
		if err != nil {
			_ = b.session.follow(a, false) // so that it is deleted
			return err
		}
		b.way = d
	case b.recovery.parts || a.Header.Get("Docker-Upload-Location") != "":
		b.way = newParts(b)
	case b.recovery.inChunks():
		b.way = chunks{b}
	default:
		b.way = whole{b}
	}
	return b.follow(a)
}

// follow goes on where an answer says that the session is now.
func (b *Blob) follow(a answer) error { return b.session.follow(a, b.way.resumable()) }

// errUnsettled has a session asked again.
var errUnsettled = errors.New("no answer came to what was sent, but the registry may still be getting it")

// restore asks a session how much it has, and goes on from there. A session that the registry does not know,
// or will not tell about, is given up.
func (b *Blob) restore(ctx context.Context) (state, error) {
	a, err := b.ask(ctx, b.request(http.MethodGet, b.session.target))
	switch {
	case err != nil:
		return b.recovery.unreached(ctx), err
	case a.failed && !a.refused():
		return b.recovery.unreached(ctx), b.err(a)
	case a.webPage() && !a.failed:
		return restoring, a.unexpected("204")
	}
	have, err := wire.UploadRange(a.Header)
	if a.failed || err != nil || have > b.size {
		b.recovery.forgotten()
		err := b.recovery.chunkRefused()
		return b.recovery.begunAnew(ctx), err
	}
	if !b.recovery.settled(have) {
		return restoring, retry.OtherWay(errUnsettled)
	}
	if err := b.recovery.agreed(have == b.session.offset); err != nil {
		return recovering, err
	}
	b.session.offset, b.session.earlier = have, false
	switch {
	case b.recovery.wholeOnly() && have > 0:
		return b.recovery.begunAnew(ctx), nil
	case have > 0 || b.recovery.inChunks():
		b.way = chunks{b}
	default:
		b.way = whole{b}
	}
	b.Log.LogAttrs(ctx, slog.LevelDebug, "upload continues",
		slog.String("digest", b.digest.String()), slog.Int64("offset", have))
	return sending, b.follow(a)
}

// commit ends a session that has the whole blob.
func (b *Blob) commit(ctx context.Context) (state, error) {
	b.recovery.commitSent = true
	b.session.ends++
	r := b.request(http.MethodPut, b.way.end())
	r.Header = http.Header{"Content-Type": {"application/octet-stream"}}
	r.AnswerTime = b.source.answerTime(b.size)
	a, err := b.ask(ctx, r)
	switch {
	case err != nil:
		b.source.unanswered(err)
		return recovering, err
	case a.failed:
		return b.recovery.judge(ctx, a)
	default:
		return b.presence.stored(a)
	}
}
