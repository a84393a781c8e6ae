package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/pack"
	"github.com/modeltransfer/transfer/model/unpack"
	"github.com/modeltransfer/transfer/registry"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

// dirCommand is a command that looks after one directory.
func dirCommand(
	name, short, long, example string, run func(ctx context.Context, dir string) error,
) *cobra.Command {
	return &cobra.Command{
		Use: name + " DIR", Short: short, GroupID: "keep", Long: long, Example: example, Args: operands("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args[0]) },
	}
}

// item is a file of a directory: a blob, or one that has a name.
type item struct {
	name   string
	digest string // empty of a directory or a link
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

// holding is what a directory that is verified holds.
type holding struct {
	kind  pack.Kind
	items []item
	dir   *unpack.Dir // of named files
	files []unpack.Entry

	// partly says that there may be more: a manifest that lists it is damaged or missing.
	partly bool

	// unfinished says that the first pull was interrupted: no model is named yet, and the items are the blobs that
	// have come whole.
	unfinished bool
}

func (h *holding) close() error {
	if h.dir == nil {
		return nil
	}
	return h.dir.Close()
}

// withHolding does something with what a directory holds. Where it changes that, no pull comes between.
func (a *app) withHolding(
	ctx context.Context, dir string, most limits, changes bool, do func(h *holding) error,
) error {
	if err := most.check(); err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if changes {
		unlock, err := a.lock(ctx, dir, "")
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

// lock keeps a directory for this command, and says so where it has to wait.
func (a *app) lock(ctx context.Context, dir, what string) (unlock func(), err error) {
	return unpack.Lock(ctx, dir, what, func() { a.note("waiting for another command that writes to %s", dir) })
}

// holdingOf finds out what a directory holds.
func holdingOf(dir string, most limits) (*holding, error) {
	if kind, found := unpack.Unfinished(dir); found {
		return unfinishedHolding(dir, kind)
	}
	switch kind := pack.KindOf(dir); kind {
	case pack.Blobs:
		return blobHolding(dir)
	case pack.OCI, pack.Ollama:
		blobs, whole, err := pack.Referenced(dir, kind, most.manifests)
		h := &holding{kind: kind, partly: !whole}
		for _, b := range blobs {
			h.items = append(h.items, blobItem(pack.TreePath(dir, kind, digest.Digest(b.Digest)), b))
		}
		return h, err
	}
	return fileHolding(dir)
}

func unfinishedHolding(dir string, kind pack.Kind) (*holding, error) {
	h := &holding{kind: kind, unfinished: true}
	blobs, err := unpack.WholeBlobs(dir, kind)
	for _, b := range blobs {
		h.items = append(h.items, blobItem(pack.TreePath(dir, kind, digest.Digest(b.Digest)), b))
	}
	return h, err
}

func blobHolding(dir string) (*holding, error) {
	src, err := blobSource(dir)
	if err != nil {
		return nil, err
	}
	h := &holding{kind: pack.Blobs}
	for _, b := range src.parts[0].Blobs {
		h.items = append(h.items, blobItem(filepath.Join(dir, pack.BlobName(digest.Digest(b.Digest))), b))
	}
	return h, nil
}

// fileHolding is a directory of named files, as its record says.
func fileHolding(dir string) (*holding, error) {
	d, err := unpack.OpenExisting(dir)
	if err != nil {
		return nil, err
	}
	h := &holding{kind: pack.Plain, dir: d}
	if d.Record.Digest == "" {
		return nil, errors.Join(
			fmt.Errorf("%s was not made by pull: it has neither %s/record.json nor a manifest.json, "+
				"and is neither an OCI layout nor Ollama's models: %w", dir, pack.StateDir, fs.ErrNotExist),
			h.close(),
		)
	}
	content, err := registry.NewManifest([]byte(d.Record.Manifest), "").Content()
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	entries, _, err := unpack.Entries(content)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	for _, e := range entries {
		names := d.Names(e)
		slices.Sort(names)
		for _, name := range names { // none of what was left out
			seen := d.Record.Files[name]
			h.items = append(h.items, item{
				name: name, digest: seen.Digest, size: seen.Size, blob: e.Layer.Blob(), entry: e.Title,
				check: func(ctx context.Context) (string, error) { return d.Check(ctx, name) },
			})
		}
	}
	h.files = entries
	return h, nil
}
