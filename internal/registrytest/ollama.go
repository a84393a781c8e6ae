package registrytest

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// Ollama makes a registry take uploads as the registry of Ollama does: bodies go into an object store behind
// it, either the whole blob at once or in parts, and the registry itself takes none.
type Ollama struct {
	// Direct names a signed URL for the whole blob in the answer to POST, if the client says that it
	// understands that (X-Redirect-Uploads: 2). Otherwise the blob is sent in parts: each PATCH is answered
	// with 307 to a signed URL, where the part is PUT.
	Direct bool

	// SignedHeaders must come with a direct upload. The client learns them as X-Signed-Header-*.
	SignedHeaders http.Header

	// LateLocation gives Docker-Upload-Location on the answers to PATCH only, so that the client learns
	// there which protocol it is. It may then announce another part in place of the one it was asked for.
	LateLocation bool

	// ExactParts refuses every part but the last whose size is not that of the Ollama client.
	ExactParts bool

	// MinPart is the least size of a part that is not the last. Zero means 5 MiB, as in S3.
	MinPart int64

	// Discard keeps of each body its size and its MD5 only. The digest of the blob is not checked, and the
	// registry does not have the blob afterwards.
	Discard bool
}

// ollamaPartSize returns the size of the parts, the last excepted, in which the Ollama client sends a blob of
// that size: a sixteenth of it, at least 100 MiB and at most 1000 MiB.
func ollamaPartSize(blob int64) int64 { return min(max(blob/16, 100<<20), 1000<<20) }

// ServeOllama makes the registry an Ollama registry, whose object store is served under that host name.
func (reg *Registry) ServeOllama(n *Network, name string, mode Mode, o Ollama) *ObjectStore {
	store := newObjectStore(reg, o)
	store.url = n.Serve(name, store, mode).URL
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.ollama = store
	return store
}

// ollamaCall is an uploadCall of an Ollama registry.
type ollamaCall struct{ uploadCall }

func (c ollamaCall) serve(s *session) {
	switch c.r.Method {
	case http.MethodPatch:
		c.part(s)
	case http.MethodPut:
		c.finalize(s)
	case http.MethodDelete:
		c.ollama.abort(s.id)
		c.reg.closeSession(s.id)
		c.empty(http.StatusNoContent)
	default:
		c.notAllowed()
	}
}

// open answers the POST that begins an upload.
func (c ollamaCall) open() {
	o, h := c.ollama.rules, c.w.Header()
	s := c.reg.openSession(c.target.repo)
	s.total, _ = strconv.ParseInt(c.r.Header.Get("X-Content-Length"), 10, 64)
	if o.Direct && c.r.Header.Get("X-Redirect-Uploads") == "2" {
		h.Set("X-Direct-Upload-Url", c.ollama.presign(s.id, 0, o.SignedHeaders, c.opts.SignedFor))
		for name, values := range o.SignedHeaders {
			h["X-Signed-Header-"+name] = values
		}
	}
	c.location(s.path())
	if !o.LateLocation {
		h.Set("Docker-Upload-Location", h.Get("Location"))
	}
	c.empty(http.StatusAccepted)
}

// part answers a PATCH: where its part is PUT, and where the session goes on.
func (c ollamaCall) part(s *session) {
	o := c.ollama.rules
	n, err := strconv.Atoi(c.r.URL.Query().Get("_state"))
	first := o.LateLocation && n == 0
	if !first && c.r.Header.Get("X-Redirect-Uploads") != "1" {
		c.violation(http.StatusBadRequest, "UNSUPPORTED", "a part is sent without X-Redirect-Uploads: 1")
		return
	}
	start, end, ok := c.contentRange()
	if !ok || err != nil {
		c.violation(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "a part needs a Content-Range that fits it")
		return
	}
	if why := s.announce(n, start, end, o.ExactParts && !first); why != "" {
		c.violation(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", why)
		return
	}
	c.location(s.pathAt(n + 1))
	c.w.Header().Set("Docker-Upload-Location", c.w.Header().Get("Location"))
	c.w.Header().Set("Location", c.ollama.presign(s.id, n+1, nil, c.opts.SignedFor))
	c.empty(http.StatusTemporaryRedirect)
}

// contentRange returns the bytes [start, end) that the request says it brings.
func (c ollamaCall) contentRange() (start, end int64, ok bool) {
	var last int64
	n, err := fmt.Sscanf(c.r.Header.Get("Content-Range"), "%d-%d", &start, &last)
	fits := c.r.ContentLength == 0 || c.r.ContentLength == last+1-start
	return start, last + 1, n == 2 && err == nil && start >= 0 && start <= last && fits
}

// announce notes that part number n, from 0, is to have the bytes [start, end). It returns what is wrong with
// that. A part may be announced again; where its end has changed, the parts after it are forgotten.
func (s *session) announce(n int, start, end int64, exact bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < 0 || n > len(s.ends) {
		return fmt.Sprintf("part %d comes before part %d", n, len(s.ends))
	}
	before := int64(0)
	if n > 0 {
		before = s.ends[n-1]
	}
	if start != before {
		return fmt.Sprintf("part %d begins at %d, the one before ends at %d", n, start, before)
	}
	if want := ollamaPartSize(s.total); exact && end-start != want && (end != s.total || end-start > want) {
		return fmt.Sprintf("part %d has %d bytes of a blob of %d: want %d", n, end-start, s.total, want)
	}
	if n < len(s.ends) && s.ends[n] == end {
		return ""
	}
	s.ends = append(s.ends[:n], end)
	s.state = len(s.ends)
	return ""
}

// finalize answers the PUT that ends an upload, which brings no body.
func (c ollamaCall) finalize(s *session) {
	d, err := digest.Parse(c.r.URL.Query().Get("digest"))
	if err != nil {
		c.fail(http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	if hasBody(c.r) {
		c.tooLarge()
		return
	}
	s.mu.Lock()
	ends := s.ends
	s.mu.Unlock()
	data, why := c.ollama.complete(s.id, ends, c.r.URL.Query().Get("etag"))
	if why != "" {
		c.violation(http.StatusBadRequest, "SIZE_INVALID", why)
		return
	}
	c.reg.closeSession(s.id)
	switch {
	case c.ollama.rules.Discard:
	case !c.reg.Matches(d, data):
		c.violation(http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	default:
		c.reg.Replace(c.target.repo, d, data)
	}
	c.created(d)
}

// violation refuses what a client of an Ollama registry must not do, and remembers it.
func (c ollamaCall) violation(status int, code, message string) {
	c.ollama.violated(message)
	c.fail(status, code, message)
}
