package registrytest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"
)

// session is an upload in progress.
type session struct {
	id   string
	repo string

	total int64 // the size of the blob, where the client has told it

	mu    sync.Mutex // guards the fields that follow
	data  []byte
	state int     // grows with each step; part of the URL
	short bool    // a chunk was smaller than MinChunk, so it must have been the last
	ends  []int64 // of the parts for an object store
}

func (s *session) path() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pathAt(s.state)
}

// pathAt returns the path of the session in that state.
func (s *session) pathAt(state int) string {
	return fmt.Sprintf("/v2/%s/blobs/uploads/%s?_state=%d", s.repo, s.id, state)
}

func (s *session) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.data))
}

// add appends p, which belongs at that offset, and returns false when another
// request has written there meanwhile.
func (s *session) add(at int64, p []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at != int64(len(s.data)) {
		return false
	}
	s.data = append(s.data, p...)
	return true
}

// grow makes space for n more bytes, if that is known and not absurd.
func (s *session) grow(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = slices.Grow(s.data, int(min(max(n, 0), 1<<30)))
}

// step makes the URL of the session a new one.
func (s *session) step(short bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state++
	s.short = short
}

// uploadCall is a call that begins an upload or goes on with one.
type uploadCall struct{ *call }

func (c uploadCall) serve() {
	if c.target.ref == "" {
		c.open()
		return
	}
	s := c.session()
	if s == nil {
		c.fail(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "upload unknown to registry")
		return
	}
	if c.ollama != nil {
		ollamaCall{c}.serve(s)
		return
	}
	switch c.r.Method {
	case http.MethodGet:
		c.progress(s, http.StatusNoContent)
	case http.MethodPatch:
		c.patch(s)
	case http.MethodPut:
		c.finalize(s)
	case http.MethodDelete:
		c.reg.closeSession(s.id)
		c.empty(http.StatusNoContent)
	default:
		c.notAllowed()
	}
}

// session returns the session that the URL names, or nil.
func (c uploadCall) session() *session {
	c.reg.mu.Lock()
	s := c.reg.sessions[c.target.ref]
	c.reg.mu.Unlock()
	if s == nil || s.repo != c.target.repo {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.opts.StrictState && c.r.URL.Query().Get("_state") != strconv.Itoa(s.state) {
		return nil
	}
	return s
}

func (reg *Registry) openSession(repo string) *session {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.opened++
	s := &session{id: fmt.Sprintf("session-%d", reg.opened), repo: repo}
	reg.sessions[s.id] = s
	return s
}

func (reg *Registry) closeSession(id string) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	delete(reg.sessions, id)
}

// open answers the POST that begins an upload.
func (c uploadCall) open() {
	if c.r.Method != http.MethodPost {
		c.notAllowed()
		return
	}
	query := c.r.URL.Query()
	if query.Get("mount") != "" && c.mount(query.Get("mount"), query.Get("from")) {
		return
	}
	if c.ollama != nil {
		ollamaCall{c}.open()
		return
	}
	if query.Get("digest") != "" && c.opts.SingleShot {
		s := c.reg.openSession(c.target.repo)
		defer c.reg.closeSession(s.id) // whatever becomes of it: the client has no URL of it
		c.finalize(s)
		return
	}
	if c.opts.MinChunk > 0 {
		c.w.Header().Set("OCI-Chunk-Min-Length", strconv.FormatInt(c.opts.MinChunk, 10))
	}
	c.progress(c.reg.openSession(c.target.repo), http.StatusAccepted)
}

// mount answers 201 if the blob can be had from the other repository.
func (c uploadCall) mount(name, from string) bool {
	d, err := digest.Parse(name)
	if err != nil || c.opts.NoMount {
		return false
	}
	data, ok := c.reg.blobOf(from, d)
	if !ok {
		return false
	}
	c.reg.Replace(c.target.repo, d, data)
	c.created(d)
	return true
}

func (c uploadCall) created(d digest.Digest) {
	c.w.Header().Set("Docker-Content-Digest", d.String())
	c.location("/v2/" + c.target.repo + "/blobs/" + d.String())
	c.empty(http.StatusCreated)
}

// progress tells where the session is and how far. Like the reference registry it
// says "0-0" for none as well as for one byte.
func (c uploadCall) progress(s *session, status int) {
	c.location(s.path())
	c.w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, s.size()-1)))
	c.w.Header().Set("Docker-Upload-UUID", s.id)
	c.empty(status)
}

func (c uploadCall) patch(s *session) {
	before := s.size()
	if !c.inOrder(s) || !c.receive(s) {
		return
	}
	s.step(s.size()-before < c.opts.MinChunk)
	c.progress(s, http.StatusAccepted)
}

func (c uploadCall) finalize(s *session) {
	d, err := digest.Parse(c.r.URL.Query().Get("digest"))
	if err != nil {
		c.fail(http.StatusBadRequest, "DIGEST_INVALID", err.Error())
		return
	}
	if !c.inOrder(s) || !c.receive(s) {
		return
	}
	s.mu.Lock()
	data := s.data
	s.mu.Unlock()
	c.reg.closeSession(s.id)
	if !c.reg.Matches(d, data) {
		c.fail(http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		return
	}
	c.reg.Replace(c.target.repo, d, data)
	c.created(d)
}

// inOrder refuses a chunk that does not begin where the session ends.
func (c uploadCall) inOrder(s *session) bool {
	s.mu.Lock()
	size, short := int64(len(s.data)), s.short
	s.mu.Unlock()
	spec := c.r.Header.Get("Content-Range")
	if spec != "" {
		var first, last int64
		n, err := fmt.Sscanf(spec, "%d-%d", &first, &last)
		if n != 2 || err != nil || (c.r.ContentLength >= 0 && last-first+1 != c.r.ContentLength) {
			c.fail(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "content range does not fit the body")
			return false
		}
		if first != size {
			c.progress(s, http.StatusRequestedRangeNotSatisfiable)
			return false
		}
	}
	if short && hasBody(c.r) {
		c.fail(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "a chunk before this one was too small")
		return false
	}
	return true
}

// receive appends the body of the request to the session. What arrived before a broken connection is kept.
func (c uploadCall) receive(s *session) bool {
	if c.opts.MaxBody > 0 && c.r.ContentLength > c.opts.MaxBody {
		c.tooLarge()
		return false
	}
	start := s.size()
	s.grow(c.r.ContentLength)
	at := start
	buf := make([]byte, 32<<10)
	for {
		n, err := c.r.Body.Read(buf)
		if c.opts.MaxBody > 0 && at+int64(n)-start > c.opts.MaxBody {
			c.tooLarge()
			return false
		}
		if !s.add(at, buf[:n]) {
			c.progress(s, http.StatusRequestedRangeNotSatisfiable)
			return false
		}
		at += int64(n)
		if err == io.EOF {
			return true
		}
		if err != nil {
			c.fail(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the body ended early")
			return false
		}
	}
}

func (c uploadCall) tooLarge() {
	c.fail(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the body is too large")
}
