package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/sentinel"
)

// Media types of manifests and indexes.
const (
	MediaTypeManifest       = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex          = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// maxManifest is the largest manifest that is read, with some 15,000 tensors. The registry of the
// distribution project takes no larger one.
const maxManifest = 4 << 20 // 4 MiB

// Errors that callers can match with [errors.Is], beside those of package transfer.
var (
	// ErrManifest is a manifest that cannot be used: not JSON, of an unknown form, with a malformed
	// digest or size in it, or one that can be read as two different ones.
	ErrManifest = sentinel.ErrManifest

	// ErrIndex is an index where a manifest is needed. [Repository.Platform] picks one of its manifests.
	ErrIndex = errors.New("an index of several manifests")

	// ErrPlatform is an index without a manifest for the platform, or with several where none was named. The
	// error lists those there are.
	ErrPlatform = errors.New("no manifest for the platform")
)

// Manifest is a manifest or an index, as the registry has it.
type Manifest struct {
	// Data are its bytes. They must not be changed.
	Data []byte

	// Digest is the digest of Data, of the algorithm that was asked for or that the registry has named.
	Digest string

	// MediaType is what the registry called it or, where that was no type of a manifest, what its bytes tell.
	MediaType string
}

// NewManifest returns the manifest with these bytes, for [Repository.PutManifest] or to read it. An
// empty media type is found out from the bytes.
func NewManifest(data []byte, mediaType string) Manifest {
	if mediaType == "" {
		mediaType = manifest.MediaType(data)
	}
	return Manifest{Data: data, Digest: digest.FromBytes(data).String(), MediaType: mediaType}
}

// Content is what a manifest or an index says. What is not there is the zero value.
type Content struct {
	ArtifactType string
	Config       *Descriptor  // of a manifest
	Layers       []Descriptor // of a manifest; the blobs of an OCI artifact manifest
	Manifests    []Descriptor // of an index
	Subject      *Descriptor
	Annotations  map[string]string
}

// Descriptor says what a manifest consists of, or an index lists (OCI image spec, "Content Descriptors").
type Descriptor struct {
	MediaType    string
	ArtifactType string
	Digest       string
	Size         int64
	Annotations  map[string]string

	// Platform is "os/architecture" or "os/architecture/variant" of a manifest in an index; empty where
	// it has none.
	Platform string
}

// Title returns the file name that a layer had where it was pushed (annotation
// "org.opencontainers.image.title"), or "". It is what somebody wrote: check it before you make a path
// of it.
func (d Descriptor) Title() string { return d.Annotations["org.opencontainers.image.title"] }

// Blob returns the descriptor's blob.
func (d Descriptor) Blob() transfer.Blob { return transfer.Blob{Digest: d.Digest, Size: d.Size} }

// IsIndex reports whether it is an index, which lists manifests, one for each platform for instance.
func (m Manifest) IsIndex() bool {
	switch m.MediaType {
	case MediaTypeIndex, MediaTypeDockerIndex:
		return true
	case MediaTypeManifest, MediaTypeDockerManifest:
		return false
	}
	return manifest.MediaType(m.Data) == MediaTypeIndex
}

// Blobs returns what there is to fetch: the config and the layers, each once. The error is [ErrIndex]
// for an index, and [ErrManifest].
func (m Manifest) Blobs() ([]transfer.Blob, error) {
	c, err := m.Content()
	if err != nil {
		return nil, err
	}
	if m.IsIndex() {
		return nil, fmt.Errorf("%w (%s): pick a platform: %s", ErrIndex, m.Digest, platforms(c.Manifests))
	}
	list := c.Layers
	switch {
	case c.Config != nil:
		list = append([]Descriptor{*c.Config}, list...)
	case manifest.MediaType(m.Data) != manifest.OCIArtifact:
		return nil, fmt.Errorf("%w: %s has no config (media type %.100q)", ErrManifest, m.Digest, m.MediaType)
	}
	sizes := make(map[string]int64, len(list))
	blobs := make([]transfer.Blob, 0, len(list))
	for _, d := range list {
		size, twice := sizes[d.Digest]
		if twice && size != d.Size {
			return nil, fmt.Errorf("%w: %s is listed with sizes %d and %d",
				ErrManifest, d.Digest, size, d.Size)
		}
		if !twice {
			sizes[d.Digest] = d.Size
			blobs = append(blobs, d.Blob())
		}
	}
	return blobs, nil
}

// Content returns what the manifest or index says. The error is [ErrManifest]: all digests and sizes
// are checked.
func (m Manifest) Content() (Content, error) {
	if err := manifest.CheckOne(m.Data, m.MediaType); err != nil {
		return Content{}, err
	}
	var raw rawContent
	if err := json.Unmarshal(m.Data, &raw); err != nil {
		return Content{}, fmt.Errorf("%w %s: %w", ErrManifest, m.Digest, err)
	}
	raw.Layers = append(raw.Layers, raw.Blobs...)
	c := Content{ArtifactType: raw.ArtifactType, Annotations: raw.Annotations}
	for _, list := range []struct {
		from []rawDescriptor
		to   *[]Descriptor
	}{{raw.Layers, &c.Layers}, {raw.Manifests, &c.Manifests}} {
		for _, d := range list.from {
			checked, err := d.check()
			if err != nil {
				return Content{}, fmt.Errorf("%w %s: %w", ErrManifest, m.Digest, err)
			}
			*list.to = append(*list.to, checked)
		}
	}
	for _, one := range []struct {
		from *rawDescriptor
		to   **Descriptor
	}{{raw.Config, &c.Config}, {raw.Subject, &c.Subject}} {
		if one.from == nil {
			continue
		}
		checked, err := one.from.check()
		if err != nil {
			return Content{}, fmt.Errorf("%w %s: %w", ErrManifest, m.Digest, err)
		}
		*one.to = &checked
	}
	return c, nil
}

// rawContent is Content as JSON has it.
type rawContent struct {
	ArtifactType string            `json:"artifactType"`
	Config       *rawDescriptor    `json:"config"`
	Layers       []rawDescriptor   `json:"layers"`
	Blobs        []rawDescriptor   `json:"blobs"` // as an OCI artifact manifest calls its layers
	Manifests    []rawDescriptor   `json:"manifests"`
	Subject      *rawDescriptor    `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

type rawDescriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations"`
	Platform     struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	} `json:"platform"`
}

func (d rawDescriptor) check() (Descriptor, error) {
	if err := d.Digest.Validate(); err != nil {
		return Descriptor{}, fmt.Errorf("digest %.100q: %w", d.Digest, err)
	}
	if d.Size < 0 {
		return Descriptor{}, fmt.Errorf("%s has size %d", d.Digest, d.Size)
	}
	platform := slices.DeleteFunc([]string{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant},
		func(part string) bool { return part == "" })
	return Descriptor{
		MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest.String(), Size: d.Size,
		Annotations: d.Annotations, Platform: strings.Join(platform, "/"),
	}, nil
}
