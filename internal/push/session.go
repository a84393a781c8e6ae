package push

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/modeltransfer/transfer/internal/exchange"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/sessions"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// abortTimeout bounds the deletion of an upload session, while the registry answers.
	abortTimeout = 5 * time.Second

	// silenceTimeout bounds each request of it: a registry that is away keeps nobody who has cancelled the
	// call.
	silenceTimeout = time.Second
)

// session is an upload session of the registry.
type session struct {
	*item
	target   wire.Target     // where the upload goes on; zero when none is open
	offset   int64           // how much of the blob the session has
	minChunk int64           // the least size of a chunk
	chunk    int64           // the size of the chunk that was sent last
	saved    *sessions.Entry // remembers the session for a later call
	earlier  bool            // an earlier call has begun it, and it was not asked yet how much it has
	ends     int             // requests to end it that were sent
	foreign  bool            // an earlier call has begun it: what it has may be of another file
	told     bool            // the registry knows the digest since it was begun
	direct   *directUpload   // nil: the registry takes the bytes itself, or sends each request on
	parts    *partsUpload    // nil: the same
}

// claim takes over the session that an earlier call has left, if there is one.
func (s *session) claim() {
	if s.size < s.KeepSize {
		return
	}
	s.swept.Do(s.Sessions.Sweep)
	s.saved = s.Sessions.Claim(s.Registry.Blob(s.Repository, s.digest).URL.String())
	target, err := s.Registry.Uploads(s.Repository, url.Values{}).Resolve(s.saved.Session())
	if err == nil && !target.Left {
		s.target, s.earlier, s.foreign = target, true, true
	}
}

// accept goes on with the answer to a request that begins a session.
func (s *session) accept(a answer, told, inParts bool) (outcome, error) {
	switch {
	case !a.begins() && !a.is(http.StatusAccepted):
		return failed, a.unexpected("202")
	case a.location() == "":
		return failed, retry.Permanent(fmt.Errorf("%w: POST %s: 202 without a Location",
			sentinel.ErrProtocol, wire.Redact(a.Target.URL)))
	}
	return s.begin(a, told, inParts)
}

// instead goes on after a mount that was not made: a 202 says that a session was begun instead. Where one is
// open that an earlier call has begun, the new one is deleted, because it has less of the blob.
func (s *session) instead(ctx context.Context, a answer, told bool) (outcome, error) {
	if !s.target.IsZero() {
		if target, err := a.Target.Resolve(a.location()); err == nil {
			s.delete(ctx, target)
		}
		return refused, nil
	}
	switch got, err := s.begin(a, told, false); got {
	case failed:
		return failed, err
	case misbegun:
		s.drop(ctx)
	}
	return refused, nil
}

// ready returns nextBody, or misbegun: where the registry wants to be told the digest, and was not told it
// with the request that began the session, another request may make the session needless.
func (s *session) ready() outcome {
	if !s.told && s.wantsDigest() {
		return misbegun
	}
	return nextBody
}

// begin goes on with a new session, and learns how it wants the blob to be sent.
func (s *session) begin(a answer, told, inParts bool) (_ outcome, err error) {
	*s = session{item: s.item, saved: s.saved, told: told, minChunk: wire.MinChunk(a.Header)}
	ollama := a.Header.Get("Docker-Upload-Location") != ""
	switch {
	case a.Header.Get("X-Direct-Upload-Url") != "":
		s.direct, err = newDirect(a)
		s.capabilities.direct.Store(true)
	case ollama || inParts:
		s.parts = newParts(s.size)
	}
	if ollama {
		s.capabilities.ollama.Store(true)
	}
	if got, malformed := s.follow(a, s.ready()); err == nil { // else it is known, so that it is deleted
		return got, malformed
	}
	return failed, err
}

// patch is the request that adds the bytes [start, end).
func (s *session) patch(start, end int64) exchange.Request {
	r := s.request(http.MethodPatch, s.target)
	r.Header = http.Header{"Content-Range": {fmt.Sprintf("%d-%d", start, end-1)}}
	r.NoFollow = true
	return r
}

// canShrink tells whether the last chunk could have been smaller.
func (s *session) canShrink() bool { return s.chunk > max(s.minChunk, minChunk) }

// end is where the session is ended.
func (s *session) end() wire.Target {
	t := s.target.WithQuery("digest", s.digest.String())
	if s.parts != nil {
		t = t.WithQuery("etag", s.parts.etag())
	}
	return t
}

// follow goes on where an answer says that the session is now, and remembers that where a later call can go
// on.
func (s *session) follow(a answer, got outcome) (outcome, error) {
	if a.location() != "" {
		target, err := a.Target.Resolve(a.location())
		if err != nil {
			return failed, err
		}
		s.target = target
	}
	if s.lasts() {
		s.saved.Save(s.target.URL.String())
	}
	return got, nil
}

// lasts tells whether a later call can go on with the session: not in an object store, whose URLs are signed
// for a short time and are secrets.
func (s *session) lasts() bool {
	return s.size >= s.KeepSize && !s.target.IsZero() && !s.target.Left && s.direct == nil && s.parts == nil
}

// drop deletes the session, if there is one, so that another can be begun.
func (s *session) drop(ctx context.Context) {
	if !s.target.IsZero() {
		s.delete(ctx, s.target)
	}
	*s = session{item: s.item, saved: s.saved}
}

// delete deletes a session. It has a short time of its own, also after a cancel, and may fail.
func (s *session) delete(ctx context.Context, target wire.Target) {
	if target.Left {
		return // an object store knows no sessions
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	a, err := s.askSoon(ctx, s.request(http.MethodDelete, target))
	for n := 0; err == nil && a.outOfStep() && retry.Sleep(ctx, retry.Delay(n, abortTimeout)) == nil; n++ {
		a, err = s.deleteCurrent(ctx, target)
	}
	if err == nil && a.failed {
		err = s.err(a)
	}
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelDebug, "upload session not deleted", slog.Any("error", err))
	}
}

// deleteCurrent deletes a session where it is now.
func (s *session) deleteCurrent(ctx context.Context, target wire.Target) (answer, error) {
	a, err := s.askSoon(ctx, s.request(http.MethodGet, target))
	if err != nil || a.failed {
		return a, err
	}
	if a.location() != "" {
		if target, err = a.Target.Resolve(a.location()); err != nil || target.Left {
			return a, err
		}
	}
	return s.askSoon(ctx, s.request(http.MethodDelete, target))
}

// askSoon is ask for an answer that is not waited for long.
func (s *session) askSoon(ctx context.Context, r exchange.Request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, silenceTimeout)
	defer cancel()
	return s.ask(ctx, r)
}
