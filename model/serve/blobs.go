package serve

import (
	"errors"
	"io/fs"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"
)

// serveBlob answers a request for a blob, also for a range of it.
func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, _, text string) {
	dg := digest.Digest(text)
	if dg.Validate() != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "malformed digest")
		return
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		deleteFile(w, r.store.blobFile(dg), "BLOB_UNKNOWN")
		return
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "a blob is read or deleted")
		return
	}
	f, err := r.store.openBlob(dg)
	if errors.Is(err, fs.ErrNotExist) {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "there is no such blob")
		return
	}
	if err != nil {
		fail(w, err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", dg.String())
	w.Header().Set("Etag", `"`+dg.String()+`"`)
	http.ServeContent(w, req, "", info.ModTime(), f)
}

func deleteFile(w http.ResponseWriter, path, code string) {
	switch err := os.Remove(path); {
	case errors.Is(err, fs.ErrNotExist):
		refuse(w, http.StatusNotFound, code, "there is nothing under this name")
	case err != nil:
		fail(w, err)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}
