package registry

import (
	"context"
	"fmt"

	"github.com/modeltransfer/transfer"
)

// Pull fetches the manifest under a tag or a digest, and its blobs into dir, each as "sha256-<hex>". Of
// an index that has one manifest only, it is that one. Progress is told how many of the total bytes are
// in place, as in [transfer.DownloadOptions]; it may be nil.
//
// It is short for [Repository.Manifest], [Repository.Platform], [Manifest.Blobs] and
// [transfer.Download] with [Repository.DownloadOptions], whose errors it returns. Use these where a
// platform is to be picked or another option is to be set.
func (r *Repository) Pull(
	ctx context.Context, ref, dir string, progress func(completed, total int64),
) (Manifest, error) {
	if dir == "" {
		return Manifest{}, fmt.Errorf("%w: no directory to pull into", transfer.ErrInvalidOption)
	}
	m, err := r.Manifest(ctx, ref)
	if err != nil {
		return Manifest{}, err
	}
	if m, err = r.Platform(ctx, m, ""); err != nil {
		return Manifest{}, err
	}
	opts := r.DownloadOptions()
	opts.DestDir, opts.Progress = dir, progress
	if opts.Blobs, err = m.Blobs(); err != nil {
		return Manifest{}, err
	}
	if err := transfer.Download(ctx, opts); err != nil {
		return Manifest{}, err
	}
	return m, nil
}
