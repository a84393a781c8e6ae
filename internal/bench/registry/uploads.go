package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"sync"
)

// uploads are the sessions that are open and the blobs that were taken, by digest.
type uploads struct {
	mu    sync.Mutex // guards the fields that follow
	next  int
	open  map[string]*upload
	taken map[string]int64
}

// upload is a session. It is used by one request at a time.
type upload struct {
	size int64
	hash hash.Hash // nil where the bytes are dropped
}

func newUploads() *uploads {
	return &uploads{open: make(map[string]*upload), taken: make(map[string]int64)}
}

func (u *uploads) finished() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return int64(len(u.taken))
}

func (u *uploads) begin(hashed bool) (id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next++
	id = strconv.Itoa(u.next)
	u.open[id] = newUpload(hashed)
	return id
}

func newUpload(hashed bool) *upload {
	up := &upload{}
	if hashed {
		up.hash = sha256.New()
	}
	return up
}

func (u *uploads) get(id string) *upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open[id]
}

// fits tells whether what came is what the digest says.
func (up *upload) fits(dg string) bool {
	return up.hash == nil || dg == "sha256:"+hex.EncodeToString(up.hash.Sum(nil))
}

func (up *upload) take(b []byte) {
	up.size += int64(len(b))
	if up.hash != nil {
		_, _ = up.hash.Write(b)
	}
}

// head answers HEAD of a blob of an empty registry. What was uploaded was not kept, so that it
// cannot be fetched.
func (u *uploads) head(req *http.Request, dg string) reply {
	if req.Method != http.MethodHead {
		return failure(http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	size, ok := u.taken[dg]
	if !ok {
		return failure(http.StatusNotFound, "BLOB_UNKNOWN")
	}
	return reply{status: http.StatusOK, header: []string{"Docker-Content-Digest", dg}, length: size}
}

// post begins a session, or takes a blob at once.
func (c *conn) post(req *http.Request, repository string) reply {
	dg := req.URL.Query().Get("digest")
	up := newUpload(c.knobs.HashUploads)
	if err := c.receive(req.Body, up); err != nil {
		return failure(http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
	}
	if dg != "" && up.size > 0 && c.knobs.SinglePost {
		return c.uploads.finish("", repository, dg, up)
	}
	id := c.uploads.begin(c.knobs.HashUploads)
	return session(repository, id, 0)
}

// session is the answer that says where an upload goes on.
func session(repository, id string, have int64) reply {
	return reply{status: http.StatusAccepted, header: []string{
		"Location", "/v2/" + repository + "/blobs/uploads/" + id, "Docker-Upload-UUID", id,
		"Range", fmt.Sprintf("0-%d", max(0, have-1)),
	}}
}

// finish ends an upload.
func (u *uploads) finish(id, repository, dg string, up *upload) reply {
	if !up.fits(dg) {
		return failure(http.StatusBadRequest, "DIGEST_INVALID")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.open, id)
	u.taken[dg] = up.size
	return reply{status: http.StatusCreated, header: []string{
		"Location", "/v2/" + repository + "/blobs/" + dg, "Docker-Content-Digest", dg,
	}}
}

// upload answers the requests of a session.
func (c *conn) upload(req *http.Request, repository, id string) reply {
	up := c.uploads.get(id)
	if up == nil {
		return failure(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	}
	if req.Method != http.MethodPatch && req.Method != http.MethodPut {
		return failure(http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
	if err := c.receive(req.Body, up); err != nil {
		return failure(http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
	}
	if req.Method == http.MethodPut {
		return c.uploads.finish(id, repository, req.URL.Query().Get("digest"), up)
	}
	return session(repository, id, up.size)
}
