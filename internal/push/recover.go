package push

import (
	"context"
	"net/http"
	"time"

	"github.com/modeltransfer/transfer/internal/retry"
)

const (
	// resumeSize is the size from which on an upload is continued after a fault: below, asking how much has
	// arrived takes longer than sending it again.
	resumeSize = 8 << 20 // 8 MiB

	// maxBroken is how often in a row a small body may break before its upload is continued too: it may be
	// that no connection lasts for all of it.
	maxBroken = 3

	// mediumChunk is the size of the chunks that follow one that was refused: GHCR takes no larger ones
	// (rust-oci-client#35).
	mediumChunk = 4 << 20 // 4 MiB

	// maxRestarts is how often in a row a registry may forget the session of a blob.
	maxRestarts = 3
)

// statusTimeoutOccurred is what Cloudflare says where others say 504.
const statusTimeoutOccurred = 524

// tried is what is not done for ever.
type tried struct {
	renewed    bool // a store refused the body, and a new URL was asked for
	resent     bool // the registry found another digest, and the blob was sent anew
	conflicted bool // a session that may have been ended before was refused for being so
	noExpect   bool // a body was taken to be complete before it had left, and is sent without being asked for
	restarts   int  // sessions in a row that the registry has forgotten
	broken     int  // bodies in a row of which it is not known what became of them
}

// unread says what a success means that was told before the body had left. It is sent again without the
// question that a server may have taken for all of it, once.
func (t *tried) unread(a answer) (outcome, error) {
	if t.noExpect {
		return failed, a.unexpected("the body being read")
	}
	return unread, a.unexpected("the body being read")
}

// ending is what became of the requests that end a session.
type ending struct {
	sent      bool      // the last one may have arrived
	digesting time.Time // when a gateway first gave up waiting for the answer
}

// growth is what a session was seen to have.
type growth struct {
	most int64 // that any session of the blob has had

	// have is what the session had when it was asked last, and since is when that was new: zero before it was
	// asked. They are kept after a request of which all was sent and that was not answered.
	have  int64
	since time.Time
}

// more notes how much a session has, and tells whether none has had so much before.
func (g *growth) more(have int64) bool {
	more := have > g.most
	g.most = max(g.most, have)
	return more
}

// settled tells whether a session that has so much has stopped growing: it has not for a time. Where all of a
// body was sent and no answer came, a proxy may still be passing on what it has taken. What is sent meanwhile
// is sent in vain.
func (g *growth) settled(have int64, budget *retry.Budget, quiet time.Duration) bool {
	if g.since.IsZero() || have != g.have {
		if g.more(have) {
			budget.Renew()
		}
		g.have, g.since = have, time.Now()
		return false
	}
	if time.Since(g.since) < quiet {
		return false
	}
	g.since = time.Time{}
	return true
}

// arrived notes that a body was taken, up to an offset of the blob: what goes wrong from now on is another
// matter. Where a session was lost, what is taken again renews the budget too, but not for ever.
func arrived(b *Blob, upTo int64) {
	b.tried.broken, b.tried.renewed, b.ending.digesting = 0, false, time.Time{}
	if b.growth.more(upTo) && upTo < b.size {
		b.tried.restarts = 0
	}
	if b.source.rewinds.Load() <= maxRestarts {
		b.budget.Renew()
	}
}

// recover finds out after a fault whether the blob has arrived all the same, and if not, how to go on.
func (b *Blob) recover(ctx context.Context) (outcome, error) {
	if b.ending.sent && !b.disproved {
		found, err := b.exists(ctx)
		if err != nil {
			return failed, err
		}
		if found == proven {
			return there, nil
		}
	}
	b.ending.sent = false
	large := b.size >= resumeSize
	switch s := &b.session; {
	case s.target.IsZero():
		return noSession, nil
	case s.direct != nil && s.direct.complete:
		return complete, nil
	case s.direct != nil:
		return anew, nil
	case s.parts != nil:
		return nextBody, nil
	case b.refusals.suspect != nil:
		return notAsked, nil
	case large && b.bodyMode == whole: // what breaks once may break again, and then less is lost
		b.refusals.whole = b.refusals.whole || !b.refusals.refusesChunks()
	}
	if b.tried.broken++; large || b.source.overdue > 0 || b.tried.broken >= maxBroken {
		return notAsked, nil
	}
	return anew, nil
}

// classify says what the failure of a body, or of a request that ends a session, is, after what was tried
// already.
func (a answer) classify(b *Blob) outcome {
	s, t, r := &b.session, &b.tried, &b.refusals
	asWhole, inChunks := b.bodyMode == whole, b.bodyMode == chunks
	unfitChunk := b.state == sending && inChunks && r.unfitChunk(a, t)
	var when outcome
	if a.whole() {
		when = late
	}
	switch {
	case a.temporary() && b.ending.sent && a.is(http.StatusGatewayTimeout, statusTimeoutOccurred):
		return timedOut
	case a.temporary():
		return lost
	case a.is(http.StatusRequestEntityTooLarge, http.StatusLengthRequired):
		if asWhole && when != late && r.refusesChunks() || inChunks && !s.canShrink() {
			return failed
		}
		return tooLarge | when
	case a.expired(s.target) && !t.renewed:
		return expired | when
	case a.is(http.StatusConflict) && s.ends > 1 && !t.conflicted:
		return conflict // HEAD tells whether an earlier request has ended it
	case b.state == sending && asWhole && r.unfitPut(a, s, t), unfitChunk && !a.outOfStep():
		return unfit | when
	case unfitChunk && t.restarts < maxRestarts-1:
		return stepped
	case unfitChunk && r.put:
		return failed
	case unfitChunk:
		return unfitAll
	case a.outOfStep() && b.size >= resumeSize && t.restarts < maxRestarts-1:
		return outOfStep // it is asked once more how much it has; the last time begins a new session
	case a.sessionLost() && t.restarts < maxRestarts:
		return unknown
	case a.otherDigest(s.foreign && b.ending.sent) && !t.resent:
		return otherDigest
	default:
		return failed
	}
}
