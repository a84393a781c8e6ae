package pack

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What oras gives files and directories where nobody says otherwise.
const (
	defaultArtifactType = "application/vnd.unknown.artifact.v1"
	fileMediaType       = "application/vnd.oci.image.layer.v1.tar"
	directoryMediaType  = "application/vnd.oci.image.layer.v1.tar+gzip"

	// UnpackAnnotation marks a layer that is a directory as a tar archive.
	UnpackAnnotation = "io.deis.oras.content.unpack"

	// contentAnnotation is the digest of the archive before it was compressed.
	contentAnnotation = "io.deis.oras.content.digest"
)

// Options say what a manifest is to say besides its layers.
type Options struct {
	ArtifactType string
	MediaType    string // of each file
	Annotations  map[string]string

	// Subject is the manifest that this one refers to, or nil.
	Subject *ocispec.Descriptor
}

// Files returns the manifest of plain files, as oras writes it.
func (s *Stage) Files(files []File, digests []digest.Digest, o Options) (Part, error) {
	layers := make([]ocispec.Descriptor, len(files))
	for i, f := range files {
		var err error
		if f.Info.IsDir() {
			layers[i], err = s.emptyDirectory(f.Title)
		} else {
			layers[i] = fileLayer(f, digests[i], o)
			err = s.add(f.Path, digests[i])
		}
		if err != nil {
			return Part{}, err
		}
	}
	return s.manifest(layers, o)
}

func fileLayer(f File, dg digest.Digest, o Options) ocispec.Descriptor {
	d := ocispec.Descriptor{
		MediaType: cmp.Or(o.MediaType, fileMediaType), Digest: dg, Size: f.Info.Size(),
		Annotations: map[string]string{ocispec.AnnotationTitle: f.Title},
	}
	if f.Mode()&0o100 != 0 { // others have the manifest that oras writes
		d.Annotations[metadataAnnotation] = metadataOf(f)
	}
	return d
}

// emptyDirectory packs a directory that has nothing in it, as oras would.
func (s *Stage) emptyDirectory(title string) (ocispec.Descriptor, error) {
	var packed, content bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := tar.NewWriter(io.MultiWriter(zip, &content))
	header := &tar.Header{Typeflag: tar.TypeDir, Name: title + "/", Mode: 0o755}
	if err := errors.Join(archive.WriteHeader(header), archive.Close(), zip.Close()); err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := s.addBytes(directoryMediaType, packed.Bytes())
	d.Annotations = map[string]string{
		ocispec.AnnotationTitle: title, UnpackAnnotation: "true",
		contentAnnotation: digest.FromBytes(content.Bytes()).String(),
	}
	return d, err
}

// manifest returns the manifest of layers that are in the stage.
func (s *Stage) manifest(layers []ocispec.Descriptor, o Options) (Part, error) {
	config, err := s.addBytes(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return Part{}, err
	}
	config.Data = []byte("{}")
	return newPart(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: cmp.Or(o.ArtifactType, defaultArtifactType),
		Config:       config, Layers: layers, Annotations: o.Annotations, Subject: o.Subject,
	}, config, layers)
}
