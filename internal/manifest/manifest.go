// Package manifest tells what kind of manifest some bytes are.
package manifest

import (
	"encoding/json"
	"strings"
)

// MediaType returns the media type of a manifest: what it says or, since old ones
// say nothing, what its shape tells.
func MediaType(manifest []byte) string {
	var m struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
		Config    struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}
	_ = json.Unmarshal(manifest, &m) // the registry judges it
	switch {
	case m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil:
		return "application/vnd.oci.image.index.v1+json"
	case m.FSLayers != nil:
		return "application/vnd.docker.distribution.manifest.v1+prettyjws"
	case m.Config.MediaType == "", strings.HasPrefix(m.Config.MediaType, "application/vnd.docker."):
		return "application/vnd.docker.distribution.manifest.v2+json"
	default: // charts and other artifacts too: only OCI lets a config be anything
		return "application/vnd.oci.image.manifest.v1+json"
	}
}
