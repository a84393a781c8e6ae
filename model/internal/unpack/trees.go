package unpack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/rootfile"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// OCI is an OCI image layout.
type OCI struct {
	dir                string
	root, stage, blobs *os.Root
	algorithms         map[digest.Algorithm]*os.Root
}

// OpenOCI opens a layout and makes it where it is missing. A directory that holds something else is refused.
// It must be closed.
func OpenOCI(dir string) (*OCI, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case len(entries) > 0 && pack.KindOf(dir) != pack.OCI && !onlyState(entries):
		return nil, fmt.Errorf("%s: %w: neither empty nor an OCI layout", dir, fs.ErrExist)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	o := &OCI{dir: dir, algorithms: map[digest.Algorithm]*os.Root{}}
	if o.root, err = rootfile.OpenDir(dir); err != nil {
		return nil, err
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err == nil {
		o.blobs, err = openDir(o.root, ocispec.ImageBlobsDir)
	}
	if err == nil {
		o.stage, err = openDir(o.root, names.StateDir)
	}
	if err == nil {
		_, err = o.algorithm(digest.Canonical)
	}
	if err == nil {
		err = writeFile(o.root, ocispec.ImageLayoutFile, layout)
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Close closes the layout.
func (o *OCI) Close() error {
	var failed error
	for _, root := range append(slices.Collect(maps.Values(o.algorithms)), o.root, o.stage, o.blobs) {
		if root != nil {
			failed = errors.Join(failed, root.Close())
		}
	}
	return failed
}

// algorithm opens the directory of the blobs of an algorithm.
func (o *OCI) algorithm(a digest.Algorithm) (*os.Root, error) {
	if root := o.algorithms[a]; root != nil {
		return root, nil
	}
	root, err := openDir(o.blobs, a.String())
	if err == nil {
		o.algorithms[a] = root
	}
	return root, err
}

// onlyState tells whether a directory has nothing but what an interrupted pull has left.
func onlyState(entries []fs.DirEntry) bool {
	for _, e := range entries {
		switch e.Name() {
		case names.StateDir, ocispec.ImageBlobsDir, ocispec.ImageLayoutFile:
		default:
			return false
		}
	}
	return true
}

// Stage is where blobs arrive, and where what is half there waits.
func (o *OCI) Stage() string { return filepath.Join(o.dir, names.StateDir) }

// There tells whether a blob of that size is there.
func (o *OCI) There(b transfer.Blob) (bool, error) {
	dg := digest.Digest(b.Digest)
	root, err := o.algorithm(dg.Algorithm())
	if err != nil {
		return false, err
	}
	info, err := root.Lstat(dg.Encoded())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular() && info.Size() == b.Size, err
}

// Place moves blobs from the stage to their place, unless a pull has that did not wait for this one.
func (o *OCI) Place(ctx context.Context, blobs []transfer.Blob) error {
	for _, b := range blobs {
		dg := digest.Digest(b.Digest)
		to, err := o.algorithm(dg.Algorithm())
		if err != nil {
			return err
		}
		err = o.place(ctx, pack.BlobName(dg), to, dg)
		if errors.Is(err, fs.ErrNotExist) {
			if there, _ := o.There(b); there {
				continue
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// place moves one blob: within the directory itself where no link is on the way.
func (o *OCI) place(ctx context.Context, name string, to *os.Root, dg digest.Digest) error {
	from, target := o.stage, dg.Encoded()
	dir := path.Join(ocispec.ImageBlobsDir, dg.Algorithm().String())
	direct := realDir(o.root, names.StateDir) == nil && realDir(o.root, ocispec.ImageBlobsDir) == nil &&
		realDir(o.root, dir) == nil
	if direct {
		from, name = o.root, path.Join(names.StateDir, name)
		to, target = o.root, path.Join(dir, target)
	}
	return move(ctx, from, name, to, target)
}

// Done removes the stage.
func (o *OCI) Done() error {
	if realDir(o.root, names.StateDir) == nil {
		return o.root.RemoveAll(names.StateDir)
	}
	return nil // it is the user's own link
}

// PutManifest adds a manifest to the blobs.
func (o *OCI) PutManifest(m registry.Manifest) error {
	dg := digest.Digest(m.Digest)
	root, err := o.algorithm(dg.Algorithm())
	if err != nil {
		return err
	}
	return writeFile(root, dg.Encoded(), m.Data)
}

// Name gives a manifest that is among the blobs a name in the index, and takes it from any other.
func (o *OCI) Name(m registry.Manifest, name string) error {
	file := filepath.Join(o.dir, ocispec.ImageIndexFile)
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	data, err := pack.ReadManifest(file)
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", file, err)
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
	return writeFile(o.root, ocispec.ImageIndexFile, data)
}

// OllamaStage makes Ollama's models directory where it is missing, and returns where its blobs arrive, and
// stay.
func OllamaStage(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	return filepath.Join(dir, ocispec.ImageBlobsDir), inPlace(dir, nil, func(root *os.Root) error {
		blobs, err := openDir(root, ocispec.ImageBlobsDir)
		if err != nil {
			return err
		}
		return blobs.Close()
	})
}

// PutOllama names a model of Ollama's models directory whose blobs are there: by its host, its repository and
// its tag.
func PutOllama(dir, host, repository, tag string, data []byte) error {
	return inPlace(dir, nil, func(root *os.Root) error {
		manifests, err := openDir(root, "manifests")
		if err != nil {
			return err
		}
		defer manifests.Close()
		above := path.Join(host, repository)
		if err := makeDirs(manifests, above); err != nil {
			return err
		}
		return writeFile(manifests, path.Join(above, tag), data)
	})
}
