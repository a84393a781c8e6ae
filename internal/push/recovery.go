package push

import (
	"context"
	"net/http"

	"github.com/modeltransfer/transfer/internal/retry"
)

const (
	// resumeSize is the size from which on an upload is continued after a fault: below, asking how much has arrived
	// takes longer than sending it again.
	resumeSize = 8 << 20 // 8 MiB

	// maxLost is how often in a row a registry may forget the session of a blob.
	maxLost = 3
)

// recovery is what failures have led to, and how a blob goes on after the next one.
type recovery struct {
	blob      *Blob
	committed bool // the request that ends the session may have arrived
	chunked   bool // a whole body was refused, or broke
	parts     bool // the registry has shown late that it wants parts
	renewed   bool // a store refused the body, and a new URL was asked for
	anew      bool // the registry found another digest, and the blob was sent anew
	unread    bool // a success was told before the body had left, and the body is sent again
	lost      int  // sessions in a row that the registry has forgotten
}

// progressed notes that the session has more than before.
func (r *recovery) progressed() { r.lost, r.renewed = 0, false }

// judge says what a failure means for the upload session: the state that follows, and the error of this attempt.
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
	case a.outOfStep() && b.size >= resumeSize && r.lost < maxLost-1:
		r.lost++ // it is asked once more how much it has; the last time begins a new session
		return recovering, retry.OtherWay(err)
	case a.sessionLost() && r.lost < maxLost:
		r.lost++
		return r.restart(ctx), retry.OtherWay(err)
	case r.otherDigest(a) && !r.anew:
		r.anew, r.committed = true, false
		b.session.drop(ctx)
		return opening, retry.OtherWay(err)
	}
	return recovering, err
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
	r.blob.way, r.committed = smaller, false
	return sending, nil
}

// renew has a URL that has expired replaced by a new one. Where no byte has left, the session is as it was, and its
// redirect is a new URL.
func (r *recovery) renew(ctx context.Context, a answer) state {
	way := r.blob.way
	if way.resumable() && a.whole() {
		return recovering
	}
	r.committed = false
	if way.resumable() {
		return sending
	}
	return way.afterFault(ctx)
}

// otherDigest tells whether the registry has found another digest than we have. The bytes may have changed on their way
// or, in a session that an earlier call began, be those of another file.
func (r *recovery) otherDigest(a answer) bool {
	return a.is(http.StatusBadRequest) && (a.failure.Has("DIGEST_INVALID") || r.blob.session.foreign && r.committed)
}

// restart begins a new session. A session that is unknown when it is ended may have been ended before: that is found out
// first.
func (r *recovery) restart(ctx context.Context) state {
	r.blob.session.drop(ctx)
	if r.committed {
		return recovering
	}
	return opening
}

// recover finds out after a fault whether the blob has arrived all the same, and if not, how to go on.
func (r *recovery) recover(ctx context.Context) (state, error) {
	b := r.blob
	if r.committed && !b.presence.disproved {
		there, err := b.exists(ctx)
		if err != nil {
			return recovering, err
		}
		if there {
			return done, nil
		}
	}
	r.committed = false
	if b.session.isZero() {
		return opening, nil
	}
	return b.way.afterFault(ctx), nil
}

// askOrDrop asks a session how much it has where that is worth it, and otherwise deletes it.
func (r *recovery) askOrDrop(ctx context.Context) state {
	b := r.blob
	if b.session.target.Left || b.size < resumeSize && b.source.overdue == 0 {
		b.session.drop(ctx)
	}
	if b.session.isZero() {
		return opening
	}
	return restoring
}

// byChunks has the blob sent in chunks from now on. It tells whether that is news.
func (r *recovery) byChunks() bool {
	news := !r.chunked
	if news {
		r.chunked, r.committed = true, false
	}
	return news
}

// unsent goes on after a success that was told before the body had left. It is sent again without the question that a
// server may have taken for all of it, and then is an error.
func (r *recovery) unsent(a answer) (state, error) {
	err := a.unexpected("the body being read")
	if r.unread {
		return recovering, err
	}
	r.unread = true
	r.blob.learned.noExpect.Store(true)
	return recovering, retry.OtherWay(err)
}
