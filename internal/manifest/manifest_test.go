package manifest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMediaType(t *testing.T) {
	const (
		oci    = "application/vnd.oci.image.manifest.v1+json"
		docker = "application/vnd.docker.distribution.manifest.v2+json"
	)
	for manifest, want := range map[string]string{
		`{"mediaType":"application/x"}`: "application/x",
		`{"manifests":[]}`:              "application/vnd.oci.image.index.v1+json",
		`{"fsLayers":[]}`:               "application/vnd.docker.distribution.manifest.v1+prettyjws",
		`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"}}`:       oci,
		`{"config":{"mediaType":"application/vnd.docker.container.image.v1+json"}}`: docker,
		`{}`: docker,
		``:   docker,
		`[]`: docker,
	} {
		assert.Equal(t, want, MediaType([]byte(manifest)), manifest)
	}
}
