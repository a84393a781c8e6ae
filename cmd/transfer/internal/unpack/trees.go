package unpack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/cmd/transfer/internal/pack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// OCI is an OCI image layout.
type OCI struct{ dir string }

// OpenOCI opens a layout and makes it where it is missing. A directory that holds something else is refused.
func OpenOCI(dir string) (OCI, error) {
	o := OCI{dir: dir}
	entries, err := os.ReadDir(dir)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return o, err
	case len(entries) > 0 && pack.KindOf(dir) != pack.OCI && !onlyState(entries):
		return o, fmt.Errorf("%s: %w: neither empty nor an OCI layout", dir, fs.ErrExist)
	}
	if err := os.MkdirAll(o.blobs(digest.Canonical), 0o777); err != nil {
		return o, err
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return o, err
	}
	return o, WriteFile(filepath.Join(dir, ocispec.ImageLayoutFile), layout)
}

// onlyState tells whether a directory has nothing but what an interrupted pull has left.
func onlyState(entries []fs.DirEntry) bool {
	for _, e := range entries {
		if e.Name() != pack.StateDir && e.Name() != ocispec.ImageBlobsDir && e.Name() != ocispec.ImageLayoutFile {
			return false
		}
	}
	return true
}

// Stage is where blobs arrive, and where what is half there waits.
func (o OCI) Stage() string { return filepath.Join(o.dir, pack.StateDir) }

func (o OCI) blobs(a digest.Algorithm) string {
	return filepath.Join(o.dir, ocispec.ImageBlobsDir, a.String())
}

// Path is where a blob is. The digest must be valid.
func (o OCI) Path(dg digest.Digest) string {
	return filepath.Join(o.blobs(dg.Algorithm()), dg.Encoded())
}

// There tells whether a blob of that size is there.
func (o OCI) There(b transfer.Blob) bool {
	info, err := os.Stat(o.Path(digest.Digest(b.Digest)))
	return err == nil && info.Mode().IsRegular() && info.Size() == b.Size
}

// Place moves blobs from the stage to their place.
func (o OCI) Place(blobs []transfer.Blob) error {
	for _, b := range blobs {
		dg := digest.Digest(b.Digest)
		if err := os.MkdirAll(o.blobs(dg.Algorithm()), 0o777); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(o.Stage(), pack.BlobName(dg)), o.Path(dg)); err != nil {
			return err
		}
	}
	return nil
}

// PutManifest adds a manifest to the blobs.
func (o OCI) PutManifest(m registry.Manifest) error {
	return WriteFile(o.Path(digest.Digest(m.Digest)), m.Data)
}

// Name gives a manifest that is among the blobs a name in the index, and takes it from any other.
func (o OCI) Name(m registry.Manifest, name string) error {
	path := filepath.Join(o.dir, ocispec.ImageIndexFile)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	data, err := pack.ReadManifest(path)
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	kept := []ocispec.Descriptor{}
	for _, d := range index.Manifests {
		taken := d.Annotations[ocispec.AnnotationRefName]
		if taken != name && (taken != "" || d.Digest.String() != m.Digest) {
			kept = append(kept, d)
		}
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.Digest(m.Digest), Size: int64(len(m.Data))}
	if name != "" {
		d.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	}
	index.Manifests = append(kept, d)
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	return WriteFile(path, data)
}

// WriteFile gives a file its content, whole or not at all, and makes the directories above it.
func WriteFile(path string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}
