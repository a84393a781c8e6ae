package push

import (
	"context"
	"time"
)

// The functions that follow are what is done between two requests, as the table says.

func dropSession(ctx context.Context, b *Blob, _ error) { b.session.drop(ctx) }

// leaveSession drops a session that is not known any more, perhaps because a request to end it has arrived in
// the meantime.
func leaveSession(ctx context.Context, b *Blob, _ error) {
	b.ending.sent = b.ending.sent || b.session.ends > 0
	b.session.drop(ctx)
}

// restart is leaveSession for one that the registry has forgotten.
func restart(ctx context.Context, b *Blob, err error) {
	b.tried.restarts++
	leaveSession(ctx, b, err)
}

// resend sends the blob anew, whose bytes may have changed on their way, or were not read: a whole body goes
// another way.
func resend(ctx context.Context, b *Blob, _ error) {
	b.tried.resent = true
	b.refusals.whole = b.refusals.whole || b.bodyMode == whole && !b.refusals.refusesChunks()
	b.session.drop(ctx)
}

// nextMount leaves out a repository that the blob is not mounted from.
func nextMount(_ context.Context, b *Blob, _ error) {
	b.existence.from = b.existence.from[1:]
	b.capabilities.mounts.tried(false)
}

// recheck asks the registry again whether it has the blob, which a request may have brought.
func recheck(_ context.Context, b *Blob, _ error) {
	b.existence.probed, b.existence.lost = b.disproved, true
}

// withoutBody sends the body after a request that begins the upload. Where another digest was found, its
// bytes may not have been read, and go with PATCH.
func withoutBody(_ context.Context, b *Blob, _ error) {
	b.refusals.post, b.refusals.whole = true, b.refusals.whole || b.tried.resent
}

// chunkAnew sends a body that never left in chunks.
func chunkAnew(ctx context.Context, b *Blob, _ error) {
	b.refusals.whole = true
	b.session.drop(ctx)
}

// awaitDigest renews the budget as long as the registry may take to digest the blob: so long it
// could have held the answer too.
func awaitDigest(_ context.Context, b *Blob, _ error) {
	if b.ending.digesting.IsZero() {
		b.ending.digesting = time.Now()
	}
	if time.Since(b.ending.digesting) < digestTime(b.size) {
		b.budget.Renew()
	}
}

func useChunks(_ context.Context, b *Blob, _ error) { b.refusals.whole = true }

// shrinkChunks makes chunks smaller, unless another blob has.
func shrinkChunks(_ context.Context, b *Blob, _ error) {
	if b.capabilities.chunk.Size() >= b.session.chunk {
		b.capabilities.chunk.Refused(b.session.chunk)
	}
}

func usePatch(_ context.Context, b *Blob, _ error) {
	b.refusals.put = true
	b.capabilities.patches.Store(true) // where PATCH is refused as well, the call ends
}

func patchAnew(ctx context.Context, b *Blob, err error) {
	usePatch(ctx, b, err)
	b.session.drop(ctx)
}

// suspectSize notes that a chunk was refused: the session is asked next, and where it has what it should, it
// was the chunk.
func suspectSize(_ context.Context, b *Blob, err error) { b.refusals.suspect = err }

func suspectStep(_ context.Context, b *Blob, err error) {
	b.tried.restarts++
	b.refusals.suspect = err
}

func usePut(ctx context.Context, b *Blob, err error) {
	b.refusals.chunks = true
	restart(ctx, b, err)
}

func noteRenewal(_ context.Context, b *Blob, _ error) { b.tried.renewed = true }

// renewURL asks for a new URL. The one that has expired has brought nothing.
func renewURL(_ context.Context, b *Blob, _ error) { b.tried.renewed, b.ending.sent = true, false }

func noteConflict(_ context.Context, b *Blob, _ error) { b.tried.conflicted = true }

func noteRestart(_ context.Context, b *Blob, _ error) { b.tried.restarts++ }

func unexpect(_ context.Context, b *Blob, _ error) {
	b.tried.noExpect = true
	b.capabilities.asking.refused.Store(true)
}
