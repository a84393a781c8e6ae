package serve

import (
	"encoding/json"
	"net/http"

	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// descriptor is a manifest in a list of referrers, as the OCI distribution spec has it.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// serveReferrers lists the manifests of a repository that have a manifest as their subject. That manifest
// need not be there.
func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request, name, text string) {
	switch {
	case digest.Digest(text).Validate() != nil:
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "malformed digest")
		return
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "a list is read")
		return
	}
	query := req.URL.Query()
	list, more, err := r.store.referrers(name, text, query.Get("artifactType"), query.Get("last"))
	if err != nil {
		fail(w, err)
		return
	}
	if more {
		query.Set("last", list[len(list)-1].Digest)
		w.Header().Set("Link", "<"+req.URL.Path+"?"+query.Encode()+`>; rel="next"`)
	}
	if query.Has("artifactType") {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", registry.MediaTypeIndex)
	index := map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeIndex, "manifests": list}
	_ = json.NewEncoder(w).Encode(index) // only the client can fail it
}
