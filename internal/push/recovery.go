package push

import (
	"cmp"
	"context"
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

	// maxRestarts is how often in a row a registry may forget the session of a blob.
	maxRestarts = 3
)

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
	broken     int  // bodies in a row of which it is not known what became of them

	// have is what the session had when it was asked last, and since is when that was new: zero before it was
	// asked. They are kept after a request of which all was sent and that was not answered.
	have  int64
	since time.Time

	// limit is the largest chunk that is worth trying, 0 where there is none. It is for registries that lose a
	// session with each body that is cut.
	limit int64
}

// taken notes that a body was taken: what goes wrong from now on is another matter.
func (r *recovery) taken() { r.restarts, r.broken, r.renewed = 0, 0, false }

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
		return recovering, err
	case a.is(http.StatusRequestEntityTooLarge, http.StatusLengthRequired):
		return r.tooLarge(a, err)
	case a.expired(b.session.target) && !r.renewed:
		r.renewed = true
		return r.renew(ctx, a), retry.OtherWay(err)
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

// begunAnew is where an upload goes on whose session is not known any more, perhaps because a request to end
// it has arrived in the meantime.
func (r *recovery) begunAnew(ctx context.Context) state {
	r.commitSent = r.commitSent || r.blob.session.ending
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
		there, err := b.exists(ctx)
		if err != nil {
			return recovering, err
		}
		if there {
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
		if !r.since.IsZero() {
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
