package model

import (
	"context"
	"fmt"

	"github.com/modeltransfer/transfer/model/internal/unpack"
)

// PruneOptions say what [Prune] does. The zero value removes what is not needed.
type PruneOptions struct {
	// DryRun removes nothing; the result says what would be.
	DryRun bool

	// Limits bound what a model of the directory may be.
	Limits Limits

	// Waiting is as in [Options].
	Waiting func(dir string)
}

// PruneResult is what [Prune] has removed.
type PruneResult struct {
	// Removed are the files, and Bytes what the disk gets back.
	Removed []RemovedFile
	Bytes   int64

	// Kept is how many whole blobs were kept because no manifest is there yet that says which are needed.
	Kept int

	// Empty says that there is nothing at all in the directory.
	Empty bool
}

// RemovedFile is a file that was not needed.
type RemovedFile struct {
	Path string
	Size int64 // on the disk
}

// Prune removes blobs that no model of a directory needs, and what interrupted pulls have left. The directory
// is as [Pull] has made it, in any form. The error matches [ErrDamaged], and nothing is removed, where a
// manifest is missing or wrong, because it is not known then what is needed. After another error the result
// has what was removed till then.
func Prune(ctx context.Context, dir string, opts PruneOptions) (PruneResult, error) {
	var result PruneResult
	o := Options{Waiting: opts.Waiting}
	err := o.withHolding(ctx, dir, opts.Limits, !opts.DryRun, func(h *holding) error {
		return h.prune(ctx, opts.DryRun, &result)
	})
	return result, err
}

func (h *holding) prune(ctx context.Context, dry bool, r *PruneResult) error {
	if h.partly {
		return fmt.Errorf(
			"%s: %w: a manifest is missing or wrong, and so it is not known which blobs are needed",
			h.path, ErrDamaged,
		)
	}
	r.Empty = h.empty
	needed := make(map[string]bool, len(h.items))
	for _, i := range h.items {
		needed[i.blob.Digest] = true
	}
	found, err := unpack.Leftovers(h.path, h.kind, needed)
	if err != nil {
		return err
	}
	for _, u := range found {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, stays := h.whole[u.Path]; stays {
			continue
		}
		if !dry {
			if err := u.Remove(h.path); err != nil {
				return err
			}
		}
		r.Removed, r.Bytes = append(r.Removed, RemovedFile{u.Path, u.Size}), r.Bytes+u.Size
	}
	if h.unfinished {
		r.Kept = len(h.items)
	}
	return nil
}
