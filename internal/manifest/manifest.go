// Package manifest tells what kind of manifest some bytes are, and refuses those that are two at once.
package manifest

import (
	"encoding/json"
	"strings"

	"github.com/modeltransfer/transfer/internal/wire"
)

// Media types of manifests and indexes.
const (
	ociImage    = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex    = "application/vnd.oci.image.index.v1+json"
	OCIArtifact = "application/vnd.oci.artifact.manifest.v1+json" // of OCI 1.1 before its release
	dockerImage = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json"

	schema1Unsigned = "application/vnd.docker.distribution.manifest.v1+json"
	schema1         = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// kind is what a manifest is to those who read it.
type kind string

// Kinds. The zero value is unknown.
const (
	image    kind = "manifest"
	index    kind = "index"
	artifact kind = "artifact manifest"
	legacy   kind = "manifest of schema 1"
)

// kindOf returns the kind that a media type stands for.
func kindOf(mediaType string) kind {
	switch mediaType {
	case ociImage, dockerImage:
		return image
	case OCIIndex, dockerIndex:
		return index
	case OCIArtifact:
		return artifact
	case schema1, schema1Unsigned:
		return legacy
	}
	return ""
}

// document is what tells the kind of a manifest.
type document struct {
	MediaType string          `json:"mediaType"`
	Config    json.RawMessage `json:"config"`
	Layers    json.RawMessage `json:"layers"`
	Manifests json.RawMessage `json:"manifests"`
	FSLayers  json.RawMessage `json:"fsLayers"`
	Blobs     json.RawMessage `json:"blobs"`
}

// kinds returns the kinds that the fields of the document are those of.
func (d *document) kinds() (list []kind) {
	if present(d.Config) || present(d.Layers) {
		list = append(list, image)
	}
	if present(d.Manifests) {
		list = append(list, index)
	}
	if present(d.Blobs) {
		list = append(list, artifact)
	}
	if present(d.FSLayers) {
		list = append(list, legacy)
	}
	return list
}

func present(value json.RawMessage) bool { return len(value) > 0 && string(value) != "null" }

// MediaType returns the media type of a manifest: what it says or, since some say nothing, what its shape
// tells. One of an image is OCI's then, also with Docker's config: Docker's own must say what they are, and
// registries refuse those that do not.
func MediaType(manifest []byte) string {
	var d document
	_ = json.Unmarshal(manifest, &d) // the registry judges it
	switch {
	case d.MediaType != "":
		return d.MediaType
	case present(d.Manifests):
		return OCIIndex
	case present(d.FSLayers):
		return schema1
	case present(d.Blobs):
		return OCIArtifact
	case present(d.Config), present(d.Layers):
		return ociImage
	default: // it is no manifest of a kind known here
		return dockerImage
	}
}

// Told returns the media type of a manifest that came with a Content-Type: that, where it is one of a
// manifest or the manifest says nothing, and else what the manifest says or its shape tells. A static host
// calls all files alike.
func Told(manifest []byte, contentType string) string {
	contentType = wire.MediaType(contentType)
	var d document
	_ = json.Unmarshal(manifest, &d)
	isVendors := strings.HasPrefix(contentType, "application/vnd.")
	if kindOf(contentType) != "" || isVendors && d.MediaType == "" {
		return contentType
	}
	return MediaType(manifest)
}
