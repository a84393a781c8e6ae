package disk

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
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
		r.deleteFile(w, r.manifestEntry(name, what), "MANIFEST_UNKNOWN")
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "not a method of a manifest")
	}
}

// manifestEntry is the file that says that a repository has a tag or a manifest.
func (r *Registry) manifestEntry(name, what string) string {
	if strings.Contains(what, ":") {
		return filepath.Join(r.repository(name), "_manifests", strings.Replace(what, ":", "-", 1))
	}
	return filepath.Join(r.repository(name), "_tags", what)
}

func (r *Registry) getManifest(w http.ResponseWriter, req *http.Request, name, what string) {
	dg := digest.Digest(what)
	if !strings.Contains(what, ":") {
		text, err := os.ReadFile(r.manifestEntry(name, what))
		if err != nil {
			r.unknownManifest(w, name, err)
			return
		}
		dg = digest.Digest(strings.TrimSpace(string(text)))
	}
	if dg.Validate() != nil {
		fail(w, nil)
		return
	}
	mediaType, err := os.ReadFile(r.manifestEntry(name, dg.String()))
	if err != nil {
		r.unknownManifest(w, name, err)
		return
	}
	data, err := os.ReadFile(r.blobFile(dg))
	if err != nil {
		r.unknownManifest(w, name, err)
		return
	}
	w.Header().Set("Content-Type", strings.TrimSpace(string(mediaType)))
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Header().Set("Docker-Content-Digest", dg.String())
	w.Header().Set("Etag", `"`+dg.String()+`"`)
	if req.Method == http.MethodGet {
		_, _ = w.Write(data)
	}
}

func (r *Registry) unknownManifest(w http.ResponseWriter, name string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		fail(w, err)
		return
	}
	if _, err := os.Stat(r.repository(name)); err != nil {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "there is no such repository")
		return
	}
	refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "there is no such manifest")
}

// putManifest keeps a manifest whose blobs are all there.
func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, name, what string) {
	data, err := io.ReadAll(io.LimitReader(req.Body, maxManifest+1))
	switch {
	case err != nil:
		return // the client has gone
	case len(data) > maxManifest:
		refuse(w, http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is larger than 4 MiB")
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
	content, err := m.Content()
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "malformed manifest")
		return
	}
	if missing := r.missing(content); missing != "" {
		refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "there is no blob "+missing)
		return
	}
	if err := r.keepManifest(name, what, dg, m); err != nil {
		fail(w, err)
		return
	}
	// OCI-Subject is left out: it promises a list of referrers, which clients otherwise keep under a tag.
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+dg.String())
	w.Header().Set("Docker-Content-Digest", dg.String())
	w.WriteHeader(http.StatusCreated)
}

// missing returns the first blob or manifest that is named and not there.
func (r *Registry) missing(c registry.Content) string {
	all := slices.Concat(c.Layers, c.Manifests)
	if c.Config != nil {
		all = append(all, *c.Config)
	}
	for _, d := range all {
		if !r.has(digest.Digest(d.Digest)) {
			return d.Digest
		}
	}
	return ""
}

// keepManifest writes the manifest, then that it is there, then its tag.
func (r *Registry) keepManifest(name, what string, dg digest.Digest, m registry.Manifest) error {
	if err := r.write(r.blobFile(dg), m.Data); err != nil {
		return err
	}
	if err := r.write(r.manifestEntry(name, dg.String()), []byte(m.MediaType)); err != nil {
		return err
	}
	if strings.Contains(what, ":") {
		return nil
	}
	return r.write(r.manifestEntry(name, what), []byte(dg))
}

// write gives a file its content, whole or not at all.
func (r *Registry) write(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Join(r.dir, "uploads"), "small-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// serveTags lists the tags of a repository, in order.
func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request, name, _ string) {
	entries, err := os.ReadDir(filepath.Join(r.repository(name), "_tags"))
	if err != nil {
		r.unknownManifest(w, name, err)
		return
	}
	var tags []string
	for _, e := range entries {
		tags = append(tags, e.Name())
	}
	tags = page(w, req, tags)
	answerJSON(w, map[string]any{"name": name, "tags": tags})
}

// catalog lists the repositories, in order.
func (r *Registry) catalog(w http.ResponseWriter, req *http.Request) {
	names := []string{}
	root := os.DirFS(filepath.Join(r.dir, "repositories"))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "_manifests" {
			names = append(names, path.Dir(name))
			return fs.SkipDir
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fail(w, err)
		return
	}
	slices.Sort(names)
	answerJSON(w, map[string]any{"repositories": page(w, req, names)})
}

// page cuts out of a list what a request asks for, and says where the next begins.
func page(w http.ResponseWriter, req *http.Request, list []string) []string {
	query := req.URL.Query()
	if last := query.Get("last"); last != "" {
		i, found := slices.BinarySearch(list, last)
		if found {
			i++
		}
		list = list[i:]
	}
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n > 0 && n < len(list) {
		list = list[:n]
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {list[n-1]}}
		w.Header().Set("Link", "<"+req.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	return append([]string{}, list...)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // only the client can fail it
}
