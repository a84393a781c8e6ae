package push

import (
	"context"
	"net/http"

	"github.com/modeltransfer/transfer/internal/retry"
)

// maxLost is how often in a row a registry may forget the session of a blob.
const maxLost = 3

// judge says what a failure means for the upload session: the state that follows, and the error of this attempt.
func (b *Blob) judge(ctx context.Context, a answer) (state, error) {
	err := b.err(a)
	switch {
	case a.temporary():
		return recovering, err
	case a.is(http.StatusRequestEntityTooLarge, http.StatusLengthRequired):
		return b.tooLarge(a, err)
	case b.expired(a) && !b.memory.renewed:
		b.memory.renewed = true
		return b.renew(ctx, a), retry.OtherWay(err)
	case outOfStep(a) && b.size >= resumeSize && b.memory.lost < maxLost-1:
		b.memory.lost++ // it is asked once more how much it has; the last time begins a new session
		return recovering, retry.OtherWay(err)
	case b.sessionLost(a) && b.memory.lost < maxLost:
		b.memory.lost++
		return b.restart(ctx), retry.OtherWay(err)
	case b.otherDigest(a) && !b.memory.anew:
		b.memory.anew = true
		b.memory.committed = false
		b.drop(ctx)
		return opening, retry.OtherWay(err)
	}
	return recovering, err
}

// tooLarge goes on with smaller bodies. Where none has left, the session is as it was.
func (b *Blob) tooLarge(a answer, err error) (state, error) {
	smaller := b.way.smaller()
	if smaller == nil {
		return recovering, err
	}
	if a.whole() {
		return recovering, retry.OtherWay(err)
	}
	b.way, b.memory.committed = smaller, false
	return sending, nil
}

// expired tells whether a URL that was signed for a short time is refused: that of an object store, but not of a session
// that is elsewhere, whose URL is all that there is of it.
func (b *Blob) expired(a answer) bool {
	if !a.Target.Left {
		return false
	}
	told := a.failure.Has("ExpiredToken", "RequestExpired", "AccessDenied")
	return a.is(http.StatusBadRequest) && told || a.is(http.StatusForbidden) && (told || !b.session.target.Left)
}

// renew has a URL that has expired replaced by a new one. Where no byte has left, the session is as it was, and its
// redirect is a new URL.
func (b *Blob) renew(ctx context.Context, a answer) state {
	if b.way.resumable() && a.whole() {
		return recovering
	}
	b.memory.committed = false
	if b.way.resumable() {
		return sending
	}
	return b.way.afterFault(ctx)
}

// sessionLost tells whether a registry no longer knows the session, or not as it was left.
func (b *Blob) sessionLost(a answer) bool {
	return a.is(http.StatusNotFound) || outOfStep(a) || a.failure.Has("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")
}

// otherDigest tells whether the registry has found another digest than we have. The bytes may have changed on their way
// or, in a session that an earlier call began, be those of another file.
func (b *Blob) otherDigest(a answer) bool {
	return a.is(http.StatusBadRequest) && (a.failure.Has("DIGEST_INVALID") || b.session.foreign && b.memory.committed)
}

// restart begins a new session. A session that is unknown when it is ended may have been ended before: that is found out
// first.
func (b *Blob) restart(ctx context.Context) state {
	b.drop(ctx)
	if b.memory.committed {
		return recovering
	}
	return opening
}

// recover finds out after a fault whether the blob has arrived all the same, and if not, how to go on.
func (b *Blob) recover(ctx context.Context) (state, error) {
	if b.memory.committed && !b.again {
		there, err := b.exists(ctx)
		if err != nil {
			return recovering, err
		}
		if there {
			return done, nil
		}
	}
	b.memory.committed = false
	if b.session.isZero() {
		return opening, nil
	}
	return b.way.afterFault(ctx), nil
}
