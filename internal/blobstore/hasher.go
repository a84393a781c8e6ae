package blobstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/pieces"
)

// MismatchError is a blob whose content is not what its digest says. [Partial.Missing] has what must be
// fetched again.
type MismatchError struct {
	Got  digest.Digest // empty with Disk
	want digest.Digest

	// Disk are the ranges that the disk has damaged: they do not read as they were written. With none, the
	// bytes were wrong when they came.
	Disk []pieces.Range

	// Adopted tells that what is missing now was there before the blob was claimed, or came from another
	// file. No source of bytes is to blame.
	Adopted bool
}

func (e *MismatchError) Error() string {
	if len(e.Disk) > 0 {
		return fmt.Sprintf("%d ranges of %s are not on disk what was written", len(e.Disk), e.want)
	}
	return fmt.Sprintf("content has digest %s, not %s", e.Got, e.want)
}

// hasher hashes each byte of a partial once. Bytes that come in order are hashed as they are written. Others
// are read back: those of a large blob in the background, once they are recorded, and the rest in verify.
type hasher struct {
	want       digest.Digest
	record     *recorder
	background background // advances the hash of a large blob

	// mu guards the hash. It is held for as long as bytes are read back.
	mu      sync.Mutex
	ordered orderedHash
}

// start lets the bytes of a large blob be hashed in the background as they are recorded.
func (h *hasher) start() {
	if !h.record.large() {
		return
	}
	h.background.allow(h.advance)
	h.mu.Lock()
	_, more := h.ordered.next()
	h.mu.Unlock()
	if more {
		h.background.wake()
	}
}

// stop returns when nothing is hashed in the background any more.
func (h *hasher) stop() { h.background.stop() }

// advance hashes what is recorded up to the first gap.
func (h *hasher) advance(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ordered.advance(ctx)
}

// take is told of bytes that were just written. It does not wait while bytes of a large blob are read back:
// these are before b, which is then left to the background.
func (h *hasher) take(off int64, b []byte) {
	if !h.record.large() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ordered.take(off, b)
		return
	}
	if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	if h.background.allowed() != nil {
		h.ordered.take(off, b)
	}
}

// recorded is told of a range of a large blob that was just recorded. Where it comes next, it is hashed at
// once, so that its writer can go on with take: the background would always stay behind it.
func (h *hasher) recorded(r pieces.Range) {
	ctx := h.background.allowed()
	if ctx != nil && h.catchUp(ctx, r) {
		h.background.wake()
	}
}

// catchUp tells whether there may be something left for the background.
func (h *hasher) catchUp(ctx context.Context, r pieces.Range) (more bool) {
	if !h.mu.TryLock() {
		return true
	}
	defer h.mu.Unlock()
	h.ordered.advanceTo(ctx, r)
	_, more = h.ordered.next()
	return more
}

// verify hashes what is not hashed yet, and compares the digest. After a [*MismatchError] what is suspect is
// missing. A disk that cannot be read ends all writing.
func (h *hasher) verify(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ordered.advance(ctx); err != nil {
		return h.readFailed(ctx, err)
	}
	if h.ordered.hash.Len() < h.record.size {
		if !h.record.hasDamage() {
			return errIncomplete
		}
		_, err := h.ordered.compareAll(ctx) // so that all that is damaged can be fetched at once
		return h.damage(ctx, err)
	}
	got := h.ordered.hash.Digest()
	if got == h.want {
		return nil
	}
	if damaged, err := h.ordered.compareAll(ctx); err != nil || damaged {
		return h.damage(ctx, err)
	}
	h.ordered.hash.Reset()
	adopted, err := h.record.forget()
	if err != nil {
		return err
	}
	return &MismatchError{Got: got, want: h.want, Adopted: adopted}
}

// damage tells what was damaged on the disk, unless comparing has failed.
func (h *hasher) damage(ctx context.Context, err error) error {
	if err != nil {
		return h.readFailed(ctx, err)
	}
	return &MismatchError{want: h.want, Disk: h.record.damage()}
}

// readFailed keeps nothing of a disk that cannot be read.
func (h *hasher) readFailed(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		h.record.state.fail(err)
	}
	return err
}
