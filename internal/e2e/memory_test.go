package e2e

import (
	"io"
	"log"
	"net/http"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/google/go-containerregistry/pkg/registry"
)

// newContainerRegistry is the registry of go-containerregistry, in memory.
func newContainerRegistry() http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)))
}

// newOCIMem is the registry of cuelabs' ociregistry, in memory.
func newOCIMem() http.Handler {
	return ociserver.New(ocimem.New(), nil)
}
