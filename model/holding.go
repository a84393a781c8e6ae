package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
)

// item is a file of a directory: a blob, or one that has a name.
type item struct {
	name   string
	digest string // empty of a directory or a link
	isDir  bool
	size   int64

	// blob is what repairs it, and entry the title of a named file or archive.
	blob  transfer.Blob
	entry string

	// check says what is wrong with it, or nothing.
	check func(ctx context.Context) (problem string, err error)
}

// blobItem is a blob at a path.
func blobItem(path string, b transfer.Blob) item {
	return item{
		name: b.Digest, digest: b.Digest, size: b.Size, blob: b,
		check: func(ctx context.Context) (string, error) { return checkBlob(ctx, path, b) },
	}
}

// checkBlob says what is wrong with a blob at a path, or nothing.
func checkBlob(ctx context.Context, path string, b transfer.Blob) (problem string, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "not a file", nil
	case info.Size() != b.Size:
		return fmt.Sprintf("%d bytes instead of %d", info.Size(), b.Size), nil
	}
	want := digest.Digest(b.Digest)
	got, err := pack.HashFile(ctx, path, want.Algorithm())
	if err != nil {
		return "", err
	}
	if got != want {
		return "its content does not match its digest", nil
	}
	return "", nil
}

// holding is what a directory holds that a pull has made.
type holding struct {
	path  string
	kind  pack.Kind
	items []item
	dir   *unpack.Dir // of named files
	files []unpack.Entry

	// partly says that there may be more: a manifest that lists it is damaged or missing.
	partly bool

	manifests map[string]bool // items of a layout that are manifests, by digest

	// unfinished says that the first pull was interrupted: no model is named yet, and the items are the blobs
	// that have come whole, which stay.
	unfinished bool
	whole      map[string]transfer.Blob // by their paths

	// empty says that there is nothing in it: it was made for a pull that has ended at once, or for anything.
	empty bool
}

func (h *holding) close() error {
	if h.dir == nil {
		return nil
	}
	return h.dir.Close()
}

// withHolding does something with what a directory holds. Where it changes that, no pull comes between.
func (o *Options) withHolding(
	ctx context.Context, dir string, most Limits, changes bool, do func(h *holding) error,
) error {
	if ctx == nil {
		return optionf("", "the context is nil")
	}
	if err := most.check(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return err
	case len(entries) == 0: // and stays so: a lock would be in it
		return do(&holding{path: dir, kind: pack.Plain, empty: true})
	}
	if changes {
		unlock, err := unpack.LockAll(ctx, dir, unpack.Turn{Waiting: o.waiting(dir)})
		if err != nil {
			return err
		}
		defer unlock()
	}
	h, err := holdingOf(dir, most)
	if err != nil {
		return err
	}
	return errors.Join(do(h), h.close())
}

// holdingOf finds out what a directory holds.
func holdingOf(dir string, most Limits) (*holding, error) {
	h := &holding{path: dir, kind: pack.KindOf(dir)}
	if kind, found := unpack.Unfinished(dir); found {
		h.kind, h.unfinished = kind, true
		whole, err := unpack.WholeBlobs(dir, kind)
		for _, path := range slices.Sorted(maps.Keys(whole)) {
			h.items = append(h.items, blobItem(path, whole[path]))
		}
		h.whole = whole
		return h, err
	}
	switch h.kind {
	case pack.Blobs:
		m, err := pack.ReadPart(filepath.Join(dir, pack.ManifestName))
		if err == nil {
			h.add(m.Blobs)
		}
		return h, err
	case pack.OCI, pack.Ollama:
		named, err := pack.Referenced(dir, h.kind, most.Manifests)
		h.partly, h.manifests = named.Partly, named.Manifests
		h.add(named.Blobs)
		return h, err
	}
	return h, h.addFiles()
}

// add adds blobs at their places.
func (h *holding) add(blobs []transfer.Blob) {
	for _, b := range blobs {
		h.items = append(h.items, blobItem(pack.TreePath(h.path, h.kind, digest.Digest(b.Digest)), b))
	}
}

// addFiles adds named files, as the record of their directory says.
func (h *holding) addFiles() error {
	d, err := unpack.OpenExisting(h.path)
	if err != nil {
		return err
	}
	if h.files, err = recorded(d); err != nil {
		return errors.Join(err, d.Close())
	}
	h.dir = d
	for _, e := range h.files {
		names := d.Names(e)
		slices.Sort(names)
		for _, name := range names { // none of what was left out
			seen := d.Record.Files[name]
			h.items = append(h.items, item{
				name: name, digest: seen.Digest, isDir: seen.Dir, size: seen.Size,
				blob: e.Layer.Blob(), entry: e.Title,
				check: func(ctx context.Context) (string, error) { return d.Check(ctx, name, true) },
			})
		}
	}
	return nil
}

// recorded lists the files of the model that a directory says it has.
func recorded(d *unpack.Dir) ([]unpack.Entry, error) {
	record := filepath.Join(d.Stage(), names.RecordName)
	if _, err := os.Lstat(record); d.Record.Digest == "" && err == nil {
		return nil, absentError(fmt.Sprintf(
			"%s was not made by pull, or is damaged: %s cannot be used; pull the model again",
			d.Path(), record,
		))
	}
	if d.Record.Digest == "" {
		return nil, absentError(fmt.Sprintf("%s was not made by pull: it has neither %s/record.json nor a "+
			"manifest.json, and is neither an OCI layout nor Ollama's models", d.Path(), names.StateDir))
	}
	content, err := registry.NewManifest([]byte(d.Record.Manifest), "").Content()
	if err != nil {
		return nil, err
	}
	entries, _, err := unpack.Entries(content)
	return entries, err
}

// origin is where a record says that a directory came from. Who reads it may type it into a shell, and the
// record may be anybody's: what is no reference is not told.
func (h *holding) origin() string {
	if h.dir == nil {
		return ""
	}
	if _, err := ref.Parse(h.dir.Record.Reference); err != nil {
		return ""
	}
	return h.dir.Record.Reference
}
