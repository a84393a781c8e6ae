package serve

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"
)

// upload is a blob that arrives. Its file is what of it is there, so an upload survives a restart.
type upload struct {
	sync.Mutex // one request at a time; the fields that follow are guarded

	path   string
	size   int64
	sum    hash.Hash // of the first summed bytes
	summed int64
}

var rangePattern = regexp.MustCompile(`^(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?$`)

// serveUpload answers a request about an upload; without an id it begins one.
func (r *Registry) serveUpload(w http.ResponseWriter, req *http.Request, name, id string) {
	if id == "" {
		if req.Method != http.MethodPost {
			refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "an upload begins with POST")
			return
		}
		r.begin(w, req, name)
		return
	}
	u, err := r.uploads.find(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
		return
	case err != nil:
		fail(w, err)
		return
	}
	u.Lock()
	defer u.Unlock()
	switch req.Method {
	case http.MethodGet:
		u.answer(w, name, http.StatusNoContent)
	case http.MethodPatch:
		if u.append(w, req, name) {
			u.answer(w, name, http.StatusAccepted)
		}
	case http.MethodPut:
		if u.append(w, req, name) {
			r.commit(w, u, name, req.URL.Query().Get("digest"))
		}
	case http.MethodDelete:
		r.uploads.forget(u)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a method of an upload")
	}
}

// begin mounts a blob that is there, takes one with the request, or opens an upload.
func (r *Registry) begin(w http.ResponseWriter, req *http.Request, name string) {
	query := req.URL.Query()
	dg := digest.Digest(query.Get("mount"))
	if there, err := r.store.has(dg); there && err == nil { // else it can be sent
		created(w, name, dg)
		return
	}
	u, err := r.uploads.open()
	switch {
	case errors.Is(err, errFull):
		w.Header().Set("Retry-After", "60")
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many uploads are open")
		return
	case err != nil:
		fail(w, err)
		return
	}
	u.Lock()
	defer u.Unlock()
	if !query.Has("digest") {
		u.answer(w, name, http.StatusAccepted)
		return
	}
	if u.append(w, req, name) {
		r.commit(w, u, name, query.Get("digest"))
	}
}

// append writes the body of a request behind what is there, and reports whether all of it came. What
// came stays in any case.
func (u *upload) append(w http.ResponseWriter, req *http.Request, name string) bool {
	f, err := open(u.path, os.O_WRONLY|os.O_APPEND)
	if errors.Is(err, fs.ErrNotExist) {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
		return false
	}
	if err != nil {
		fail(w, err)
		return false
	}
	defer f.Close()
	if !u.agrees(f) || !begins(req, u.size) {
		u.answer(w, name, http.StatusRequestedRangeNotSatisfiable)
		return false
	}
	var to io.Writer = f
	if u.summed == u.size {
		to = io.MultiWriter(f, u.sum)
	}
	n, err := io.Copy(to, req.Body)
	if u.summed == u.size {
		u.summed += n
	}
	u.size += n
	if err == nil {
		return true
	}
	u.lookAgain()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		refuse(w, http.StatusRequestTimeout, "BLOB_UPLOAD_INVALID", "the body did not come in time")
		return false
	}
	fail(w, err)
	return false
}

// id is the name of its file.
func (u *upload) id() string { return filepath.Base(u.path) }

// begins tells whether a request continues behind so many bytes, as far as it says where.
func begins(req *http.Request, size int64) bool {
	m := rangePattern.FindStringSubmatch(req.Header.Get("Content-Range"))
	if m == nil {
		return true
	}
	start, err := strconv.ParseInt(m[1], 10, 64)
	return err == nil && start == size
}

// agrees tells whether the file is as long as this registry has left it. Where something else has written to
// it, its real size is remembered and no sum is trusted.
func (u *upload) agrees(f *os.File) bool {
	if info, err := f.Stat(); err == nil && info.Size() == u.size {
		return true
	}
	u.lookAgain()
	return false
}

// lookAgain takes the size from the file after a write that has failed, and trusts no sum.
func (u *upload) lookAgain() {
	if info, err := os.Stat(u.path); err == nil {
		u.size = info.Size()
	}
	u.sum, u.summed = digest.Canonical.Hash(), 0
}

// answer tells where an upload goes on and how much of it is there.
func (u *upload) answer(w http.ResponseWriter, name string, status int) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+u.id())
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
	w.Header().Set("Docker-Upload-UUID", u.id())
	w.WriteHeader(status)
}

func created(w http.ResponseWriter, name string, dg digest.Digest) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+dg.String())
	w.Header().Set("Docker-Content-Digest", dg.String())
	w.WriteHeader(http.StatusCreated)
}

// commit ends an upload: what has arrived gets its name if it is what the digest says.
func (r *Registry) commit(w http.ResponseWriter, u *upload, name, text string) {
	dg := digest.Digest(text)
	if dg.Validate() != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "malformed digest")
		return
	}
	got, err := u.digest(dg.Algorithm(), r.alone)
	if err != nil {
		fail(w, err)
		return
	}
	if got != dg {
		r.uploads.forget(u)
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "what has arrived is not what the digest says")
		return
	}
	if err := place(u.path, r.store.blobFile(dg)); err != nil {
		fail(w, err)
		return
	}
	r.uploads.forget(u)
	created(w, name, dg)
}

// digest returns the digest of what has arrived. The sum that was taken on the way counts only where nobody
// else can have written to the file.
func (u *upload) digest(algorithm digest.Algorithm, alone bool) (digest.Digest, error) {
	f, err := open(u.path, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if alone && u.agrees(f) && algorithm == digest.Canonical && u.summed == u.size {
		return digest.NewDigest(algorithm, u.sum), nil
	}
	return algorithm.FromReader(f)
}
