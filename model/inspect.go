package model

import (
	"context"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/ref"
	"github.com/modeltransfer/transfer/registry"
)

// InspectOptions say what [Inspect] looks at. The zero value takes what the reference names, an index too.
type InspectOptions struct {
	Options

	// Platform is the one whose manifest of an index is meant.
	Platform string
}

// Description is what a registry says of a model.
type Description struct {
	Reference ref.Reference

	// Index says that the reference names an index, and Platform what was chosen of it, if that was asked
	// for.
	Index    bool
	Platform string

	// Manifest is byte for byte what the registry has, and Content what it says.
	Manifest registry.Manifest
	Content  registry.Content

	// Files are the layers with their names. That of the config is not among them.
	Files []File

	// Bytes are those of all blobs, each counted once; Sum counts those of the same content each time.
	Bytes, Sum int64
}

// Inspect tells what the model of a reference consists of. It fetches nothing but manifests. The error is one
// of package registry, or a [*PlatformError].
func Inspect(ctx context.Context, reference string, opts InspectOptions) (Description, error) {
	r, err := parse(ctx, reference)
	if err != nil {
		return Description{}, err
	}
	repo, err := Open(r, opts.Options)
	if err != nil {
		return Description{}, err
	}
	defer repo.CloseIdleConnections()
	d := Description{Reference: r}
	d.Manifest, err = repo.Manifest(ctx, r.Version())
	d.Index = d.Manifest.IsIndex()
	if err == nil && opts.Platform != "" {
		d.Manifest, d.Platform, err = choosePlatform(ctx, repo, d.Manifest, opts.Platform)
	}
	if err == nil {
		d.Content, err = d.Manifest.Content()
	}
	if err != nil {
		return d, named(r, err)
	}
	var blobs []transfer.Blob
	if d.Content.Config != nil {
		blobs = append(blobs, d.Content.Config.Blob())
	}
	for _, l := range d.Content.Layers {
		blobs = append(blobs, l.Blob())
		d.Files = append(d.Files, File{
			Name: pack.TitleOf(l), Digest: l.Digest, Size: l.Size, Mode: pack.ModeOf(l),
		})
	}
	d.Bytes, d.Sum = pack.Size(pack.Distinct(blobs)), pack.Size(blobs)
	return d, nil
}
