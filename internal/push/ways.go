package push

import (
	"context"
	"fmt"
	"net/http"

	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

// way is one way to send a blob in a session.
type way interface {
	// send sends the next body, and returns the state that follows.
	send(ctx context.Context) (state, error)

	// end returns where the session is ended.
	end() wire.Target

	// afterFault returns the state that follows when it is not known what became of a body.
	afterFault(ctx context.Context) state

	// smaller is told that a body was refused for its size. It returns the way to go on with smaller ones, or
	// nil.
	smaller() way

	// refused is told of an answer that refuses a body of this kind, and returns the state that follows. It
	// returns false where that is not what the answer says, or no other way is left.
	refused(ctx context.Context, a answer) (state, bool)

	// resumable tells whether a later call can go on with the session.
	resumable() bool
}

var (
	_ way = whole{}
	_ way = chunks{}
	_ way = (*direct)(nil)
	_ way = (*parts)(nil)
)

// whole sends the blob with the request that ends the session.
type whole struct{ *Blob }

func (w whole) send(ctx context.Context) (state, error) {
	if err := w.await(ctx); err != nil {
		return sending, err
	}
	if w.recovery.inChunks() {
		w.way = chunks(w)
		return sending, nil
	}
	w.recovery.commitSent = true
	w.session.ends++
	a, err := w.source.send(ctx, w.request(http.MethodPut, w.end()), 0, w.size)
	switch {
	case err != nil:
		return recovering, err
	case a.failed:
		return w.recovery.judge(ctx, a)
	}
	next, err := w.presence.stored(a)
	if next == done && w.recovery.noChunks {
		w.learned.puts.Store(true)
	}
	return next, err
}

func (w whole) end() wire.Target {
	return w.session.target.WithQuery("digest", w.digest.String())
}

// afterFault sends a large blob on in chunks: what breaks once may break again, and then less is lost.
func (w whole) afterFault(ctx context.Context) state {
	if w.size >= resumeSize && !w.recovery.wholeOnly() {
		w.recovery.chunked = true
	}
	return w.recovery.askOrDrop(ctx)
}

func (w whole) smaller() way {
	w.recovery.chunked = true
	return chunks(w)
}

// refused sends the same with PATCH, as the Ollama registry wants all that it does not give a URL for.
func (w whole) refused(ctx context.Context, a answer) (state, bool) {
	plain := a.is(http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented)
	told := a.failure.Has("DIGEST_INVALID", "SIZE_INVALID", "NAME_INVALID", "NAME_UNKNOWN", "DENIED",
		"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")
	lost := a.is(http.StatusNotFound) && w.recovery.restarts == 0 // it may be the session that is not found
	if !plain || told || lost || w.session.foreign || w.recovery.noPuts || w.recovery.wholeOnly() {
		return 0, false
	}
	w.recovery.noPuts, w.recovery.commitSent = true, false
	w.learned.patches.Store(true) // where PATCH is refused as well, the call ends
	if a.whole() {
		w.session.drop(ctx)
		return opening, true
	}
	w.way = chunks(w)
	return sending, true
}

func (whole) resumable() bool { return true }

// chunks sends the blob in several requests (OCI distribution spec, "Pushing a blob in chunks").
type chunks struct{ *Blob }

func (c chunks) send(ctx context.Context) (state, error) {
	start, end := c.session.offset, c.size
	if start == end {
		return committing, nil
	}
	if size := max(c.most(), c.session.minChunk); size < end-start {
		end = start + size
	}
	c.session.chunk = end - start
	r := c.session.patch(start, end)
	if c.recovery.withPatch() {
		r.Header.Set("X-Redirect-Uploads", "1")
	}
	if c.recovery.limit > 0 { // the connection may last for no more than this chunk
		r.Header.Set("Connection", "close")
	}
	a, err := c.source.send(ctx, r, start, end)
	if err == nil && wire.IsRedirect(a.StatusCode) {
		if a.Header.Get("Docker-Upload-Location") != "" {
			return c.ollama(ctx), nil
		}
		if r.Target, err = a.Target.Resolve(a.Header.Get("Location")); err != nil {
			return sending, err
		}
		r.NoFollow = false
		a, err = c.source.send(ctx, r, start, end)
	}
	switch {
	case err != nil:
		return recovering, err
	case a.failed:
		return c.recovery.judge(ctx, a)
	case a.webPage():
		return recovering, a.unexpected("202")
	}
	return c.added(a, start, end)
}

// most is the size of a chunk where nothing wants it larger.
func (c chunks) most() int64 {
	if c.recovery.limit > 0 {
		return min(c.recovery.limit, c.learned.chunk.Size())
	}
	return c.learned.chunk.Size()
}

// added notes how much the session has after a chunk: less, perhaps, than was sent.
func (c chunks) added(a answer, start, end int64) (state, error) {
	have := end
	if a.Header.Get("Range") != "" {
		var err error
		have, err = wire.UploadRange(a.Header)
		if have == 0 && end == 1 {
			have = 1 // "0-0" is said of one byte as well as of none
		}
		if err != nil || have <= start || have > end {
			return recovering, fmt.Errorf("%w: the registry has bytes %.50q after %d-%d were sent",
				sentinel.ErrProtocol, a.Header.Get("Range"), start, end-1)
		}
	} else if !a.whole() {
		return c.recovery.unsent(a)
	}
	c.learned.chunk.Taken(end - start)
	c.session.offset = have
	c.recovery.taken(have)
	return sending, c.follow(a)
}

func (c chunks) end() wire.Target { return whole(c).end() }

func (c chunks) afterFault(ctx context.Context) state { return c.recovery.askOrDrop(ctx) }

// smaller sends what was refused again in smaller chunks. Another blob may have found out already that they
// must be.
func (c chunks) smaller() way {
	refused := c.session.chunk
	if refused <= c.session.minChunk {
		return nil
	}
	if c.learned.chunk.Size() < refused || c.learned.chunk.Refused(refused) {
		return c
	}
	return nil
}

// refused looks whether the session has what it should: then it is the chunk that is refused.
func (c chunks) refused(ctx context.Context, a answer) (state, bool) {
	plain := a.is(http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestedRangeNotSatisfiable,
		http.StatusUnprocessableEntity, http.StatusNotImplemented)
	told := a.failure.Has("DIGEST_INVALID", "NAME_INVALID", "NAME_UNKNOWN", "DENIED",
		"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")
	if !plain || told || c.recovery.wholeOnly() {
		return 0, false
	}
	if a.outOfStep() {
		if c.recovery.restarts++; c.recovery.restarts >= maxRestarts {
			c.recovery.noChunks = !c.recovery.noPuts
			return c.recovery.begunAnew(ctx), c.recovery.noChunks
		}
	}
	c.recovery.refusal = c.err(a)
	return recovering, true
}

func (chunks) resumable() bool { return true }

// ollama goes on in parts where a registry has shown only now that it wants them. The chunk has not the size
// of a part, so it is asked for again.
func (c chunks) ollama(ctx context.Context) state {
	c.recovery.parts = true
	if c.session.offset > 0 {
		c.session.drop(ctx)
		return opening
	}
	c.way = newParts(c.Blob)
	return c.begin(ctx, sending)
}
