package serve

import (
	"crypto/rand"
	"encoding/hex"
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

	"github.com/modeltransfer/transfer/internal/rootfile"
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
	u, err := r.find(id)
	if err != nil {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
		return
	}
	u.Lock()
	defer u.Unlock()
	switch req.Method {
	case http.MethodGet:
		u.answer(w, name, id, http.StatusNoContent)
	case http.MethodPatch:
		if r.append(w, req, u, name, id) {
			u.answer(w, name, id, http.StatusAccepted)
		}
	case http.MethodPut:
		if r.append(w, req, u, name, id) {
			r.commit(w, u, name, id, req.URL.Query().Get("digest"))
		}
	case http.MethodDelete:
		r.forget(id)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a method of an upload")
	}
}

// begin mounts a blob that is there, takes one with the request, or opens an upload.
func (r *Registry) begin(w http.ResponseWriter, req *http.Request, name string) {
	query := req.URL.Query()
	if dg := digest.Digest(query.Get("mount")); r.has(dg) {
		created(w, name, dg)
		return
	}
	id, u, err := r.open()
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
		u.answer(w, name, id, http.StatusAccepted)
		return
	}
	if r.append(w, req, u, name, id) {
		r.commit(w, u, name, id, query.Get("digest"))
	}
}

// open opens an upload. The error is errFull where too many are open.
func (r *Registry) open() (id string, u *upload, err error) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	id = hex.EncodeToString(random[:])
	u = &upload{path: filepath.Join(r.dir, "uploads", id), sum: digest.Canonical.Hash()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.makeRoom(); err != nil {
		return "", nil, err
	}
	f, err := os.OpenFile(u.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return "", nil, err
	}
	r.uploads[id] = u
	return id, u, nil
}

// find returns an upload, also one of an earlier run.
func (r *Registry) find(id string) (*upload, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.uploads[id]; u != nil {
		return u, nil
	}
	path := filepath.Join(r.dir, "uploads", id)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !rootfile.IsOwn(info) { // its owner may write to it at any time
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	u := &upload{path: path, size: info.Size(), sum: digest.Canonical.Hash()}
	r.uploads[id] = u
	return u, nil
}

func (r *Registry) forget(id string) {
	r.mu.Lock()
	u := r.uploads[id]
	delete(r.uploads, id)
	r.mu.Unlock()
	if u != nil {
		_ = os.Remove(u.path) // a start after a week tries again
	}
}

// append writes the body of a request behind what is there, and reports whether all of it came. What
// came stays in any case.
func (r *Registry) append(w http.ResponseWriter, req *http.Request, u *upload, name, id string) bool {
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
		u.answer(w, name, id, http.StatusRequestedRangeNotSatisfiable)
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
func (u *upload) answer(w http.ResponseWriter, name, id string, status int) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
	w.Header().Set("Docker-Upload-UUID", id)
	w.WriteHeader(status)
}

func created(w http.ResponseWriter, name string, dg digest.Digest) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+dg.String())
	w.Header().Set("Docker-Content-Digest", dg.String())
	w.WriteHeader(http.StatusCreated)
}

// commit ends an upload: what has arrived gets its name if it is what the digest says.
func (r *Registry) commit(w http.ResponseWriter, u *upload, name, id, text string) {
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
		r.forget(id)
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "what has arrived is not what the digest says")
		return
	}
	if err := place(u.path, r.blobFile(dg)); err != nil {
		fail(w, err)
		return
	}
	r.forget(id)
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

// place gives a file its final name, durably.
func place(from, to string) error {
	f, err := open(from, os.O_RDWR)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	return os.Rename(from, to)
}
