package registrytest

import (
	"encoding/json"
	"io"
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

// manifestCall is a call about manifests, the tags of some and what refers to one.
type manifestCall struct{ *call }

func (c manifestCall) serve() {
	if c.r.Method == http.MethodPut {
		c.put()
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

func (c manifestCall) put() {
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
func (c manifestCall) missing(m content) []ociError {
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

// tags answers with a page of the tags.
func (c manifestCall) tags() {
	list := c.reg.tags(c.target.repo)
	c.json("application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{c.target.repo, c.page(list, len(list))})
}

// catalogPage is how many repositories a page has that is asked for without a number, as at the registry of
// the distribution project.
const catalogPage = 100

// catalog answers with a page of the names of the repositories.
func (c *call) catalog() {
	c.json("application/json", map[string][]string{"repositories": c.page(c.reg.names(), catalogPage)})
}

// page cuts out of a list, which is in order, what comes after "last", "n" or else that many, and tells where
// the next begins.
func (c *call) page(list []string, most int) []string {
	query := c.r.URL.Query()
	last := query.Get("last")
	list = slices.DeleteFunc(list, func(name string) bool { return name <= last })
	n, err := strconv.Atoi(query.Get("n"))
	if err != nil || n < 0 {
		n = most
	}
	if n > 0 && n < len(list) {
		query.Set("n", strconv.Itoa(n))
		query.Set("last", list[n-1])
		c.w.Header().Set("Link", "<"+c.r.URL.Path+"?"+query.Encode()+`>; rel="next"`)
	}
	return append([]string{}, list[:min(n, len(list))]...)
}

// referrers answers with an index of the manifests whose subject is the digest.
func (c manifestCall) referrers() {
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
	c.json(index.MediaType, index)
}
