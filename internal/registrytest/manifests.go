package registrytest

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// manifest is a manifest as it was pushed.
type manifest struct {
	mediaType string
	data      []byte
}

// descriptor is what a manifest says of something else.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"` // where it is kept instead of in the registry
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// content is what the registry reads of a manifest.
type content struct {
	Config       *descriptor       `json:"config"`
	Layers       []descriptor      `json:"layers"`
	Manifests    []descriptor      `json:"manifests"`
	Subject      *descriptor       `json:"subject"`
	ArtifactType string            `json:"artifactType"`
	Annotations  map[string]string `json:"annotations"`
}

// manifest finds a manifest by tag or digest.
func (reg *Registry) manifest(repo, ref string) (manifest, digest.Digest, bool) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	space := reg.repo(repo)
	d, tagged := space.tags[ref]
	if !tagged {
		d = digest.Digest(ref)
	}
	m, ok := space.manifests[d]
	return m, d, ok
}

// PutManifest stores a manifest under a tag, or under its digest when ref is one,
// unchecked.
func (reg *Registry) PutManifest(repo, ref, mediaType string, data []byte) digest.Digest {
	d, err := digest.Parse(ref)
	tagged := err != nil
	if tagged {
		d = digest.FromBytes(data)
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.repo(repo).manifests[d] = manifest{mediaType: mediaType, data: data}
	if tagged {
		reg.repo(repo).tags[ref] = d
	}
	return d
}

func (c *call) manifestCall() {
	if c.r.Method == http.MethodPut {
		c.putManifest()
		return
	}
	m, d, ok := c.reg.manifest(c.target.repo, c.target.ref)
	if !ok {
		c.fail(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		c.w.Header().Set("Docker-Content-Digest", d.String())
		c.w.Header().Set("ETag", `"`+d.String()+`"`)
		c.send(http.StatusOK, m.mediaType, m.data)
	case http.MethodDelete:
		c.reg.deleteManifest(c.target.repo, c.target.ref)
		c.empty(http.StatusAccepted)
	default:
		c.notAllowed()
	}
}

func (c *call) putManifest() {
	data, err := io.ReadAll(c.r.Body)
	if err != nil {
		c.fail(http.StatusBadRequest, "MANIFEST_INVALID", "the body ended early")
		return
	}
	var parsed content
	if err := json.Unmarshal(data, &parsed); err != nil {
		c.fail(http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	if !fits(c.target.ref, data) {
		c.fail(http.StatusBadRequest, "DIGEST_INVALID", "not a tag, nor the digest of the manifest")
		return
	}
	if missing := c.missing(parsed); c.opts.CheckManifest && len(missing) > 0 {
		writeError(c.w, http.StatusBadRequest, missing...)
		return
	}
	d := c.reg.PutManifest(c.target.repo, c.target.ref, c.r.Header.Get("Content-Type"), data)
	if parsed.Subject != nil && !c.opts.NoReferrers {
		c.w.Header().Set("OCI-Subject", parsed.Subject.Digest.String())
	}
	c.w.Header().Set("Docker-Content-Digest", d.String())
	c.location("/v2/" + c.target.repo + "/manifests/" + d.String())
	c.empty(http.StatusCreated)
}

// tag is what the distribution spec allows as a tag.
var tag = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// fits reports whether ref is a tag or the digest of data.
func fits(ref string, data []byte) bool {
	d, err := digest.Parse(ref)
	if err != nil {
		return tag.MatchString(ref)
	}
	return d.Algorithm().FromBytes(data) == d
}

// missing returns an error for each part of a manifest that is not there.
func (c *call) missing(m content) []ociError {
	parts := m.Layers
	if m.Config != nil {
		parts = append([]descriptor{*m.Config}, parts...)
	}
	var errs []ociError
	for _, part := range parts {
		if len(part.URLs) == 0 && !c.reg.Has(c.target.repo, part.Digest) {
			errs = append(errs, unknownPart(part.Digest))
		}
	}
	for _, part := range m.Manifests {
		if _, ok := c.reg.Manifest(c.target.repo, part.Digest.String()); !ok {
			errs = append(errs, unknownPart(part.Digest))
		}
	}
	return errs
}

func unknownPart(d digest.Digest) ociError {
	return ociError{Code: "MANIFEST_BLOB_UNKNOWN", Message: "blob unknown to registry", Detail: d.String()}
}

func (reg *Registry) deleteManifest(repo, ref string) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	space := reg.repo(repo)
	if _, tagged := space.tags[ref]; tagged {
		delete(space.tags, ref)
		return
	}
	delete(space.manifests, digest.Digest(ref))
	maps.DeleteFunc(space.tags, func(_ string, d digest.Digest) bool { return d.String() == ref })
}

// tagList answers with the tags after "last", at most "n".
func (c *call) tagList() {
	query := c.r.URL.Query()
	c.reg.mu.Lock()
	tags := slices.Sorted(maps.Keys(c.reg.repo(c.target.repo).tags))
	c.reg.mu.Unlock()
	tags = slices.DeleteFunc(tags, func(tag string) bool { return tag <= query.Get("last") })
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n >= 0 {
		tags = tags[:min(n, len(tags))]
	}
	c.json(http.StatusOK, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{c.target.repo, append([]string{}, tags...)})
}

// referrers answers with an index of the manifests whose subject is the digest.
func (c *call) referrers() {
	if c.opts.NoReferrers {
		c.fail(http.StatusNotFound, "UNSUPPORTED", "no referrers API")
		return
	}
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, "application/vnd.oci.image.index.v1+json", []descriptor{}}
	want := c.r.URL.Query().Get("artifactType")
	for _, d := range c.reg.pointingAt(c.target.repo, c.target.ref) {
		if want == "" || d.ArtifactType == want {
			index.Manifests = append(index.Manifests, d)
		}
	}
	if want != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	c.json(http.StatusOK, index.MediaType, index)
}

func (reg *Registry) pointingAt(repo, subject string) []descriptor {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	var found []descriptor
	space := reg.repo(repo)
	for _, d := range slices.Sorted(maps.Keys(space.manifests)) {
		m := space.manifests[d]
		var c content
		if json.Unmarshal(m.data, &c) != nil || c.Subject == nil || c.Subject.Digest.String() != subject {
			continue
		}
		kind := c.ArtifactType
		if kind == "" && c.Config != nil {
			kind = c.Config.MediaType
		}
		found = append(found, descriptor{
			MediaType: m.mediaType, Digest: d, Size: int64(len(m.data)),
			ArtifactType: kind, Annotations: c.Annotations,
		})
	}
	return found
}
