package serve

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// serveManifest answers a request for a manifest by its tag or digest.
func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, name, what string) {
	if digest.Digest(what).Validate() != nil && !tagPattern.MatchString(what) {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "malformed tag or digest")
		return
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		r.getManifest(w, req, name, what)
	case http.MethodPut:
		r.putManifest(w, req, name, what)
	case http.MethodDelete:
		r.deleteManifest(w, name, what)
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a method of a manifest")
	}
}

func (r *Registry) getManifest(w http.ResponseWriter, req *http.Request, name, what string) {
	dg := digest.Digest(what)
	if !strings.Contains(what, ":") {
		text, err := readFile(r.store.entry(name, what))
		if err != nil {
			unknownManifest(w, r.store.repository(name), err)
			return
		}
		dg = digest.Digest(strings.TrimSpace(string(text)))
	}
	if dg.Validate() != nil {
		fail(w, nil)
		return
	}
	m, err := r.store.readManifest(name, dg)
	if err != nil {
		unknownManifest(w, r.store.repository(name), err)
		return
	}
	w.Header().Set("Content-Type", m.MediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.Data)))
	w.Header().Set("Docker-Content-Digest", dg.String())
	w.Header().Set("Etag", `"`+dg.String()+`"`)
	if req.Method == http.MethodGet {
		_, _ = w.Write(m.Data)
	}
}

// isManifest tells whether something of this media type is a manifest. A browser would show others.
func isManifest(mediaType string) bool {
	switch mediaType {
	case registry.MediaTypeManifest, registry.MediaTypeIndex, registry.MediaTypeDockerManifest,
		registry.MediaTypeDockerIndex, "application/vnd.oci.artifact.manifest.v1+json":
		return true
	}
	return false
}

// deleteManifest removes a tag or, with all its tags, a manifest from a repository.
func (r *Registry) deleteManifest(w http.ResponseWriter, name, what string) {
	if strings.Contains(what, ":") {
		tags, err := r.store.tags(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			fail(w, err)
			return
		}
		for tag, dg := range tags {
			if dg.String() == what {
				_ = os.Remove(r.store.entry(name, tag)) // a tag that leads nowhere is not listed either
			}
		}
	}
	deleteFile(w, r.store.entry(name, what), "MANIFEST_UNKNOWN")
}

// unknownManifest answers that a manifest could not be read. Repository is the directory of its repository.
func unknownManifest(w http.ResponseWriter, repository string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		fail(w, err)
		return
	}
	if _, err := os.Stat(repository); err != nil {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "there is no such repository")
		return
	}
	refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "there is no such manifest")
}

// putManifest keeps a manifest whose blobs are all there.
func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, name, what string) {
	data := readManifest(w, req)
	if data == nil {
		return
	}
	dg := digest.FromBytes(data)
	if strings.Contains(what, ":") {
		asked := digest.Digest(what)
		if dg = asked.Algorithm().FromBytes(data); dg != asked {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "the manifest is not what the digest says")
			return
		}
	}
	mediaType, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	m := registry.NewManifest(data, mediaType)
	content, why := judge(m)
	if why != "" {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", why)
		return
	}
	missing, err := r.store.missing(content)
	switch {
	case err != nil:
		fail(w, err)
		return
	case missing != "":
		refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "there is no blob "+missing)
		return
	}
	if err := r.store.keep(name, what, dg, m); err != nil {
		fail(w, err)
		return
	}
	if content.Subject != nil { // it is listed: a client need not keep a list under a tag
		w.Header().Set("OCI-Subject", content.Subject.Digest)
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+dg.String())
	w.Header().Set("Docker-Content-Digest", dg.String())
	w.WriteHeader(http.StatusCreated)
}

// readManifest reads the manifest of a request. Where it cannot, it has answered, and returns nil.
func readManifest(w http.ResponseWriter, req *http.Request) []byte {
	data, err := io.ReadAll(io.LimitReader(req.Body, maxManifest+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		refuse(w, http.StatusRequestTimeout, "MANIFEST_INVALID", "the manifest did not come in time")
	case err != nil: // the client has gone
	case len(data) > maxManifest:
		refuse(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is larger than 4 MiB")
	default:
		return data
	}
	return nil
}

// judge returns what a manifest says, or why it is none.
func judge(m registry.Manifest) (c registry.Content, why string) {
	c, err := m.Content()
	if err != nil {
		return c, "malformed manifest"
	}
	if !isManifest(m.MediaType) {
		return c, "this media type is not that of a manifest"
	}
	if own := ownType(m.Data); own != "" && own != m.MediaType {
		return c, "the manifest says that it is of another media type"
	}
	if len(c.Manifests) > 0 && (c.Config != nil || len(c.Layers) > 0) {
		return c, "the manifest is an index as well"
	}
	return c, ""
}

// ownType is the media type that a manifest says it has, or "".
func ownType(data []byte) string {
	var m struct {
		MediaType string `json:"mediaType"`
	}
	_ = json.Unmarshal(data, &m) // it has been read before
	return m.MediaType
}
