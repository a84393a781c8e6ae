package push

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/modeltransfer/transfer/internal/wire"
)

// open begins an upload, with the blob itself where it is small and the registry takes that. The first small
// blob finds out.
func (b *Blob) open(ctx context.Context) (outcome, error) {
	if !b.refusals.whole && !b.refusals.post && b.capabilities.single.try(b.size) {
		return b.openWithBody(ctx)
	}
	large := b.size > smallBody
	if large {
		if err := b.turn.await(ctx, b.budget); err != nil {
			return failed, err
		}
	}
	r, told := b.beginning(url.Values{})
	if b.capabilities.direct.Load() { // the URL that it answers with may be too old once there is a slot
		r.SlotFor, r.Keep = b.size, &b.source.slot
	}
	a, err := b.ask(ctx, r)
	if b.turn.asked = true; large { // its body takes long: nobody waits for that
		defer b.turn.lead.show()
	}
	switch {
	case err != nil:
		return failed, err
	case a.failed:
		return failed, b.err(a)
	case a.is(http.StatusCreated) && (told || a.digest() != ""):
		return b.existence.claimed(a)
	}
	return b.session.accept(a, told, b.refusals.inParts)
}

// openWithBody sends a small blob with the request that begins its upload. Where the registry refuses that,
// it is asked once without the body.
func (b *Blob) openWithBody(ctx context.Context) (outcome, error) {
	r, told := b.beginning(url.Values{"digest": {b.digest.String()}})
	a, err := b.source.send(ctx, r, 0, b.size, nil)
	b.turn.asked = true
	created := err == nil && a.is(http.StatusCreated)
	if created && a.whole() {
		b.capabilities.single.taken.Store(true)
	}
	switch {
	case err != nil:
		return lost, err
	case created:
		return b.existence.stored(a)
	case a.temporary():
		return lost, b.err(a)
	case a.refused():
		b.tried.resent = a.otherDigest(false)
		return refused, b.err(a)
	case a.failed:
		return failed, b.err(a)
	}
	return b.session.accept(a, told, b.refusals.inParts)
}

// errUnsettled is why a session is asked again.
var errUnsettled = errors.New("no answer came to what was sent, but the registry may still be getting it")

// restore asks a session how much it has, and goes on from there. A session that the registry does not know,
// or will not tell about, is given up. One that is elsewhere is when half of the retry budget is spent: its
// host may be one of several, and dead.
func (b *Blob) restore(ctx context.Context) (outcome, error) {
	s := &b.session
	a, err := b.ask(ctx, b.request(http.MethodGet, s.target))
	if err == nil && a.failed && !a.refused() {
		err = b.err(a)
	}
	switch {
	case err != nil && s.target.Left && b.budget.Left() < b.budget.Timeout()/2:
		return away, err
	case err != nil:
		return failed, err
	case a.webPage() && !a.failed:
		return failed, a.unexpected("204")
	}
	have, err := wire.UploadRange(a.Header)
	if a.failed || err != nil || have > b.size {
		b.refusals.cut(s.chunk, b.tried.broken)
		return b.refusals.chunkRefused(s, forgotten)
	}
	if b.source.pending && b.size >= resumeSize && have < b.size {
		if !b.growth.settled(have, b.budget, b.Exchange.Watchdog.StallTimeout()/4) {
			return growing, errUnsettled
		}
		b.source.pending = false
	}
	if have != s.offset { // then a chunk was refused for that
		b.refusals.suspect = nil
	}
	if got, err := b.refusals.chunkRefused(s, nextBody); err != nil {
		return got, err
	}
	s.offset, s.earlier = have, false
	if have > 0 && b.refusals.refusesChunks() {
		return forgotten, nil
	}
	b.Log.LogAttrs(ctx, slog.LevelDebug, "upload continues",
		slog.String("digest", b.digest.String()), slog.Int64("offset", have))
	return s.follow(a, nextBody)
}

// commit ends a session that has the whole blob.
func (b *Blob) commit(ctx context.Context) (outcome, error) {
	b.ending.sent = true
	b.session.ends++
	r := b.request(http.MethodPut, b.session.end())
	r.Header = http.Header{"Content-Type": {"application/octet-stream"}}
	r.DigestTime, r.AnswerTime = digestTime(b.size), b.source.late()
	a, err := b.ask(ctx, r)
	switch {
	case err != nil:
		if b.source.unanswered(err); b.source.pending { // for as long as the digest may take
			return lost, err
		}
		return timedOut, err
	case a.failed:
		return a.classify(b), b.err(a)
	default:
		return b.existence.stored(a)
	}
}
