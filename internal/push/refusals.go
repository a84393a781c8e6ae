package push

import (
	"cmp"
	"net/http"
)

// refusals are what the registry does not take of a blob. They settle how its bytes are sent.
type refusals struct {
	*item
	post    bool  // the blob with the request that begins its upload
	put     bool  // a whole body with PUT
	whole   bool  // a body so long: it was refused for that, or broke
	chunks  bool  // PATCH, with chunks of any size
	inParts bool  // anything but parts, as it has shown late
	suspect error // the refusal of the last chunk, until it is known whether the session has what it should

	// limit is the largest chunk that is worth trying, 0 where there is none. It is for registries that lose
	// a session with each body that is cut.
	limit int64
}

// mode is how the next body goes.
func (r *refusals) mode(s *session) place {
	switch {
	case s.direct != nil:
		return direct
	case s.parts != nil:
		return parts
	case s.offset > 0, !r.refusesChunks() && (r.whole || r.refusesPut()):
		return chunks
	default:
		return whole
	}
}

// refusesPut tells whether the registry takes no whole body with PUT. Then it may have them sent elsewhere.
func (r *refusals) refusesPut() bool { return r.put || r.capabilities.patches.Load() }

// refusesChunks tells whether the registry takes no chunk.
func (r *refusals) refusesChunks() bool { return r.chunks || r.capabilities.puts.Load() }

// chunkSize is the size of a chunk where the registry does not want it larger.
func (r *refusals) chunkSize() int64 {
	if size := r.capabilities.chunk.Size(); r.limit == 0 || size < r.limit {
		return size
	}
	return r.limit
}

// chunkRefused returns an outcome after a chunk was refused in a session that has what it should, or that is
// lost: chunks of mediumChunk follow, then of minChunk, and then one PUT. Where that was refused before, the
// upload has failed.
func (r *refusals) chunkRefused(s *session, got outcome) (outcome, error) {
	err := r.suspect
	if err == nil {
		return got, nil
	}
	r.suspect = nil
	for _, size := range []int64{mediumChunk, minChunk} {
		if s.chunk > size && s.minChunk <= size {
			r.capabilities.chunk.Refused(2 * size)
			return got, nil
		}
	}
	if r.put {
		return failed, err
	}
	r.chunks = true
	return got, nil
}

// cut makes chunks smaller where a session was lost with a body that broke: as at distribution 2, only what
// arrives as a whole counts.
func (r *refusals) cut(chunk int64, broken int) {
	if broken > 0 {
		last := min(cmp.Or(r.limit, chunk, startChunk), r.size)
		r.limit, r.whole = max(last/4, minChunk), true
	}
}

// unfitPut tells whether an answer refuses a PUT with a body, as the Ollama registry does that wants PATCH
// for all that it does not give a URL for. The first 404 may mean that the session is not found.
func (r *refusals) unfitPut(a answer, s *session, t *tried) bool {
	if r.put || r.refusesChunks() || s.foreign || a.is(http.StatusNotFound) && t.restarts == 0 {
		return false
	}
	return !namesBlob(a.failure) && !a.failure.Has("SIZE_INVALID") &&
		a.is(http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed,
			http.StatusNotImplemented)
}

// unfitChunk tells whether an answer refuses a chunk, in a session that may be as it should. The first 404
// may mean that the session is not found; a 409, that it was ended.
func (r *refusals) unfitChunk(a answer, t *tried) bool {
	if r.refusesChunks() || namesBlob(a.failure) || a.is(http.StatusNotFound) && t.restarts == 0 {
		return false
	}
	clients := a.StatusCode < http.StatusInternalServerError && !a.is(http.StatusConflict)
	return a.refused() && (clients || a.is(http.StatusNotImplemented))
}

// useParts goes on in parts where the registry has shown only with a chunk that it wants them. The chunk has
// not the size of a part: where a session has one, another is begun.
func (r *refusals) useParts(s *session) outcome {
	r.inParts = true
	r.capabilities.ollama.Store(true)
	if s.offset > 0 {
		return misbegun
	}
	s.parts = newParts(r.size)
	return s.ready()
}
