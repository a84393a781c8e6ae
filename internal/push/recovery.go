package push

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/modeltransfer/transfer/internal/retry"
)

const (
	// resumeSize is the size from which on an upload is continued after a fault: below, asking how much has
	// arrived takes longer than sending it again.
	resumeSize = 8 << 20 // 8 MiB

	// maxBroken is how often in a row a small body may break before its upload is continued too: it may be that
	// no connection lasts for all of it.
	maxBroken = 3

	// mediumChunk is the size of the chunks that follow one that was refused: GHCR takes no larger ones.
	mediumChunk = 4 << 20 // 4 MiB

	// maxRestarts is how often in a row a registry may forget the session of a blob.
	maxRestarts = 3
)

// statusTimeoutOccurred is what Cloudflare says where others say 504.
const statusTimeoutOccurred = 524

// recovery decides how an upload goes on after a failure.
type recovery struct {
	blob       *Blob
	commitSent bool // the request that ends the session may have arrived
	chunked    bool // a whole body was refused, or broke
	parts      bool // the registry has shown late that it wants parts
	noExpect   bool // a body was taken to be complete before it had left, and is sent without being asked for
	renewed    bool // a store refused the body, and a new URL was asked for
	resent     bool // the registry found another digest, and the blob was sent anew
	restarts   int  // sessions in a row that the registry has forgotten
	conflicted bool // a session that may have been ended before was refused for being so
	broken     int  // bodies in a row of which it is not known what became of them

	refusals
	// have is what the session had when it was asked last, and since is when that was new: zero before it was
	// asked. They are kept after a request of which all was sent and that was not answered.
	have  int64
	since time.Time
	most  int64 // that any session of the blob has had

	digesting time.Time // when a gateway first gave up waiting for the end of the upload

	// limit is the largest chunk that is worth trying, 0 where there is none. It is for registries that lose a
	// session with each body that is cut.
	limit int64
}

// refusals are the ways that the registry has refused for the blob.
type refusals struct {
	noSingle bool  // with the request that begins the upload
	noPuts   bool  // with one PUT
	noChunks bool  // with PATCH, in chunks of any size
	refusal  error // of the last chunk, until it is known whether the session has what it should
}

// taken notes that a body was taken, up to an offset of the blob: what goes wrong from now on is another
// matter. Where a session was lost, what is taken again renews the budget too, but not for ever.
func (r *recovery) taken(upTo int64) {
	r.broken, r.renewed, r.digesting = 0, false, time.Time{}
	if r.had(upTo) && upTo < r.blob.size {
		r.restarts = 0
	}
	if r.blob.source.rewinds.Load() <= maxRestarts {
		r.blob.budget.Renew()
	}
}

// had notes how much a session has, and tells whether none has had so much before.
func (r *recovery) had(offset int64) (more bool) {
	more = offset > r.most
	r.most = max(r.most, offset)
	return more
}

// inChunks tells whether the blob goes in chunks, though a session has nothing of it yet.
func (r *recovery) inChunks() bool {
	return !r.wholeOnly() && (r.chunked || r.withPatch())
}

// withPatch tells whether the registry takes no whole body with PUT. Then it may have them sent elsewhere.
func (r *recovery) withPatch() bool { return r.noPuts || r.blob.learned.patches.Load() }

// wholeOnly tells whether the registry takes no chunk.
func (r *recovery) wholeOnly() bool { return r.noChunks || r.blob.learned.puts.Load() }

// agreed goes on after a session was asked how much it has. Where that is what it should, a chunk that was
// refused before was not refused for being out of step.
func (r *recovery) agreed(yes bool) error {
	if yes {
		return r.chunkRefused()
	}
	r.refusal = nil
	return nil
}

// chunkRefused goes on after a chunk was refused in a session that has what it should: with chunks of
// mediumChunk, then of minChunk, and then with one PUT. Where that was refused before, it returns the error of
// the refusal.
func (r *recovery) chunkRefused() error {
	err := r.refusal
	if err == nil {
		return nil
	}
	r.refusal = nil
	for _, size := range []int64{mediumChunk, minChunk} {
		if r.blob.session.chunk > size && r.blob.session.minChunk <= size {
			r.blob.learned.chunk.Refused(2 * size)
			return nil
		}
	}
	if r.noPuts {
		return err
	}
	r.noChunks = true
	return nil
}

// forgotten notes that the registry has lost a session. Where that comes of a body that was cut, as at
// distribution 2, only what arrives as a whole counts.
func (r *recovery) forgotten() {
	if r.broken > 0 {
		last := min(cmp.Or(r.limit, r.blob.session.chunk, startChunk), r.blob.size)
		r.limit, r.chunked = max(last/4, minChunk), true
	}
}

// byChunks has the blob sent in chunks from its beginning.
func (r *recovery) byChunks() { r.chunked, r.commitSent = true, false }

// judge says what a failure means for the upload session: the state that follows, and the error of this
// attempt.
func (r *recovery) judge(ctx context.Context, a answer) (state, error) {
	b := r.blob
	err := b.err(a)
	switch {
	case a.temporary():
		r.gaveUp(a)
		return recovering, err
	case a.is(http.StatusRequestEntityTooLarge, http.StatusLengthRequired):
		return r.tooLarge(a, err)
	case a.expired(b.session.target) && !r.renewed:
		r.renewed = true
		return r.renew(ctx, a), retry.OtherWay(err)
	case a.is(http.StatusConflict) && b.session.ends > 1 && !r.conflicted:
		r.conflicted = true // HEAD tells whether an earlier request has ended it
		return recovering, retry.OtherWay(err)
	}
	if b.state == sending {
		if next, ok := b.way.refused(ctx, a); ok {
			b.Log.LogAttrs(ctx, slog.LevelDebug, "body refused, sending it another way",
				slog.String("digest", b.digest.String()), slog.Any("error", err))
			return next, nil
		}
	}
	switch {
	case a.outOfStep() && b.size >= resumeSize && r.restarts < maxRestarts-1:
		r.restarts++ // it is asked once more how much it has; the last time begins a new session
		return recovering, retry.OtherWay(err)
	case a.sessionLost() && r.restarts < maxRestarts:
		r.restarts++
		return r.begunAnew(ctx), retry.OtherWay(err)
	case r.otherDigest(a) && !r.resent:
		r.resent, r.commitSent = true, false
		b.session.drop(ctx)
		return opening, retry.OtherWay(err)
	}
	return recovering, err
}

// gaveUp notes that a gateway did not wait until the registry had digested the blob. That may take as long as
// an answer that is held: so long the budget does not run.
func (r *recovery) gaveUp(a answer) {
	if !r.commitSent || !a.is(http.StatusGatewayTimeout, statusTimeoutOccurred) {
		return
	}
	if r.digesting.IsZero() {
		r.digesting = time.Now()
	}
	if time.Since(r.digesting) < digestTime(r.blob.size) {
		r.blob.budget.Renew()
	}
}

// begunAnew is where an upload goes on whose session is not known any more, perhaps because a request to end
// it has arrived in the meantime.
func (r *recovery) begunAnew(ctx context.Context) state {
	r.commitSent = r.commitSent || r.blob.session.ends > 0
	r.blob.session.drop(ctx)
	return recovering
}

// tooLarge goes on with smaller bodies. Where none has left, the session is as it was.
func (r *recovery) tooLarge(a answer, err error) (state, error) {
	smaller := r.blob.way.smaller()
	if smaller == nil {
		return recovering, err
	}
	if a.whole() {
		return recovering, retry.OtherWay(err)
	}
	r.blob.way, r.commitSent = smaller, false
	return sending, nil
}

// renew has a URL that has expired replaced by a new one. Where no byte has left, the session is as it was,
// and its redirect is a new URL.
func (r *recovery) renew(ctx context.Context, a answer) state {
	way := r.blob.way
	if way.resumable() && a.whole() {
		return recovering
	}
	r.commitSent = false
	if way.resumable() {
		return sending
	}
	return way.afterFault(ctx)
}

// otherDigest tells whether the registry has found another digest than we have. The bytes may have changed on
// their way or, in a session that an earlier call began, be those of another file.
func (r *recovery) otherDigest(a answer) bool {
	others := r.blob.session.foreign && r.commitSent
	return a.is(http.StatusBadRequest) && (others || a.failure.Has("DIGEST_INVALID"))
}

// unsent goes on after a success that was told before the body had left. It is sent again without the
// question that a server may have taken for all of it, once.
func (r *recovery) unsent(a answer) (state, error) {
	err := a.unexpected("the body being read")
	if r.noExpect {
		return recovering, err
	}
	r.noExpect = true
	r.blob.learned.noExpect.Store(true)
	return recovering, retry.OtherWay(err)
}

// recover finds out after a fault whether the blob has arrived all the same, and if not, how to go on.
func (r *recovery) recover(ctx context.Context) (state, error) {
	b := r.blob
	if r.commitSent && !b.presence.disproved {
		found, err := b.exists(ctx)
		if err != nil {
			return recovering, err
		}
		if found == proven {
			return done, nil
		}
	}
	r.commitSent = false
	if b.session.isZero() {
		return opening, nil
	}
	return b.way.afterFault(ctx), nil
}

// askOrDrop asks a session how much it has where that is worth it, and otherwise deletes it.
func (r *recovery) askOrDrop(ctx context.Context) state {
	b := r.blob
	if r.refusal != nil {
		return restoring
	}
	if r.broken++; b.size < resumeSize && b.source.overdue == 0 && r.broken < maxBroken {
		b.session.drop(ctx)
		return opening
	}
	return restoring
}

// settled tells whether a session that has so much has stopped growing. Where all of a body was sent and no
// answer came, a proxy may still be passing on what it has taken. What is sent meanwhile is sent in vain.
func (r *recovery) settled(have int64) bool {
	b := r.blob
	if !b.source.pending || b.size < resumeSize || have == b.size {
		return true
	}
	if r.since.IsZero() || have != r.have {
		if r.had(have) {
			b.budget.Renew()
		}
		r.have, r.since = have, time.Now()
		return false
	}
	if time.Since(r.since) < b.Exchange.Watchdog.StallTimeout()/4 {
		return false
	}
	r.since, b.source.pending = time.Time{}, false
	return true
}

// unreached is where an upload goes on whose session could not be asked how much it has. One that is
// elsewhere is given up when half of the retry budget is spent: its host may be one of several, and dead.
func (r *recovery) unreached(ctx context.Context) state {
	b := r.blob
	if b.session.target.Left && b.budget.Left() < b.budget.Timeout()/2 {
		b.session.drop(ctx)
		return opening
	}
	return restoring
}
