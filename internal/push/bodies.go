package push

import (
	"context"
	"fmt"
	"net/http"

	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// send sends the next body. Its mode is settled here, and nowhere else.
func (b *Blob) send(ctx context.Context) (outcome, error) {
	if b.bodyMode = b.refusals.mode(&b.session); b.bodyMode == whole {
		if err := b.turn.await(ctx, b.budget); err != nil {
			return failed, err
		}
		b.bodyMode = b.refusals.mode(&b.session) // the first blob has shown
	}
	b.ending.sent = b.bodyMode == whole
	switch b.bodyMode {
	case whole:
		return b.sendWhole(ctx)
	case chunks:
		return b.sendChunk(ctx)
	case direct:
		return b.session.direct.send(ctx, b)
	default:
		return b.session.parts.send(ctx, b)
	}
}

// sendWhole sends the blob with the request that ends the session.
func (b *Blob) sendWhole(ctx context.Context) (outcome, error) {
	b.session.ends++
	a, err := b.source.send(ctx, b.request(http.MethodPut, b.session.end()), 0, b.size, nil)
	switch {
	case err != nil:
		return lost, err
	case a.failed:
		return a.classify(b), b.err(a)
	}
	got, err := b.existence.stored(a)
	if got == stored && b.refusals.chunks {
		b.capabilities.puts.Store(true)
	}
	return got, err
}

// sendChunk sends a part of the blob (OCI distribution spec, "Pushing a blob in chunks").
func (b *Blob) sendChunk(ctx context.Context) (outcome, error) {
	s := &b.session
	start, end := s.offset, b.size
	if start == end {
		return complete, nil
	}
	if size := max(b.refusals.chunkSize(), s.minChunk); size < end-start {
		end = start + size
	}
	s.chunk = end - start
	r := s.patch(start, end)
	if b.refusals.refusesPut() {
		r.Header.Set("X-Redirect-Uploads", "1")
	}
	if b.refusals.limit > 0 { // the connection may last for no more than this chunk
		r.Header.Set("Connection", "close")
	}
	a, err := b.source.send(ctx, r, start, end, nil)
	if err == nil && wire.IsRedirect(a.StatusCode) {
		if a.Header.Get("Docker-Upload-Location") != "" {
			return b.refusals.useParts(s), nil
		}
		if r.Target, err = a.Target.Resolve(a.Header.Get("Location")); err != nil {
			return failed, err
		}
		r.NoFollow = false
		a, err = b.source.send(ctx, r, start, end, nil)
	}
	switch {
	case err != nil:
		return lost, err
	case a.failed:
		return a.classify(b), b.err(a)
	case a.webPage():
		return failed, a.unexpected("202")
	}
	return added(b, a, start, end)
}

// added notes how much the session has after a chunk: less, perhaps, than was sent.
func added(b *Blob, a answer, start, end int64) (outcome, error) {
	have := end
	if a.Header.Get("Range") != "" {
		var err error
		have, err = wire.UploadRange(a.Header)
		if have == 0 && end == 1 {
			have = 1 // "0-0" is said of one byte as well as of none
		}
		if err != nil || have <= start || have > end {
			return lost, fmt.Errorf("%w: the registry has bytes %.50q after %d-%d were sent",
				sentinel.ErrProtocol, a.Header.Get("Range"), start, end-1)
		}
	} else if !a.whole() {
		return b.tried.unread(a)
	}
	b.capabilities.chunk.Taken(end - start)
	b.session.offset = have
	arrived(b, have)
	return b.session.follow(a, nextBody)
}
