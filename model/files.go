package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/modeltransfer/transfer/model/internal/pack"
	"github.com/modeltransfer/transfer/model/internal/unpack"
	"github.com/modeltransfer/transfer/registry"
)

// isSized tells whether a path has a file of a size.
func isSized(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// files pulls named files.
func (p *puller) files(ctx context.Context, m registry.Manifest, content registry.Content) error {
	entries, unnamed, err := unpack.Entries(content)
	if err != nil {
		return named(p.ref, err)
	}
	if len(entries) == 0 && unnamed > 0 {
		return fmt.Errorf("%s: none of its %s %w", p.ref, plural(unnamed, "layer"), ErrUnnamed)
	}
	chosen := unpack.Filter(entries, p.Include, p.Exclude)
	if len(chosen) == 0 && len(entries) > 0 {
		return fmt.Errorf("%s: %w; there are %s", p.ref, ErrNoMatch, titles(entries))
	}
	p.result.Unnamed, p.result.Files = unnamed, filesOf(chosen)
	files := filesPull{puller: p, all: entries, chosen: chosen}
	if p.DryRun {
		return files.plan(ctx)
	}
	unlock, err := unpack.Lock(ctx, p.dir, "", p.turn())
	if err != nil {
		return err
	}
	defer unlock()
	if files.into, err = unpack.Open(p.dir); err != nil {
		return err
	}
	defer files.into.Close()
	err = files.update(ctx, m)
	if into := files.into; err == nil || into.Update.Begun {
		p.result.Changes = into.Update.Changes
	}
	return err
}

// filesPull is a pull of named files.
type filesPull struct {
	*puller
	into        *unpack.Dir
	all, chosen []unpack.Entry
}

// update makes the files of the directory those that were chosen.
func (p *filesPull) update(ctx context.Context, m registry.Manifest) error {
	missing, err := p.lacking(ctx)
	if err != nil {
		return err
	}
	p.reusable = append(p.reusable, p.into.Earlier(leastReuse)...)
	p.result.planEntries(p.chosen, missing)
	if err := p.stage(ctx, unpack.Blobs(missing), p.into.Stage(), p.result.There); err != nil {
		return err
	}
	if err := p.into.Place(ctx, p.all, missing); err != nil {
		return err
	}
	if err := p.into.Clear(ctx, p.all); err != nil {
		return err
	}
	// All of the model's files, because other patterns may have chosen others before.
	p.into.Record.Remember(p.ref.String(), m, p.all)
	return p.into.Save()
}

// lacking finds out which of the chosen entries are not in their places.
func (p *filesPull) lacking(ctx context.Context) (missing []unpack.Entry, err error) {
	p.into.Limits = p.Limits.unpacking()
	p.into.Update = unpack.Update{Keep: p.Keep, Delete: p.Delete, DryRun: p.DryRun}
	if err := p.into.Prepare(ctx, p.all, p.chosen); err != nil {
		return nil, named(p.ref, err)
	}
	if missing, err = p.into.Missing(ctx, p.chosen, p.Verify); err == nil {
		p.into.Reuse(ctx, p.all, missing)
	}
	return missing, err
}

// planEntries fills in which files are to be fetched.
func (r *Result) planEntries(entries, missing []unpack.Entry) {
	total := pack.Size(unpack.Blobs(entries))
	r.Missing, r.Bytes = filesOf(missing), total
	r.There = max(total-pack.Size(unpack.Blobs(missing)), 0)
}

// plan finds out what a pull would do.
func (p *filesPull) plan(ctx context.Context) (err error) {
	p.result.planEntries(p.chosen, p.chosen)
	p.into, err = unpack.OpenExisting(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.into.Close()
	missing, err := p.lacking(ctx)
	if err != nil {
		return err
	}
	if err := p.into.Clear(ctx, p.all); err != nil {
		return err
	}
	p.result.planEntries(p.chosen, slices.DeleteFunc(missing, p.into.Reused))
	p.result.Changes = p.into.Update.Changes
	return nil
}

func filesOf(entries []unpack.Entry) []File {
	files := make([]File, len(entries))
	for i, e := range entries {
		files[i] = File{
			Name: e.Title, Digest: e.Layer.Digest, Size: e.Layer.Size, Mode: e.Mode, Archive: e.Archive,
		}
	}
	return files
}

// titles lists the first of many names.
func titles(entries []unpack.Entry) string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Title
	}
	return pack.ListOf(names)
}
