package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

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
	chosen, err := unpack.Filter(entries, p.Include, p.Exclude)
	if err != nil {
		return err
	}
	if len(chosen) == 0 && len(entries) > 0 {
		return fmt.Errorf("%s: %w; there are %s", p.ref, ErrNoMatch, titles(entries))
	}
	p.result.Unnamed, p.result.Files = unnamed, filesOf(chosen)
	if p.DryRun {
		return p.planFiles(ctx, entries, chosen)
	}
	unlock, err := p.lock(ctx, "")
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := unpack.Open(p.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = p.updateFiles(ctx, dir, m, entries, chosen)
	if err == nil || dir.Update.Begun {
		p.result.Changes = dir.Update.Changes
	}
	return err
}

// updateFiles makes the files of a directory those that were chosen.
func (p *puller) updateFiles(
	ctx context.Context, dir *unpack.Dir, m registry.Manifest, all, chosen []unpack.Entry,
) error {
	dir.Limits = p.Limits.unpacking()
	dir.Update = unpack.Update{Keep: p.Keep, Delete: p.Delete}
	if err := p.fetchFiles(ctx, dir, all, chosen); err != nil {
		return err
	}
	if err := dir.Clear(ctx, all); err != nil {
		return err
	}
	// All of the model's files, because other patterns may have chosen others before.
	dir.Remember(p.ref.String(), m, all)
	return dir.Save()
}

// fetchFiles fetches the entries that are not in the directory yet.
func (p *puller) fetchFiles(ctx context.Context, dir *unpack.Dir, all, entries []unpack.Entry) error {
	if err := dir.Prepare(ctx, all, entries); err != nil {
		return named(p.ref, err)
	}
	missing, err := dir.Missing(ctx, entries, p.Verify)
	if err != nil {
		return err
	}
	dir.Reuse(ctx, all, missing)
	p.reusable = append(p.reusable, dir.Earlier(leastReuse)...)
	p.result.planEntries(entries, missing)
	blobs, _ := unpack.Blobs(missing)
	if err := p.stage(ctx, blobs, dir.Stage(), p.result.There); err != nil {
		return err
	}
	return dir.Place(ctx, all, missing)
}

// planEntries fills in which files are to be fetched.
func (r *Result) planEntries(entries, missing []unpack.Entry) {
	_, total := unpack.Blobs(entries)
	_, size := unpack.Blobs(missing)
	r.Missing, r.Bytes, r.There = filesOf(missing), total, max(total-size, 0)
}

// planFiles finds out what a pull of named files would do.
func (p *puller) planFiles(ctx context.Context, all, chosen []unpack.Entry) error {
	p.result.planEntries(chosen, chosen)
	dir, err := unpack.OpenExisting(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	dir.Limits = p.Limits.unpacking()
	dir.Update = unpack.Update{Keep: p.Keep, Delete: p.Delete, DryRun: true}
	if err := dir.Prepare(ctx, all, chosen); err != nil {
		return named(p.ref, err)
	}
	lacking, err := dir.Missing(ctx, chosen, p.Verify)
	if err != nil {
		return err
	}
	dir.Reuse(ctx, all, lacking)
	if err := dir.Clear(ctx, all); err != nil {
		return err
	}
	var missing []unpack.Entry
	for _, e := range lacking {
		if !dir.Reused(e) {
			missing = append(missing, e)
		}
	}
	p.result.planEntries(chosen, missing)
	p.result.Changes = dir.Update.Changes
	return nil
}

func filesOf(entries []unpack.Entry) []File {
	files := make([]File, len(entries))
	for i, e := range entries {
		files[i] = File{Name: e.Title, Digest: e.Layer.Digest, Size: e.Layer.Size, Mode: e.Mode}
	}
	return files
}

// titles lists the first of many names.
func titles(entries []unpack.Entry) string {
	const most = 10
	var names []string
	for _, e := range entries[:min(len(entries), most)] {
		names = append(names, e.Title)
	}
	if len(entries) > most {
		names = append(names, "...")
	}
	return strings.Join(names, ", ")
}
