package manifest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMediaType(t *testing.T) {
	for manifest, want := range map[string]string{
		`{"mediaType":"application/x"}`: "application/x",
		`{"manifests":[]}`:              "application/vnd.oci.image.index.v1+json",
		`{"fsLayers":[]}`:               "application/vnd.docker.distribution.manifest.v1+prettyjws",
		`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"}}`:       "application/vnd.oci.image.manifest.v1+json",
		`{"config":{"mediaType":"application/vnd.docker.container.image.v1+json"}}`: "application/vnd.docker.distribution.manifest.v2+json",
		`{}`: "application/vnd.docker.distribution.manifest.v2+json",
		``:   "application/vnd.docker.distribution.manifest.v2+json",
		`[]`: "application/vnd.docker.distribution.manifest.v2+json",
	} {
		assert.Equal(t, want, MediaType([]byte(manifest)), manifest)
	}
}
