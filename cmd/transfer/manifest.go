package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/modeltransfer/transfer"
	"github.com/opencontainers/go-digest"
)

const (
	manifestName = "manifest.json"

	// maxManifest is the largest manifest that is read. Registries commonly stop
	// at 4 MiB, which is some 15,000 tensors.
	maxManifest = 16 << 20 // 16 MiB

	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

var (
	errManifest         = errors.New("not an OCI or Docker manifest")
	errIndex            = errors.New("an index of several manifests, which is not supported")
	errManifestDigest   = errors.New("the manifest does not match its digest")
	errManifestTooLarge = fmt.Errorf("the manifest is larger than %d MiB", maxManifest>>20)
)

// descriptor points to a blob, or to a manifest in an index.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	Name      string `json:"name,omitempty"`
}

// manifest is the part of a manifest that says what to move.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// parseManifest reads a manifest whose blobs can be moved. An index is refused
// with a hint at one of its manifests.
func parseManifest(data []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	switch {
	case len(m.Manifests) > 0 || m.MediaType == ociIndex || m.MediaType == dockerIndex:
		return nil, indexError(m.Manifests)
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("%w: schemaVersion is %d, not 2", errManifest, m.SchemaVersion)
	case m.Config.Digest == "":
		return nil, fmt.Errorf("%w: it has no config", errManifest)
	}
	for _, d := range append([]descriptor{m.Config}, m.Layers...) {
		if err := digest.Digest(d.Digest).Validate(); err != nil {
			return nil, fmt.Errorf("%w: digest %.100q: %w", errManifest, d.Digest, err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("%w: %s has size %d", errManifest, d.Digest, d.Size)
		}
	}
	return &m, nil
}

func indexError(children []descriptor) error {
	if len(children) == 0 || digest.Digest(children[0].Digest).Validate() != nil {
		return errIndex
	}
	return fmt.Errorf("%w; name one of the %d by its digest, such as @%s", errIndex, len(children), children[0].Digest)
}

// blobs lists the config and the layers, each digest once.
func (m *manifest) blobs() []transfer.Blob {
	seen := make(map[transfer.Blob]bool, len(m.Layers)+1)
	blobs := make([]transfer.Blob, 0, len(m.Layers)+1)
	for _, d := range append([]descriptor{m.Config}, m.Layers...) {
		b := transfer.Blob{Digest: d.Digest, Size: d.Size}
		if !seen[b] {
			seen[b] = true
			blobs = append(blobs, b)
		}
	}
	return blobs
}

// checkDigest reports whether data is what a digest says. No digest is no check.
func checkDigest(data []byte, want digest.Digest) error {
	if want == "" {
		return nil
	}
	if got := want.Algorithm().FromBytes(data); got != want {
		return fmt.Errorf("%w: it is %s, not %s", errManifestDigest, got, want)
	}
	return nil
}

// readManifest reads the manifest of a directory.
func readManifest(dir string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

// readBounded reads a manifest to its end, which must come in time.
func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = errManifestTooLarge
	}
	return data, err
}

// writeManifest gives a directory its manifest, whole or not at all. On failure
// a manifest that was there before is unchanged.
func writeManifest(dir string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, ".manifest-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, manifestName))
}

// blobPath is where a directory keeps a blob. The digest must be valid.
func blobPath(dir, dg string) string {
	return filepath.Join(dir, strings.Replace(dg, ":", "-", 1))
}
