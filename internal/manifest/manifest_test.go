package manifest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMediaType(t *testing.T) {
	const (
		oci     = "application/vnd.oci.image.manifest.v1+json"
		index   = "application/vnd.oci.image.index.v1+json"
		docker  = "application/vnd.docker.distribution.manifest.v2+json"
		list    = "application/vnd.docker.distribution.manifest.list.v2+json"
		schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
		other   = "application/x+json"
	)
	config := func(mediaType string) string {
		return `{"schemaVersion":2,"config":{"mediaType":"` + mediaType + `"},"layers":[]}`
	}
	for name, c := range map[string]struct{ manifest, want string }{
		"says it":           {`{"mediaType":"` + other + `",` + config("application/vnd.oci.x")[1:], other},
		"docker list":       {`{"mediaType":"` + list + `","manifests":[]}`, list},
		"index":             {`{"schemaVersion":2,"manifests":[]}`, index},
		"OCI config":        {config("application/vnd.oci.image.config.v1+json"), oci},
		"OCI empty":         {config("application/vnd.oci.empty.v1+json"), oci},
		"Helm chart":        {config("application/vnd.cncf.helm.config.v1+json"), oci},
		"ORAS artifact":     {config("application/vnd.unknown.config.v1+json"), oci},
		"docker plugin":     {config("application/vnd.docker.plugin.v1+json"), oci},
		"docker config":     {config("application/vnd.docker.container.image.v1+json"), oci},
		"schema 1":          {`{"schemaVersion":1,"fsLayers":[]}`, schema1},
		"nothing to tell":   {`{}`, docker},
		"unusual mediaType": {`{"mediaType":7}`, docker},
		"empty":             {``, docker},
		"a list":            {`[]`, docker},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, MediaType([]byte(c.manifest))) })
	}
}
